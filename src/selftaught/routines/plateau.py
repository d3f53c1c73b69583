"""Whether self-training has leveled off: figures of a finished run, for preconditions of claims about plateaus."""

from __future__ import annotations

from statistics import fmean
from typing import TYPE_CHECKING

from selftaught.curate import by_problem
from selftaught.models import Policy
from selftaught.models.policy import load_policy

if TYPE_CHECKING:
    from selftaught.check.claim import SystemResult


def late_gain(system: SystemResult, rounds: int = 3) -> float:
    """Greedy accuracy on test that a finished recipe gained in its last `rounds` rounds; near 0 on a plateau.

    It is measured on the test problems, as a few dev problems cannot tell a gain of 0.01 from none.
    """
    before, last = _policies(system)[-1 - min(rounds, len(system.run.history))], _policies(system)[-1]
    return _accuracy(system, last) - _accuracy(system, before)


def pass_at_k_change(system: SystemResult, samples: int = 16, problems: int = 500) -> float:
    """Pass@k on test of a finished recipe's last policy, less that of its middle one; below 0 where variety is lost.

    Args:
        samples: k, at temperature 1.
        problems: test problems, at most, from the first.
    """
    policies = _policies(system)
    middle, last = policies[len(policies) // 2], policies[-1]
    return _pass_at(system, last, samples, problems) - _pass_at(system, middle, samples, problems)


def _policies(system: SystemResult) -> list[Policy]:
    """The starting model, and the policy of each round."""
    run = system.run
    folder = run.folder / "policies"
    return [run.base, *(load_policy(folder / row["policy"]) for row in run.history)]


def _accuracy(system: SystemResult, policy: Policy) -> float:
    run = system.run
    solved = run.solve(policy, run.task.test, "test", temperature=0.0)
    return fmean(one.attempt.right for one in solved)


def _pass_at(system: SystemResult, policy: Policy, samples: int, problems: int) -> float:
    run = system.run
    solved = run.solve(policy, run.task.test[:problems], "test", samples=samples, temperature=1.0)
    groups = by_problem(one.attempt for one in solved)
    return fmean(any(attempt.right for attempt in group) for group in groups.values())
