"""STaR on corrections and Pair-SFT: right answers after wrong ones, and whose answers they are."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.method import find
from selftaught.refine.turns import SELF_CORRECT
from selftaught.testing import Learner, make_run, make_task
from talking_world import twice


@pytest.mark.parametrize(
    ("method", "roles"), [("star-corrections", ["revise", "solve"]), ("pair-sft", ["solve", "solve"])]
)
def test_right_answers_are_learned_after_wrong_ones(tmp_path: Path, method: str, roles: list[str]) -> None:
    learner = Learner()
    with make_run(tmp_path, script=twice, learner=learner, task=make_task(train=12, dev=40)) as run:
        find(method)(run, run.base, run.task, rounds=1, samples=4)
        answers = {p.prompt: f"Answer: {p.reference}" for p in run.task.train}
        samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
        (row,) = run.history
    ((base, demos),) = learner.given
    assert base.version == "base-model"
    for demo in demos:
        question, draft, request = demo.prompt
        assert request.content == SELF_CORRECT
        assert not draft.content.endswith(answers[question,])
        assert demo.target.endswith(answers[question,])
        assert [samples[name]["role"] for name in demo.attempts] == roles
    assert row["metrics"]["two_turns"]["second"] == row["accuracy"]  # the gate goes by the second answer


@pytest.mark.parametrize(("method", "actors"), [("star-corrections", 2), ("pair-sft", 1)])
def test_every_round_trains_the_base_model(tmp_path: Path, method: str, actors: int) -> None:
    learner = Learner()
    with make_run(tmp_path, script=twice, learner=learner, task=make_task(train=12, dev=4)) as run:
        find(method)(run, run.base, run.task, rounds=2, samples=4)
        train = {p.id for p in run.task.train}
        solved = [p for _, _, p, _ in run.journal.effects("sample") if p["problem"] in train and p["role"] == "solve"]
    assert [base.version for base, _ in learner.given] == ["base-model"] * 2
    assert len({p["policy"] for p in solved}) == actors
