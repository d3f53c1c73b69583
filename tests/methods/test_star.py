"""STaR: what it asks, hints at and learns, on scripted answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from scripted_world import two_rounds
from selftaught.engines import Request
from selftaught.method import find
from selftaught.methods.improve.self_training.star import HINT
from selftaught.models import Policy
from selftaught.records import Problem
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


def solved_greedily(policy: Policy, problem: Problem) -> str:
    from selftaught.engines import Sampling

    return solve_sum(policy, Request(problem.prompt, Sampling(temperature=0.0)))


def test_two_rounds_improve_the_scripted_model(tmp_path: Path) -> None:
    champion, learner = two_rounds(tmp_path, "star", samples=3)
    assert champion.base
    assert len(learner.given) == 2


def test_it_declares_that_it_reads_references() -> None:
    assert find("star").needs == ("verifier", "reference")
