"""Iterated preferences: whose answers are paired, what is trained from where, and by which loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_world import Objectives
from selftaught.console import Console
from selftaught.control import Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.records import Pair, Problem
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task, load_task
from selftaught.testing import make_run, make_task, solve_sum

PREFERENCES = find("preferences")


def half_right(policy: Any, request: Any) -> str:
    return solve_sum(policy, request, least=0.5, most=0.5)


def played(folder: Path, task: Task | None = None, **options: Any) -> tuple[Objectives, list[str], list[str]]:
    """What a small run learned, who sampled in each round, and the policies measured."""
    learner, task = Objectives(), task or make_task(train=6, dev=4, test=2)
    settings = Settings(gate=Gate(max_p_value=0.0))  # nothing passes
    with make_run(folder, script=half_right, task=task, learner=learner, settings=settings) as run:
        PREFERENCES(run, run.base, run.task, **{"rounds": 3, "samples": 6, **options})
        dev = {problem.id for problem in task.dev}
        train = [p for _, _, p, _ in run.journal.effects("sample") if p["problem"] not in dev]
        measured = [row["policy"] for row in run.history]
    return learner, list(dict.fromkeys(payload["policy"] for payload in train)), measured


def test_each_round_samples_from_and_trains_the_last_policy_with_itself_as_the_reference(tmp_path: Path) -> None:
    learner, actors, measured = played(tmp_path)
    assert [base.version for base, _ in learner.given] == actors == ["base-model", *measured[:2]]
    for objective, settings in zip(learner.objectives, learner.settings, strict=True):
        assert (objective.name, objective.loss_type, objective.beta, objective.nll_coef) == ("rpo", "sigmoid", 0.1, 1.0)
        assert objective.reference is None  # the policy that a training starts from
        assert (settings.learning_rate, settings.epochs) == (pytest.approx(7e-7), 1)


def test_every_right_answer_meets_wrong_ones_in_turn_up_to_the_cap(tmp_path: Path) -> None:
    learner, *_ = played(tmp_path, rounds=1, per_problem=3, samples=8)
    ((_, made),) = learner.given
    assert all("guess" in pair.rejected and "guess" not in pair.chosen for pair in made)
    by_prompt = {pair.prompt: [p for p in made if p.prompt == pair.prompt] for pair in made}
    assert max(map(len, by_prompt.values())) == 3
    for some in by_prompt.values():
        assert len({(pair.chosen, pair.rejected) for pair in some}) == len(some)


@pytest.mark.parametrize(
    ("start", "trained", "sampled"), [("base", {"base-model"}, 3), ("champion", {"base-model"}, 1), ("last", None, 3)]
)
def test_a_round_starts_where_it_is_asked_to(tmp_path: Path, start: str, trained: Any, sampled: int) -> None:
    learner, actors, _ = played(tmp_path, start=start)
    assert len(actors) == sampled
    assert trained is None or {base.version for base, _ in learner.given} == trained


def test_pairs_of_earlier_rounds_are_trained_on_again(tmp_path: Path) -> None:
    fresh = [made for _, made in played(tmp_path / "fresh")[0].given]
    again = [made for _, made in played(tmp_path / "again", past_rounds=1)[0].given]
    assert again[0] == fresh[0]
    assert again[1][: len(fresh[0])] == fresh[0]
    assert len(again[1]) > len(fresh[0])
    assert not set(again[2]) & set(again[0])


def test_votes_prefer_what_is_most_often_said(tmp_path: Path) -> None:
    learner, *_ = played(tmp_path, source="vote", rounds=1)
    ((_, made),) = learner.given
    assert made
    assert all(isinstance(pair, Pair) and 0 < pair.weight < 1 for pair in made)


def test_written_solutions_are_preferred_to_samples(tmp_path: Path) -> None:
    task = make_task(train=6, dev=4, test=2)
    spin = find("spin")
    learner = Objectives()
    with make_run(tmp_path, script=half_right, task=task, learner=learner, settings=Settings()) as run:
        spin(run, run.base, run.task, rounds=2)
        samples = {key: p for key, _, p, _ in run.journal.effects("sample")}
    written = {p.prompt: p.meta["solution"] for p in task.train}
    first, second = (made for _, made in learner.given)
    assert [pair.chosen for pair in first] == [written[pair.prompt] for pair in first]
    assert len(first) == 6
    assert second[:6] == first  # and the round before it
    assert len(second) == 12
    assert all(samples[pair.attempts[0]]["text"] == pair.rejected for pair in second)
    assert {objective.nll_coef for objective in learner.objectives} == {0.0}
    assert [base.version for base, _ in learner.given][1] != "base-model"


def test_a_task_without_written_solutions_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    bare = make_task(train=6, dev=4, test=2)
    bare = Task("bare", map(_without, bare.train), bare.dev, bare.test, verifier=bare.verifier, kind=bare.kind)
    with make_run(tmp_path, task=bare, learner=Objectives()) as run:
        with pytest.raises(BadInput, match=r"no written solution of 'What is.*source verifier\)"):
            find("spin")(run, run.base, run.task)
        assert run.ledger.usage.spent == 0


def _without(problem: Problem) -> Problem:
    return Problem(problem.id, problem.prompt, problem.reference)


def test_it_trains_the_underfit_model(tmp_path: Path) -> None:
    task = load_task("underfit:family=chain|add,level=2", train=4, dev=2, test=2, seed=3)
    how = Settings(
        sampling=Sampling(max_tokens=64),
        training=TrainConfig(epochs=1, learning_rate=3e-4, batch_size=4, max_tokens_per_pass=2048, precision="float32"),
    )
    with Run(tmp_path, model="underfit", task=task, settings=how, console=Console(quiet=True)) as run:
        PREFERENCES(run, run.base, run.task, rounds=1, samples=6, per_problem=2, lr_scale=1.0)
        (row,) = run.history
        (learned,) = [p for _, _, p, _ in run.journal.effects("learn")]
    assert row["policy"] == learned["policy"] != run.base.version
    assert 0 < learned["records"] <= 8
