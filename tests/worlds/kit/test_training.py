"""Training of a world's network: the same function as transformers' Llama, exact resume, and it becomes its writer."""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch

from selftaught.worlds.kit.build import TrainingConfig
from selftaught.worlds.kit.gate import FEWEST, gate
from selftaught.worlds.kit.network import Shape, as_llama, initial_weights, surprise
from selftaught.worlds.kit.optimizer import Muon, orthogonalize, warmup_cosine
from selftaught.worlds.kit.text import Text, as_text, first_lessons, make_batch, plan
from selftaught.worlds.kit.training import Progress, Training, train

VOCABULARY = 24
SHAPE = Shape(VOCABULARY, width=32, layers=2, heads=2, hidden=48)
SMALL = TrainingConfig(chunks=2, chunk_tokens=1500, passes=2, batch_tokens=64, batches=4, weights=(("coin:", 2.0),))


class Target(NamedTuple):
    position: int
    ids: tuple[int, ...]
    probs: tuple[float, ...]
    skill: str
    right: int = -1


class Encoded(NamedTuple):
    ids: list[int]
    targets: list[Target]


def coin_lessons(seed: int) -> Iterator[Encoded]:
    """After two numbers, one of two tokens, with a probability that depends on both; then a certain end."""
    rng = random.Random(seed)
    while True:
        a, b, wide = rng.randrange(5), rng.randrange(5), rng.random() < 0.3
        question = [1, *[2] * (3 * wide), 10 + a, 15 + b]
        heads = ((a * 7 + b * 3) % 10 + 0.5) / 10
        reply = 20 if rng.random() < heads else 21
        kind = "coin:wide" if wide else "coin:plain"
        coin = Target(len(question), (20, 21), (heads, 1 - heads), kind, 20 if heads > 0.5 else 21)
        yield Encoded([*question, reply, 0], [coin, Target(len(question) + 1, (0,), (1.0,), "")])


def trained(folder: Path, config: TrainingConfig = SMALL, **how: object) -> Training:
    folder.mkdir(parents=True, exist_ok=True)
    return train(SHAPE, config, coin_lessons, folder, ahead=False, **how)  # type: ignore[arg-type]


def same(one: Training, other: Training) -> bool:
    return all(torch.equal(one.weights[name], other.weights[name]) for name in one.weights)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Training:
    return trained(tmp_path_factory.mktemp("undisturbed"))


def test_it_is_transformers_llama() -> None:
    """Losses and gradients against `LlamaForCausalLM` with plain cross-entropy."""
    weights = initial_weights(SHAPE, 0)
    weights["gain"] = torch.linspace(0.5, 2, SHAPE.width)
    for name, tensor in weights.items():
        weights[name] = (tensor if name == "gain" else tensor * 10).requires_grad_()
    model = as_llama(weights, SHAPE, context=64, end=0)
    text = first_lessons(coin_lessons, 1, 20)
    mine = surprise(weights, SHAPE, make_batch(text, range(20)))
    theirs = []
    for lesson in (lesson for lesson, _ in zip(coin_lessons(1), range(20), strict=False)):
        logprobs = model(input_ids=torch.tensor([lesson.ids])).logits[0].log_softmax(-1)
        for t in lesson.targets:
            theirs.append(-sum(p * logprobs[t.position - 1, i] for i, p in zip(t.ids, t.probs, strict=True)))
    assert mine.tolist() == pytest.approx([x.item() for x in theirs], abs=1e-5)  # type: ignore[arg-type]
    mine.sum().backward()
    torch.stack(theirs).sum().backward()  # type: ignore[arg-type]
    found = model.get_parameter("model.layers.1.self_attn.v_proj.weight").grad
    assert torch.allclose(weights["attention"].grad[1, 2], found, atol=1e-5)  # type: ignore[index,arg-type]
    found = model.get_parameter("model.layers.0.mlp.up_proj.weight").grad
    assert torch.allclose(weights["gate_up"].grad[0, 1], found, atol=1e-5)  # type: ignore[index,arg-type]
    found = model.get_parameter("model.norm.weight").grad
    assert torch.allclose(weights["gain"].grad, found, atol=1e-5)  # type: ignore[arg-type]


