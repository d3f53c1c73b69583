"""What judges say of attempts, in figures: their mean score, and how far they agree with the task's verifier."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean
from typing import Any

from selftaught.curate import by_problem
from selftaught.measure.calibration import auroc
from selftaught.measure.stats import clustered_bootstrap, statistic_bootstrap
from selftaught.records import Attempt, Verdict


def judge_figures(attempts: Sequence[Attempt]) -> dict[str, Any]:
    """Figures of judged attempts, with 95 % intervals that resample problems.

    Returns:
        `mean_score` of the attempts with a score, and `unscored`, the share of the others. `agreement`: of the
        attempts that both the verifier and the judge call right or wrong, the share on which they agree. `auroc`: the
        chance that the judge scores a right answer above a wrong one (ties count half), 0.5 for a judge that guesses.
        Each but `unscored` has its interval as NAME_ci95. Figures of nothing are left out.
    """
    scored = [one for one in attempts if one.score is not None]
    figures: dict[str, Any] = {"unscored": round(1 - len(scored) / len(attempts), 4)} if attempts else {}
    both = [one for one in attempts if one.judgments and Verdict.UNKNOWN not in (one.verdict, _judged(one))]
    agree = [(one.problem.id, float(one.verdict is _judged(one))) for one in both]
    figures |= _mean("mean_score", [(one.problem.id, one.score or 0.0) for one in scored]) | _mean("agreement", agree)
    known = [one for one in scored if one.verdict is not Verdict.UNKNOWN]
    if len({one.right for one in known}) < 2:
        return figures
    interval = statistic_bootstrap(_auroc, list(by_problem(known).values()))
    return figures | {"auroc": round(_auroc(known), 4), "auroc_ci95": [round(interval.low, 4), round(interval.high, 4)]}


def _auroc(attempts: Sequence[Attempt]) -> float:
    return auroc([one.score or 0.0 for one in attempts], [one.right for one in attempts])


def _judged(attempt: Attempt) -> Verdict:
    return attempt.judgments[-1].verdict


def _mean(name: str, values: Sequence[tuple[str, float]]) -> dict[str, Any]:
    """A mean over problems, and its interval."""
    groups: dict[str, list[float]] = {}
    for problem, value in values:
        groups.setdefault(problem, []).append(value)
    if not groups:
        return {}
    interval = clustered_bootstrap(list(groups.values()))
    mean = fmean(fmean(group) for group in groups.values())
    return {name: round(mean, 4), f"{name}_ci95": [round(interval.low, 4), round(interval.high, 4)]}
