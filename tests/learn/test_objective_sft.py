"""What bears the loss, against transformers' own loss row by row."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from learn_models import demo, demos, make_model, make_tokenizer, step_gradients

from selftaught.learn import Row, TrainConfig, sft
from selftaught.learn.forward import forward_batch, target_logprobs
from selftaught.learn.kernels.packing import packed_tokens
from selftaught.learn.microbatches import _packed, _padded
from selftaught.models import ChatTokenizer

ROWS = [
    Row((0, 5, 6, 7), (8, 9, 1)),
    Row((0, 11), (12, 1)),
    Row(tuple(range(3, 20)), (4, 1)),
    Row((7,), (*range(3, 25), 1)),
    Row((1, 1, 0), (1,)),  # the end of sequence within the prompt, and as the whole target
]

ALONE = [(row,) for row in ROWS]


def plain_loss(model, row: Row) -> torch.Tensor:
    """The summed loss of one row as transformers computes it, without padding or batch."""
    ids = torch.tensor([row.prompt + row.completion])
    labels = ids.clone()
    labels[:, : len(row.prompt)] = -100
    return model(input_ids=ids, labels=labels).loss * len(row.completion)


def gradients(model) -> dict[str, torch.Tensor]:
    found = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    return found


@pytest.mark.parametrize("kind", ["llama", "gpt2", "gpt_neox"])
def test_the_loss_and_its_gradient_are_those_of_transformers(kind):
    model = make_model(kind).eval()
    batch = forward_batch(model, ROWS)
    ours = sft().loss(batch)
    ours.backward()
    got = gradients(model)
    theirs = torch.stack([plain_loss(model, row) for row in ROWS])
    theirs.sum().backward()
    wanted = gradients(model)
    assert torch.allclose(-batch.sequence_logprobs, theirs, atol=1e-5)
    assert math.isclose(ours.item(), theirs.sum().item(), rel_tol=1e-5)
    assert got.keys() == wanted.keys()
    assert all(torch.allclose(got[n], wanted[n], atol=1e-5) for n in wanted)


def test_weights_scale_each_rows_loss():
    model = make_model().eval()
    weights = torch.tensor([2.0, 0.0, 1.0, -0.5, 3.0])
    weighted = [replace(row, weight=weight.item()) for row, weight in zip(ROWS, weights, strict=True)]
    theirs = torch.stack([plain_loss(model, row) for row in ROWS])
    assert torch.allclose(sft().loss(forward_batch(model, weighted)), (theirs * weights).sum(), atol=1e-4)


def test_each_target_token_has_its_logprob_and_padding_is_zero():
    model = make_model().eval()
    logprobs, mask = target_logprobs(model, ROWS)
    wide = max(len(row.completion) for row in ROWS)
    assert logprobs.shape == mask.shape == (len(ROWS), wide)
    for row, found, real in zip(ROWS, logprobs, mask, strict=True):
        logits = model(input_ids=torch.tensor([row.prompt + row.completion])).logits[0].log_softmax(-1)
        wanted = [float(logits[len(row.prompt) + t - 1, token]) for t, token in enumerate(row.completion)]
        assert found[: len(row.completion)].tolist() == pytest.approx(wanted, abs=1e-5)
        assert real.tolist() == [1.0] * len(row.completion) + [0.0] * (wide - len(row.completion))
        assert not found[len(row.completion) :].any()


@pytest.mark.parametrize("most", [1, 20, 60, 10_000])
@pytest.mark.parametrize("sizes", [(1, 1, 1, 1, 1), (2, 3), (1, 2, 2), (5,)])
def test_parts_hold_whole_groups_once_and_at_most_so_many_padded_tokens(most, sizes):
    rest = iter(ROWS)
    groups = [tuple(next(rest) for _ in range(size)) for size in sizes]
    parts = _padded(groups, most)
    assert sorted(map(repr, groups)) == sorted(repr(group) for part in parts for group in part)
    for part in parts:
        rows = [row for group in part for row in group]
        padded = len(rows) * max(len(row.prompt) + len(row.completion) for row in rows)
        assert padded <= most or len(part) == 1


@pytest.mark.parametrize("most", [1, 20, 60, 10_000])
def test_packed_parts_hold_each_group_once_and_count_a_shared_prompt_once(most):
    groups = [(row, Row(row.prompt, (3, 1))) for row in ROWS]
    parts = _packed(groups, most)
    assert sorted(map(repr, groups)) == sorted(repr(group) for part in parts for group in part)
    sizes = [packed_tokens([row for group in part for row in group]) for part in parts]
    assert all(size <= most or len(part) == 1 for size, part in zip(sizes, parts, strict=True))
    assert sum(sizes) == sum(len(row.prompt) + len(row.completion) - 1 + 1 for row in ROWS)


def test_splitting_a_step_leaves_its_loss_and_gradients_equal():
    found = []
    for most in (1, 60, 10_000):
        settings = TrainConfig(max_tokens_per_pass=most, max_grad_norm=1e9, precision="float32")
        found.append(step_gradients(make_model(), ALONE, sft(), settings))
    assert len(_padded(ALONE, 60)) in range(2, len(ROWS))
    (loss, grads), *others = found
    for other_loss, other_grads in others:
        assert other_loss == pytest.approx(loss, rel=1e-5)
        assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(grads, other_grads, strict=True))


def test_a_demo_becomes_its_prompt_and_its_answer_with_one_end_of_sequence(tmp_path):
    theirs = make_tokenizer()
    theirs.save_pretrained(tmp_path)
    tokenizer = ChatTokenizer(tmp_path)
    for record in demos():
        (row,) = sft().rows(record, tokenizer)
        messages = [{"role": m.role, "content": m.content} for m in record.prompt]
        text = theirs.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        assert list(row.prompt) == theirs.encode(text, add_special_tokens=False)
        assert list(row.completion) == [*theirs.encode(record.target, add_special_tokens=False), theirs.eos_token_id]
    assert sft().rows(demo("red", "blue", -0.25), tokenizer)[0].weight == -0.25