def test_products_in_bfloat16_give_nearly_the_same_gradients() -> None:
    weights = {name: tensor.requires_grad_() for name, tensor in initial_weights(SHAPE, 0).items()}
    batch = make_batch(first_lessons(coin_lessons, 1, 50), range(50))
    for name in ("attention", "down", "embedding"):
        exact, rough = (
            torch.autograd.grad(surprise(weights, SHAPE, batch, dtype).sum(), weights[name])[0]
            for dtype in (torch.float32, torch.bfloat16)
        )
        assert 0 < float((exact - rough).norm() / exact.norm()) < 0.03


def test_muon_is_torch_s_but_exact() -> None:
    """Against `torch.optim.Muon`, which takes products in bfloat16."""
    torch.manual_seed(0)
    stack = torch.randn(3, 24, 40)
    mine = stack.clone().requires_grad_()
    theirs = [matrix.clone().requires_grad_() for matrix in stack]
    ours = Muon([mine], lr=0.1, weight_decay=0.1)
    reference = torch.optim.Muon(theirs, lr=0.1, weight_decay=0.1)
    for _ in range(3):
        mine.grad = torch.randn_like(stack)
        for matrix, gradient in zip(theirs, mine.grad, strict=True):
            matrix.grad = gradient.clone()
        ours.step()
        reference.step()
    mine = mine.detach()
    moved = mine - stack
    assert float((mine - torch.stack(theirs).detach()).norm() / moved.norm()) < 0.02


@pytest.mark.parametrize("size", [(4, 30, 30), (2, 3, 12, 40), (5, 40, 12)])
def test_singular_values_come_near_one(size: tuple[int, ...]) -> None:
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(size)))
    assert float(values.max()) < 1.25
    assert float(values.median()) > 0.65


def test_the_rate_warms_up_and_comes_down() -> None:
    assert warmup_cosine(0.01, 0.02, 0.1) == pytest.approx(0.5)
    assert warmup_cosine(0.02, 0.02, 0.1) == pytest.approx(1)
    assert warmup_cosine(0.51, 0.02, 0.1) == pytest.approx(0.55)
    assert warmup_cosine(1, 0.02, 0.1) == pytest.approx(0.1)


def test_every_lesson_is_in_one_batch_and_batches_keep_their_size() -> None:
    text = first_lessons(coin_lessons, 2, 500)
    batches = plan(text, 100, [3])
    assert sorted(np.concatenate(batches)) == list(range(500))
    assert max(make_batch(text, lessons).ids.size for lessons in batches) <= 100
    assert [b.tolist() for b in plan(text, 100, [3])] == [b.tolist() for b in batches]
    assert [b.tolist() for b in plan(text, 100, [4])] != [b.tolist() for b in batches]


def test_a_batch_holds_each_target_at_the_token_before_it() -> None:
    lessons = [lesson for lesson, _ in zip(coin_lessons(5), range(30), strict=False)]
    batch = make_batch(as_text(lessons), [7, 3])
    chosen = [lessons[7], lessons[3]]
    assert [row[: len(x.ids) - 1].tolist() for row, x in zip(batch.ids, chosen, strict=True)] == [
        x.ids[:-1] for x in chosen
    ]
    width = batch.ids.shape[1]
    assert batch.at.tolist() == [i * width + t.position - 1 for i, x in enumerate(chosen) for t in x.targets]
    targets = [t for x in chosen for t in x.targets]
    assert batch.token.tolist() == [i for t in targets for i in t.ids]
    assert batch.probs.tolist() == pytest.approx([p for t in targets for p in t.probs])
    assert batch.target.tolist() == [n for n, t in enumerate(targets) for _ in t.ids]


def test_a_token_that_the_writer_never_writes_is_no_target(tmp_path: Path) -> None:
    text = as_text([Encoded([1, 2, 0], [Target(1, (2, 3), (1.0, 0.0), "x"), Target(2, (0,), (1.0,), "")])])
    assert text.tokens.tolist() == [2, 0]
    text.save(tmp_path / "a.npz")
    assert Text.load(tmp_path / "a.npz").sha256 == text.sha256


