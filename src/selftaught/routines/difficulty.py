"""How hard problems are for the starting model, and what becomes of the hard ones."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import TYPE_CHECKING, Any

from selftaught.curate.keep import by_problem
from selftaught.records import Attempt, Problem
from selftaught.routines.critiques import deduplicate

if TYPE_CHECKING:
    from selftaught.check.claim import SystemResult
    from selftaught.run.run import Run

HARD = 0.1  # share of right attempts up to which a problem counts as hard
SAMPLES = 16  # of the starting model per problem; one right of them stands for a probability of 0.1
PROBLEMS = 256  # train problems that are looked at, at most
SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_k": 40}  # as in the baselines of a claim


def hard_problems(tried: Sequence[Attempt], threshold: float = HARD) -> set[str]:
    """Ids of the problems of which at most this share of the attempts is right."""
    return {name for name, group in by_problem(tried).items() if fmean(a.right for a in group) <= threshold}


def hard_coverage(
    first: Sequence[Attempt], tried: Sequence[Attempt], repaired: Sequence[Attempt]
) -> dict[str, float | int]:
    """What became of the hard problems, without and with repairs.

    Args:
        first: attempts of the first round, which say what is hard (`hard_problems`).
        tried: the actor's attempts of this round.
        repaired: revisions of failures among them.

    Returns:
        `of` (number of hard problems); the share of them with a right answer `covered directly` and `covered`, and the
        difference `gained`; distinct right answers to each, `distinct directly` and `distinct`.
    """
    hard = hard_problems(first)
    direct, both = ([a for a in some if a.right and a.problem.id in hard] for some in (tried, [*tried, *repaired]))
    count = max(1, len(hard))
    covered = [len(by_problem(some)) / count for some in (direct, both)]
    distinct = [len(deduplicate(some)) / count for some in (direct, both)]
    found = {"of": len(hard), "covered directly": covered[0], "covered": covered[1], "gained": covered[1] - covered[0]}
    return found | {"distinct directly": distinct[0], "distinct": distinct[1]}


def success_rates(run: Run, problems: Sequence[Problem], split: str, samples: int = SAMPLES) -> dict[str, float]:
    """Share of right samples of the starting model, by problem id. A second call returns the same. Not for methods."""
    results = run.solve(run.base, problems, split, samples=samples, **SAMPLING)
    groups = by_problem(one.attempt for one in results)
    return {name: fmean(one.right for one in group) for name, group in groups.items()}


def hard_share(system: SystemResult) -> float:
    """Share of train problems that the starting model solves with a probability below 0.1, estimated: a precondition.

    A problem counts if at most one of 16 samples at temperature 0.7 is right.
    """
    rates = success_rates(system.run, system.run.task.train[:PROBLEMS], "train")
    return fmean(rate * SAMPLES <= 1 for rate in rates.values()) if rates else 0.0


def accuracy_on_unsolved(system: SystemResult) -> dict[str, float]:
    """A metric: 1 where the final answer is right, on the test problems that the starting model could not solve.

    Those are the problems of which none of its 16 samples is right, the same for all systems of a seed.
    """
    rates = success_rates(system.run, system.run.task.test, "test")
    right = {one.attempt.problem.id: float(one.attempt.right) for one in system.answers}
    return {name: right[name] for name, rate in rates.items() if not rate}
