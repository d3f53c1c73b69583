"""Attention of many short spans of tokens at once: those of like length padded together, one product for each bunch.

A span sees itself causally and, before that, the prompt it shares with others. One product over all tokens, hidden from
each other, would grow with their square; one a span costs the processor more in calls than in arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONG_SEGMENT = 1024  # keys from which a span is left alone: its scores are not held whole
MAX_PADDING = 2  # at most so many times the scores that are needed, of rounded sizes
MAX_SCORES = 2**18  # most scores of a bunch, per head
SIZE_MULTIPLE = 16  # sizes are multiples of it: for each other shape the processor's library makes and keeps code
MAX_SAVED_KEYS = 512  # keys up to which shares are kept for the gradient


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens `start` to `end` that see themselves causally, and before themselves tokens `first` to `last`."""

    start: int
    end: int
    first: int = 0
    last: int = 0

    @property
    def queries(self) -> int:
        """How many tokens it has."""
        return self.end - self.start

    @property
    def keys(self) -> int:
        """How many its last token sees, itself included."""
        return self.queries + self.last - self.first


@dataclass(frozen=True, slots=True)
class SegmentBucket:
    """Spans padded to the same length on the right.

    Attributes:
        queries: `[spans, q]`, the places of their tokens; one past the last token where padded.
        keys: `[spans, k]`, the places of what they see; 0 where padded.
        mask: `[spans, 1, 1, q, k]`, bfloat16, minus infinity where a token does not see another, else 0.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class SegmentBuckets:
    """All spans of a layout.

    Attributes:
        bunches: most of them.
        alone: those too long for a bunch.
    """

    buckets: tuple[SegmentBucket, ...]
    long: tuple[Segment, ...]


def bucket_segments(spans: Sequence[Segment], tokens: int, device: torch.device) -> SegmentBuckets:
    """For a sequence of `tokens`, of which every one that matters is in one of `spans`."""
    short = sorted((s for s in spans if s.keys <= LONG_SEGMENT), key=lambda s: (s.keys, s.queries))
    alone = tuple(s for s in spans if s.keys > LONG_SEGMENT)
    return SegmentBuckets(tuple(_make_bucket(some, tokens, device) for some in _similar_lengths(short)), alone)


def round_up(size: int) -> int:
    """The next multiple of `ROUND`."""
    return -(-size // SIZE_MULTIPLE) * SIZE_MULTIPLE


def _similar_lengths(spans: list[Segment]) -> Iterator[list[Segment]]:
    """Those of like length together; takes from the end of `spans`, which ascend."""
    while spans:
        some = [spans.pop()]
        widest, keys = round_up(some[0].queries), round_up(some[0].keys)
        needed = widest * keys
        while spans:
            last = spans[-1]
            own = round_up(last.queries)
            queries, need = max(widest, own), needed + own * round_up(last.keys)
            if (len(some) + 1) * queries * keys > min(MAX_SCORES, MAX_PADDING * need):
                break
            widest, needed = queries, need
            some.append(spans.pop())
        yield some


def _make_bucket(spans: Sequence[Segment], tokens: int, device: torch.device) -> SegmentBucket:
    queries, keys = (round_up(max(sizes)) for sizes in zip(*((s.queries, s.keys) for s in spans), strict=True))
    rows = [[*range(s.start, s.end), *[tokens] * (queries - s.queries)] for s in spans]
    seen = [[*range(s.first, s.last), *range(s.start, s.end), *[0] * (keys - s.keys)] for s in spans]
    # The i-th token of a span sees what comes before the span and the first i + 1 of its own.
    first = torch.tensor([s.keys - s.queries for s in spans], device=device)[:, None, None]
    place = torch.arange(queries, device=device)[:, None]
    real = torch.tensor([s.queries for s in spans], device=device)[:, None, None]
    most = torch.where(place < real, first + place, 0)  # padding sees one key: no row may be all hidden
    hidden = (torch.arange(keys, device=device) > most)[:, None, None]
    mask = torch.zeros(hidden.shape, dtype=torch.bfloat16, device=device).masked_fill_(hidden, -torch.inf)
    return SegmentBucket(torch.tensor(rows, device=device), torch.tensor(seen, device=device), mask)


def bucketed_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, buckets: Sequence[SegmentBucket]) -> Tensor:
    """What the tokens of all bunches see, `[tokens, heads, head_dim]`; zeros for others.

    Args:
        q: `[tokens, heads, head_dim]`.
        k: `[tokens, kv_heads, head_dim]`, `kv_heads` dividing `heads`.
        v: as `k`.
    """
    return _Attention.apply(q, k, v, scale, buckets)  # pyright: ignore[reportReturnType]


class _Attention(torch.autograd.Function):
    """By plain products; of spans that see many keys, shares are computed again for the gradient, not kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, bunches: Sequence[SegmentBucket]) -> Tensor:
        found, kept = q.new_zeros((len(q) + 1, q.shape[1], v.shape[-1])), []
        for bunch in bunches:
            shares = _attention_weights(_rows(q, k, bunch), _gather_keys(k, bunch), scale, bunch)
            found.index_copy_(0, bunch.queries.flatten(), _flat(shares @ _gather_keys(v, bunch), q.shape[1], bunch))
            kept.append(shares if bunch.keys.shape[1] <= MAX_SAVED_KEYS else None)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.scale, ctx.bunches = scale, bunches
        return found[:-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        of_found = F.pad(gradients[0], (0, 0, 0, 0, 0, 1))  # nothing follows from what padding sees
        d_q, d_k, d_v = q.new_zeros((len(q) + 1, *q.shape[1:])), torch.zeros_like(k), torch.zeros_like(v)
        for bunch, shares in zip(ctx.bunches, kept, strict=True):
            rows, keys, of_out = _rows(q, k, bunch), _gather_keys(k, bunch), _rows(of_found, k, bunch)
            shares = _attention_weights(rows, keys, ctx.scale, bunch) if shares is None else shares
            d = of_out @ _gather_keys(v, bunch).transpose(-1, -2)
            d = torch.ops.aten._softmax_backward_data(d, shares, -1, d.dtype)
            d_q.index_copy_(0, bunch.queries.flatten(), _flat((d @ keys).mul_(ctx.scale), q.shape[1], bunch))
            _scatter_keys(d_k, (d.transpose(-1, -2) @ rows).mul_(ctx.scale), bunch)
            _scatter_keys(d_v, shares.transpose(-1, -2) @ of_out, bunch)
        return d_q[:-1], d_k, d_v, None, None


def _rows(x: Tensor, k: Tensor, bunch: SegmentBucket) -> Tensor:
    """`[spans, kv_heads, group * q, head_dim]`: heads that share a key are rows of one product with it."""
    spans, queries = bunch.queries.shape
    some = x.index_select(0, bunch.queries.flatten().clamp(max=len(x) - 1))  # any row will do for padding
    apart = some.view(spans, queries, k.shape[1], -1, x.shape[-1])
    return apart.permute(0, 2, 3, 1, 4).reshape(spans, k.shape[1], -1, x.shape[-1])


def _flat(x: Tensor, heads: int, bunch: SegmentBucket) -> Tensor:
    """`[spans * q, heads, head_dim]` from `[spans, kv_heads, group * q, head_dim]`."""
    spans, queries = bunch.queries.shape
    apart = x.view(spans, x.shape[1], -1, queries, x.shape[-1]).permute(0, 3, 1, 2, 4)
    return apart.reshape(spans * queries, heads, x.shape[-1])


def _gather_keys(x: Tensor, bunch: SegmentBucket) -> Tensor:
    """`[spans, kv_heads, k, head_dim]`."""
    return x.index_select(0, bunch.keys.flatten()).view(*bunch.keys.shape, *x.shape[1:]).transpose(1, 2)


def _scatter_keys(whole: Tensor, gradient: Tensor, bunch: SegmentBucket) -> None:
    """Add the gradient of `_seen(x)` to that of x: a prompt's is the sum over all that see it; of padding it is 0."""
    whole.index_add_(0, bunch.keys.flatten(), gradient.transpose(1, 2).flatten(0, 1))


def _attention_weights(rows: Tensor, keys: Tensor, scale: float, bunch: SegmentBucket) -> Tensor:
    """`[spans, kv_heads, group * q, k]`: softmax of the scores, whose sums torch takes at least in float32."""
    scores = (rows * scale) @ keys.transpose(-1, -2)
    spans, _, _, queries, seen = bunch.mask.shape
    scores.view(spans, scores.shape[1], -1, queries, seen).add_(bunch.mask.to(scores.dtype))
    return scores.softmax(-1)
