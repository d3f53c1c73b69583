"""Attention in buckets: who sees whom, by brute force, and gradients by finite differences."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.learn.kernels import segments
from selftaught.learn.kernels.segments import Segment, bucket_segments, bucketed_attention

CPU = torch.device("cpu")

# Prompts with what goes on from them: (tokens of the prompt, tokens of each target); no targets is a row of its own.
LAYOUTS = st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 12), max_size=3)), min_size=1, max_size=6)


def spans_of(layout):
    """The spans of a layout, and its number of tokens."""
    spans, at = [], 0
    for prompt, targets in layout:
        first, last = at, at + prompt
        spans.append(Segment(first, last))
        at = last
        for target in targets:
            spans.append(Segment(at, at + target, first, last))
            at += target
    return spans, at


def visible(spans, tokens):
    """`[tokens, tokens]`, by the definition of a span."""
    seen = torch.zeros(tokens, tokens, dtype=torch.bool)
    for span in spans:
        for place in range(span.start, span.end):
            seen[place, span.first : span.last] = True
            seen[place, span.start : place + 1] = True
    return seen


def attention(q, k, v, seen):
    """As the formula has it, `[tokens, heads, head_dim]`."""
    group = q.shape[1] // k.shape[1]
    k, v = (x.repeat_interleave(group, 1) for x in (k, v))
    scores = torch.einsum("qhd,khd->hqk", q, k) * 0.5
    return torch.einsum("hqk,khd->qhd", scores.masked_fill(~seen, -torch.inf).softmax(-1), v)


def draw(tokens):
    torch.manual_seed(tokens)
    return [torch.randn(tokens, heads, 4, dtype=torch.float64, requires_grad=True) for heads in (4, 2, 2)]


@settings(max_examples=60, deadline=None)
@given(LAYOUTS, st.sampled_from([0, 5, 512]))
def test_values_and_gradients_are_those_of_the_formula(layout, kept):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(segments, "MAX_SAVED_KEYS", kept)
        check_against_the_formula(layout)


def check_against_the_formula(layout):
    spans, tokens = spans_of(layout)
    made = bucket_segments(spans, tokens, CPU)
    assert not made.long
    q, k, v = draw(tokens)
    weights = torch.randn(tokens, 4, 4, dtype=torch.float64)
    ours = bucketed_attention(q, k, v, 0.5, made.buckets)
    theirs = attention(q, k, v, visible(spans, tokens))
    assert torch.allclose(ours, theirs, atol=1e-12)
    gradients = [torch.autograd.grad((x * weights).sum(), (q, k, v)) for x in (ours, theirs)]
    assert all(torch.allclose(a, b, atol=1e-12) for a, b in zip(*gradients, strict=True))


def test_values_may_be_of_another_width_than_keys():
    spans, tokens = spans_of([(2, [3, 1]), (4, [])])
    q, k, _ = draw(tokens)
    v = torch.randn(tokens, 2, 3, dtype=torch.float64)
    ours = bucketed_attention(q, k, v, 0.5, bucket_segments(spans, tokens, CPU).buckets)
    assert torch.allclose(ours, attention(q, k, v, visible(spans, tokens)), atol=1e-12)


def test_gradients_are_those_of_finite_differences():
    spans, tokens = spans_of([(2, [1, 3]), (3, [])])
    buckets = bucket_segments(spans, tokens, CPU).buckets
    assert any(len(bucket.queries) > 1 for bucket in buckets)
    assert torch.autograd.gradcheck(lambda q, k, v: bucketed_attention(q, k, v, 0.5, buckets), draw(tokens))


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(1, 400), min_size=1, max_size=40))
def test_little_is_padded_and_no_bunch_is_large(lengths):
    spans, tokens = spans_of([(length, []) for length in lengths])
    made = bucket_segments(spans, tokens, CPU)
    scores = [bucket.mask.numel() for bucket in made.buckets]
    assert all(size % segments.SIZE_MULTIPLE == 0 for bucket in made.buckets for size in bucket.mask.shape[-2:])
    assert sum(scores) <= segments.MAX_PADDING * sum(segments.round_up(length) ** 2 for length in lengths)
    assert all(n <= segments.MAX_SCORES or len(b.queries) == 1 for n, b in zip(scores, made.buckets, strict=True))


def test_spans_of_one_length_are_one_bunch_and_long_ones_are_left_alone():
    spans, tokens = spans_of([(30, [])] * 8 + [(segments.LONG_SEGMENT + 1, [])])
    made = bucket_segments(spans, tokens, CPU)
    assert [len(bucket.queries) for bucket in made.buckets] == [8]
    assert made.long == (spans[-1],)
    places = [place for bucket in made.buckets for place in bucket.queries.flatten().tolist() if place < tokens]
    assert sorted(places) + list(range(spans[-1].start, spans[-1].end)) == list(range(tokens))


def test_in_bfloat16_shares_are_taken_in_float32():
    spans, tokens = spans_of([(6, [5, 5]), (7, [])])
    made = bucket_segments(spans, tokens, CPU)
    q, k, v = (x.detach().bfloat16() for x in draw(tokens))
    ours = bucketed_attention(q, k, v, 0.5, made.buckets)
    true = attention(*(x.double() for x in (q, k, v)), visible(spans, tokens))
    assert ours.dtype == torch.bfloat16
    assert float((ours.double() - true).abs().max()) == pytest.approx(0, abs=0.03)
