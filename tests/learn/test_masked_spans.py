"""Masked spans of a demonstration: which tokens bear no loss, and that they bear none at all."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from learn_models import make_model, make_policy

from selftaught.curate import Piece, demo_of_pieces, masked_spans, turn_demos
from selftaught.errors import BadInput
from selftaught.learn import Row, TrainConfig, forward, sft
from selftaught.learn.forward import forward_batch
from selftaught.learn.learner import train_policy
from selftaught.learn.objectives import distill
from selftaught.learn.objectives.demos import row_from_demo
from selftaught.models import ChatTokenizer
from selftaught.models.load import load_model
from selftaught.records import Demo, Message, as_json, content_hash, make_problem
from selftaught.testing import make_run
from tiny_models import make_policy as byte_policy
from tiny_models import save_tokenizer

ASK = (Message("user", "Who?"),)
MASKED = (False, True, True, False, False, True, True)
ROWS = [Row((0, 5, 6, 7), (8, 9, 10, 11, 12, 13, 1), loss_mask=MASKED), Row((0, 11), (12, 14, 1))]


@pytest.fixture(scope="module")
def by_bytes(tmp_path_factory: pytest.TempPathFactory) -> ChatTokenizer:
    folder = tmp_path_factory.mktemp("bytes")
    save_tokenizer(folder)
    return ChatTokenizer(folder)


def masks(tokenizer: ChatTokenizer, target: str, *masked: tuple[int, int], ends: bool = True) -> str:
    """The mask of a target: x for a token that bears loss, . for another."""
    row = row_from_demo(Demo(ASK, target, ends=ends, masked=masked), tokenizer)
    assert len(row.loss_mask) == len(row.completion)
    return "".join("x" if bears else "." for bears in row.loss_mask)


# --- from characters to tokens ---


def test_a_span_masks_the_tokens_of_its_characters(by_bytes: ChatTokenizer) -> None:
    assert masks(by_bytes, "abcdef", (1, 3)) == "x..xxx" + "x"
    assert masks(by_bytes, "abcdef", (0, 1), (4, 6)) == ".xxx.." + "x"
    assert masks(by_bytes, "abcdef", (4, 6), ends=False) == "xxxx.."


def test_tokens_that_share_a_character_are_masked_together(by_bytes: ChatTokenizer) -> None:
    assert len(by_bytes.encode("aé🙂b")) == 1 + 2 + 4 + 1
    assert masks(by_bytes, "aé🙂b", (2, 3)) == "xxx....x" + "x"
    assert masks(by_bytes, "aé🙂b", (1, 2)) == "x..xxxxx" + "x"


def test_a_token_across_a_border_is_masked(tmp_path: Path) -> None:
    tokenizer = ChatTokenizer(make_policy(tmp_path).weights)  # words; its offsets leave out the space between them
    assert masks(tokenizer, "red green blue", (4, 9)) == "x.x" + "x"
    assert masks(tokenizer, "red green blue", (5, 6)) == "x.x" + "x"
    assert masks(tokenizer, "red green blue", (3, 4)) == "x.x" + "x"  # the space is part of what follows it
    assert masks(tokenizer, "red green blue cat", (2, 10)) == "...x" + "x"


def test_a_thinking_tag_that_the_prompt_opens_moves_no_span(tmp_path: Path) -> None:
    save_tokenizer(tmp_path, "{% for m in messages %}{{ m.content }}{% endfor %}<think>\n")
    tokenizer = ChatTokenizer(tmp_path)
    assert tokenizer.thinking_tag == "<think>"
    assert masks(tokenizer, "<think>\nab", (8, 9)) == ".x" + "x"
    assert masks(tokenizer, "ab", (0, 1)) == ".x" + "x"


@pytest.mark.parametrize(
    ("masked", "message"),
    [
        (((2, 9),), "training record 1: its masked span 2..9 is empty or outside its target of 4 characters"),
        (((-1, 2),), "masked span -1..2 is empty or outside"),
        (((2, 2),), "masked span 2..2 is empty"),
        (((0, 2), (1, 3)), "masked span 1..3 begins before the one before it ends, at 2"),
        (((2, 3), (0, 1)), "masked span 0..1 begins before"),
        (((0, 4),), "all of its target is masked"),
    ],
)
def test_bad_spans_are_refused_in_one_line_that_names_the_record(
    by_bytes: ChatTokenizer, masked: Any, message: str
) -> None:
    records = [Demo(ASK, "fine"), Demo(ASK, "text", masked=masked)]
    for objective in (sft(), distill()):
        with pytest.raises(BadInput) as refused:
            objective.groups(records, by_bytes)
        assert message in str(refused.value)
        assert str(refused.value).startswith("training record 1: ")
        assert "\n" not in str(refused.value)


# --- no loss, no gradient ---


@pytest.mark.parametrize("packed", [True, False])
def test_the_loss_is_that_of_transformers_with_masked_labels(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reference is transformers' own loss with labels of -100, row by row."""
    model = make_model().eval()
    assert forward.can_pack(model)
    monkeypatch.setattr(forward, "can_pack", lambda _: packed)
    objective = sft()
    ours = objective.loss(forward_batch(model, ROWS)) / sum(objective.normalizer((row,)) for row in ROWS)
    ours.backward()
    got = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad(set_to_none=True)
    total, count = torch.zeros(()), 0
    for row in ROWS:
        ids = torch.tensor([row.prompt + row.completion])
        bears = row.loss_mask or (True,) * len(row.completion)
        labels = torch.full_like(ids, -100)
        for i, (token, kept) in enumerate(zip(row.completion, bears, strict=True)):
            if kept:
                labels[0, len(row.prompt) + i] = token
        total = total + model(input_ids=ids, labels=labels).loss * sum(bears)
        count += sum(bears)
    assert count == 4 + 3
    (total / count).backward()
    assert math.isclose(ours.item(), (total / count).item(), rel_tol=1e-5)
    assert all(torch.allclose(got[n], p.grad, atol=1e-6) for n, p in model.named_parameters() if p.grad is not None)


