"""Metrics of self-correction: the two answers of `refine.two_turns` to each test problem."""

from __future__ import annotations

from typing import TYPE_CHECKING

from selftaught.measure.flips import correction_metrics, turn_verdicts
from selftaught.refine.turns import two_turns

if TYPE_CHECKING:
    from selftaught.check.claim import SystemResult
    from selftaught.run.solver import SolverResult


def answer_twice(system: SystemResult) -> list[SolverResult]:
    """Sample both answers of a finished system to each test problem, greedily."""
    run = system.run
    return run.solve(system.policy, run.task.test, "test", solver=two_turns, keep_turns=True, temperature=0.0)


def second_answer_accuracy(system: SystemResult) -> dict[str, float]:
    """Map each test problem to 1 where the second answer is right, else 0."""
    return {one.attempt.problem.id: float(one.attempt.right) for one in answer_twice(system)}


def correction_rates(system: SystemResult) -> dict[str, float]:
    """Accuracy of both answers and what the second did to the first; see `measure.flips.correction_metrics`."""
    return correction_metrics([turn_verdicts(one) for one in answer_twice(system)])
