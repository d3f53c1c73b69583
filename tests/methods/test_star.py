"""STaR: what it asks, hints at and learns, on scripted answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripted_world import Objectives, two_rounds
from selftaught.engines import Request
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.methods.improve.self_training.star import HINT
from selftaught.models import Policy
from selftaught.records import Problem
from selftaught.run.settings import Settings
from selftaught.testing import Learner, make_run, solve_sum


@pytest.mark.parametrize("rationalization", [True, False])
def test_star_hints_at_failures_only_and_learns_them_without_the_hint(tmp_path: Path, rationalization: bool) -> None:
    learner, asked = Learner(), []

    def script(policy: Policy, request: Request) -> str:
        asked.append((policy.version, request.prompt[-1].content))
        return solve_sum(policy, request)

    with make_run(tmp_path, script=script, learner=learner) as run:
        find("star")(run, run.base, run.task, rounds=1, rationalization=rationalization)
        failed = [p for p in run.task.train if f"Answer: {p.reference}" not in solved_greedily(run.base, p)]
    assert 0 < len(failed) < len(run.task.train)
    hints = sorted(HINT.format(question=p.question, answer=p.reference) for p in failed)
    assert sorted(text for _, text in asked if "Hint" in text) == (hints if rationalization else [])
    ((base, demos),) = learner.given
    kept = run.task.train if rationalization else [p for p in run.task.train if p not in failed]
    assert base == run.base
    assert {demo.prompt for demo in demos} == {p.prompt for p in kept}
    assert len(demos) == len(kept)


@pytest.mark.parametrize("rationalization", [True, False])
def test_rounds_take_the_paper_s_steps_however_much_there_is_to_learn(tmp_path: Path, rationalization: bool) -> None:
    learner = Objectives()
    with make_run(tmp_path, learner=learner) as run:
        find("star")(run, run.base, run.task, rounds=4, rationalization=rationalization)
    assert [one.steps for one in learner.settings] == [40, 48, 57, 69]  # int(40 * 1.2^k), as in the authors' code
    epochs = Objectives()
    with make_run(tmp_path / "epochs", learner=epochs, settings=Settings(training=TrainConfig(epochs=3))) as run:
        find("star")(run, run.base, run.task, rounds=2, rationalization=rationalization, steps=0)
    assert [(one.steps, one.epochs) for one in epochs.settings] == [(0, 3), (0, 3)]


def solved_greedily(policy: Policy, problem: Problem) -> str:
    from selftaught.engines import Sampling

    return solve_sum(policy, Request(problem.prompt, Sampling(temperature=0.0)))


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "star", samples=3)
    assert champion.base
    assert len(learner.given) == 2


def test_it_declares_that_it_reads_references() -> None:
    assert find("star").needs == ("verifier", "reference")