@pytest.mark.parametrize("packed", [True, False])
@pytest.mark.parametrize("objective", [sft(), distill(teacher_top_k=4)], ids=lambda o: o.name)
def test_masked_tokens_bear_exactly_no_gradient(packed: bool, objective: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(forward, "can_pack", lambda _: packed)
    model = make_model(spread=0.3).eval()
    requires = objective.requires(ROWS)
    features = {
        "teacher": torch.full((7, 4), math.log(0.2)),
        "teacher_ids": torch.arange(28).reshape(7, 4),
    }
    rows = [replace(row, token_features={n: v[: len(row.completion)] for n, v in features.items()}) for row in ROWS]
    batch = forward_batch(model, rows if requires else ROWS, requires)
    held = [batch.logprobs] if batch.student is None else [batch.logprobs, batch.student]
    for one in held:
        one.retain_grad()
    objective.loss(batch).backward()
    found = sum(one.grad.abs().reshape(*batch.mask.shape, -1).sum(-1) for one in held if one.grad is not None)
    bearing = torch.tensor([MASKED, (True, True, True) + (False,) * 4])
    assert torch.equal(batch.mask.bool(), bearing)
    assert bool((found[~bearing] == 0).all())
    assert bool((found[bearing] > 0).all())


@pytest.mark.parametrize("packed", [True, False])
def test_another_masked_token_changes_no_gradient_by_a_bit(packed: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """A last token is only predicted, never read: masked, it may be any."""
    monkeypatch.setattr(forward, "can_pack", lambda _: packed)
    model, found = make_model().eval(), []
    for token in (9, 20):
        sft().loss(forward_batch(model, [Row((0, 5), (8, token), loss_mask=(True, False)), ROWS[1]])).backward()
        found.append([p.grad.clone() for p in model.parameters() if p.grad is not None])
        model.zero_grad(set_to_none=True)
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_what_is_masked_is_not_learned_and_what_is_not_is(tmp_path: Path) -> None:
    base = byte_policy(tmp_path / "base", "llama")
    pieces = [Piece("call("), Piece("17:03", bears_loss=False), Piece(") done")]
    config = TrainConfig(epochs=6, learning_rate=3e-3, batch_size=1, precision="float32")
    records = [demo_of_pieces(ASK, pieces, attempts=("a",))]
    made = train_policy(base, sft(), records, config, seed=0, folder=tmp_path / "policies")
    tokenizer = ChatTokenizer(base.weights)
    row = row_from_demo(records[0], tokenizer)

    def logprobs(policy: Any) -> Any:
        with torch.no_grad():
            return forward_batch(load_model(policy, torch.float32), [row]).logprobs[0]

    gain = logprobs(made) - logprobs(base)
    bears = torch.tensor(row.loss_mask)
    assert float(gain[bears].mean()) > float(gain[~bears].mean()) + 0.5


# --- records ---


def test_pieces_become_one_target_with_spans() -> None:
    pieces = [Piece("say "), Piece("12", False), Piece("", False), Piece("3", False), Piece(" end"), Piece("!", False)]
    made = demo_of_pieces(ASK, [*pieces[:1], ("12", False), *pieces[2:]], weight=2.0)
    assert (made.target, made.masked, made.weight) == ("say 123 end!", ((4, 7), (11, 12)), 2.0)
    assert "".join(made.target[a:b] for a, b in made.masked) == "123!"
    assert masked_spans([Piece("all")]) == ()


def test_a_demo_without_masks_has_the_json_and_hash_that_it_had() -> None:
    plain = Demo(ASK, "text", attempts=("a",))
    assert set(as_json(plain)) == {"kind", "prompt", "target", "weight", "attempts"}
    assert as_json(Demo(ASK, "text", masked=((0, 1),)))["masked"] == [[0, 1]]
    assert content_hash(plain) != content_hash(Demo(ASK, "text", attempts=("a",), masked=((0, 1),)))


def test_each_turn_of_a_conversation_is_a_demo_behind_its_history(tmp_path: Path) -> None:
    async def talk(ask: Any, problem: Any) -> Any:
        first = await ask(problem.prompt)
        history = (*first.prompt, Message("assistant", first.text), Message("user", "The tool says 7."))
        return await ask(history, parent=first)

    with make_run(tmp_path) as run:
        problem = run.task.train[0]
        (result,) = run.solve(run.base, [problem], "train", solver=talk, keep_turns=True, verify=False)
        first, second = turn_demos(result.turns)
    assert (first.prompt, first.target) == (problem.prompt, result.turns[0].text)
    assert [m.role for m in second.prompt] == ["user", "assistant", "user"]
    assert second.prompt[-1].content == "The tool says 7."
    assert (second.target, second.attempts) == (result.attempt.text, (result.attempt.id,))
    assert make_problem(problem.prompt).id == problem.id
