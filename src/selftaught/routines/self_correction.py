"""Metrics of self-correction: the two answers of `refine.two_turns` to each test problem."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from selftaught.measure.flips import correction_metrics, flip_rates, turn_verdicts
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


def start_flip_rates(system: SystemResult, problems: int = 500) -> dict[str, float]:
    """What the starting model's second answers do to its first, sampled at temperature 1.

    See `measure.flips.flip_rates` for what is returned.
    Reinforcement learning can only make likelier what is sampled: a model that never changes an answer, or breaks as
    many as it fixes, shows it nothing.

    Args:
        problems: test problems, at most, from the first.
    """
    run = system.run
    some = run.task.test[:problems]
    solved = run.solve(run.base, some, "test", solver=two_turns, keep_turns=True, temperature=1.0)
    return flip_rates([turn_verdicts(one) for one in solved])


def start_change_rate(system: SystemResult) -> float:
    """Share of the starting model's sampled second answers that differ from the first; a precondition of SCoRe."""
    return start_flip_rates(system)["changed"]


def start_fix_rate(system: SystemResult) -> float:
    """Share of right second answers among the starting model's samples whose first is wrong; a precondition of SCoRe.

    NaN without wrong first answers.
    """
    return start_flip_rates(system)["fixed"]


def start_fix_surplus(system: SystemResult) -> float:
    """P(right second answer | wrong first) - P(wrong second answer | right first) of the starting model's samples.

    Below 0 second answers do harm as they are. That is where SCoRe's own base model begins (2409.12917: a gain of 15.6
    points on MATH that ends at +4.4), so it is no precondition of SCoRe.
    """
    rates = start_flip_rates(system)
    return rates["fixed"] - rates["broken"]


def correction_and_start_rates(system: SystemResult) -> dict[str, float]:
    """`correction_rates`, and as "start ..." those of the starting model's samples (`start_flip_rates`)."""
    start = {f"start {name}": value for name, value in start_flip_rates(system).items()}
    return correction_rates(system) | {name: value for name, value in start.items() if not math.isnan(value)}
