"""MCTS-DPO: on-policy batches, the fixed reference, and what the pairs are."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scripted_world import Objectives, two_rounds
from search_world import by_steps
from selftaught.engines import ScriptedEngine
from selftaught.learn.objectives.step_dpo import StepDpo
from selftaught.method import find
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.testing import make_run, make_task

METHOD = find("mcts-dpo")
SMALL: dict[str, Any] = {"rounds": 3, "problems": 10, "iterations": 6, "depth": 4}


def learnt(folder: Path, **options: Any) -> tuple[Objectives, Run, list[str]]:
    """What a small run learnt, and who sampled the steps of each round."""
    learner = Objectives()
    with make_run(
        folder, engine=ScriptedEngine(by_steps()), task=make_task(train=20, dev=4, test=2), learner=learner,
        settings=Settings(),
    ) as run:  # fmt: skip
        METHOD(run, run.base, run.task, **{**SMALL, **options})
        dev = {problem.id for problem in run.task.dev}
        train = [p for _, _, p, _ in run.journal.effects("sample") if p["problem"] not in dev]
    return learner, run, list(dict.fromkeys(payload["policy"] for payload in train))


def test_each_round_searches_with_the_policy_of_the_last_and_stays_near_the_start(tmp_path: Path) -> None:
    learner, run, actors = learnt(tmp_path)
    assert len(learner.given) == 3
    assert [base.version for base, _ in learner.given] == actors
    assert actors[0] == run.base.version
    assert len(set(actors)) == 3
    for objective, settings in zip(learner.objectives, learner.settings, strict=True):
        assert isinstance(objective, StepDpo)
        assert objective.reference == run.base
        assert objective.beta == 0.1
        assert (settings.learning_rate, settings.epochs) == (pytest.approx(1e-6), 1)  # the paper's rate
    prompts = [{pair.prompt[0].content for pair in pairs} for _, pairs in learner.given]
    assert not prompts[0] & prompts[1]  # other problems in every round, until all had their turn


def test_offline_the_start_searches_in_every_round(tmp_path: Path) -> None:
    learner, run, actors = learnt(tmp_path, online=False)
    assert actors == [run.base.version]
    assert len({base.version for base, _ in learner.given}) == 3  # and learning goes on all the same


def test_no_more_pairs_than_asked_for_are_learnt(tmp_path: Path) -> None:
    learner, _, _ = learnt(tmp_path, max_pairs=3)
    assert [len(pairs) for _, pairs in learner.given] == [3, 3, 3]


def test_smoothing_goes_by_visits_and_can_be_left_out(tmp_path: Path) -> None:
    soft, _, _ = learnt(tmp_path / "soft", rounds=1)
    hard, _, _ = learnt(tmp_path / "hard", rounds=1, visit_smoothing=False)
    assert any(0 < pair.label_smoothing < 0.5 for pair in soft.given[0][1])
    assert all(pair.label_smoothing == 0 for pair in hard.given[0][1])
    assert [p.chosen for p in soft.given[0][1]] == [p.chosen for p in hard.given[0][1]]


def test_without_self_evaluation_nothing_is_judged(tmp_path: Path) -> None:
    _, run, _ = learnt(tmp_path, self_eval=False)
    assert run.ledger.usage.judge == 0


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "mcts-dpo")
    assert champion.base
    assert len(learner.given) == 2
