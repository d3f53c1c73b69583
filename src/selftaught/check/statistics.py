"""Statistics of a claim (AUROC, F1, ...) over all seeds, with an estimate that knows its uncertainty."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from selftaught.check.legs import Statistic, name_of
from selftaught.check.outcome import Outcome, SeedResult
from selftaught.measure import Estimate, TEstimate, statistic_estimate


def statistic_of_seeds(trials: Sequence[SeedResult], index: int, leg: Statistic, *, by_problem: bool) -> Estimate:
    """A statistic over all seeds: problems are resampled; where policies were trained the seeds differ too.

    With seeds, the standard error adds the spread of the seeds' own values to that of resampled problems, which counts
    the problems' part twice where seeds do not share them, and is then too wide, never too narrow.
    """
    groups: dict[str, list[tuple[bool, Any]]] = {}
    values: list[float] = []
    for trial in trials:
        own: dict[str, list[tuple[bool, Any]]] = {}
        for mine, outcome in _sources(trial, leg):
            for problem, observed in outcome.observations.get(index, {}).items():
                own.setdefault(problem, []).extend((mine, one) for one in observed)
        values.append(_statistic_value(leg, [one for group in own.values() for one in group]))
        for problem, observed in own.items():
            groups.setdefault(problem, []).extend(observed)
    pooled = statistic_estimate(lambda drawn: _statistic_value(leg, drawn), list(groups.values()))
    known = [value for value in values if not math.isnan(value)]
    if by_problem or len(known) < 2:
        return pooled
    mean = math.fsum(known) / len(known)
    between = math.fsum((v - mean) ** 2 for v in known) / (len(known) - 1) / len(known)
    within = float(pooled.draws.var()) if len(pooled.draws) else math.nan
    return TEstimate(mean, max(1e-12, math.sqrt(between + within)), len(known) - 1)


def _sources(trial: SeedResult, leg: Statistic) -> list[tuple[bool, Outcome]]:
    """The method, and the baseline whose statistic is subtracted."""
    if leg.over is None:
        return [(True, trial.method)]
    name = name_of(leg.over)
    return [(True, trial.method), (False, trial.measured[name])]


def _statistic_value(leg: Statistic, drawn: Sequence[tuple[bool, Any]]) -> float:
    mine = leg.function([one for own, one in drawn if own])
    return mine if leg.over is None else mine - leg.function([one for own, one in drawn if not own])