class Killed(Exception):
    """Stands for a kill: nothing after it is done."""


@pytest.mark.parametrize("at", [1, 12])
def test_killed_and_resumed_equals_undisturbed(at: int, undisturbed: Training, tmp_path: Path) -> None:
    def kill(progress: Progress) -> None:
        if progress.steps == at + 3:
            raise Killed

    every = {1: 0.0, 12: 1e9}[at]  # a checkpoint after each step; none but the start
    with pytest.raises(Killed):
        trained(tmp_path, every=every, report=kill)
    (tmp_path / "state.pt.part").write_bytes(b"half a checkpoint")
    steps: list[int] = []
    again = trained(tmp_path, report=lambda progress: steps.append(progress.steps))
    assert steps[0] == {1: at + 3, 12: 1}[at]
    assert same(again, undisturbed)
    assert again.progress.curve[-1]["kl"] == undisturbed.progress.curve[-1]["kl"]
    assert len(again.progress.text) == SMALL.chunks * SMALL.passes


def test_two_threads_and_a_process_that_writes_give_the_same_weights(undisturbed: Training, tmp_path: Path) -> None:
    assert same(train(SHAPE, SMALL, coin_lessons, tmp_path, threads=2), undisturbed)


def test_another_seed_gives_other_weights(undisturbed: Training, tmp_path: Path) -> None:
    brief = replace(SMALL, chunks=1, passes=1, seed=1)
    assert not same(trained(tmp_path, brief), undisturbed)


def test_it_becomes_its_writer(tmp_path: Path) -> None:
    config = TrainingConfig(
        chunks=2, chunk_tokens=20_000, batch_tokens=32, batches=4, learning_rate=0.05, adam_rate=0.01
    )
    training, text = trained(tmp_path, config), first_lessons(coin_lessons, 77, 600)
    model = as_llama(training.weights, SHAPE, context=64, end=0)
    found = {row.skill: row for row in gate(model, text).rows}
    raw = gate(as_llama(initial_weights(SHAPE, 0), SHAPE, context=64, end=0), text)
    assert found["all"].kl < 0.03
    assert raw.kl > 1
    assert not raw.holds
    assert abs(found["all"].gap) < 0.02
    curve = [point["kl"]["coin"] for point in training.progress.curve]
    assert curve[0] > 2 * curve[1]


def test_the_gate_is_the_mean_over_decisions_by_definition() -> None:
    """Against one lesson at a time, by the formulas, and a bootstrap over lessons."""
    lessons = [lesson for lesson, _ in zip(coin_lessons(9), range(300), strict=False)]
    model = as_llama({n: t * 8 for n, t in initial_weights(SHAPE, 3).items()}, SHAPE, context=64, end=0)
    kl: dict[str, list[float]] = {"coin:wide": [], "coin:plain": []}
    gap: list[float] = []
    for lesson in lessons:
        coin = lesson.targets[0]
        with torch.no_grad():
            q = model(input_ids=torch.tensor([lesson.ids])).logits[0, coin.position - 1].double().softmax(-1)
        kl[coin.skill].append(
            sum(p * (np.log(p) - np.log(float(q[i]))) for i, p in zip(coin.ids, coin.probs, strict=True))
        )
        gap.append(float(q[coin.right]) - coin.probs[coin.ids.index(coin.right)])
    rows = {row.skill: row for row in gate(model, as_text(lessons)).rows}
    assert set(rows) == {"all", "certain", "coin", *kl}
    for skill, values in kl.items():
        assert rows[skill].kl == pytest.approx(np.mean(values), rel=1e-4)
        assert rows[skill].kl_se == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5, rel=1e-4)
    assert rows["all"].gap == pytest.approx(np.mean(gap), rel=1e-4)
    assert rows["all"].gap_se == pytest.approx(np.std(gap, ddof=1) / 300**0.5, rel=1e-3)
    assert rows["coin:wide"].count < FEWEST
    assert {row.skill for row in gate(model, as_text(lessons)).failing} >= {"all", "coin"}
