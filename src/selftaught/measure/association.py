"""Statistics of (x, y) pairs, in the form that `check.claim.Statistic` and `statistic_bootstrap` take: a list of pairs.

Each is NaN where it is undefined, so that a resample without it is left out.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from selftaught.measure.calibration import auroc, expected_calibration_error

Pair = tuple[float, float]


def auroc_of(pairs: Sequence[tuple[float, bool]]) -> float:
    """AUROC of (score, outcome) pairs; see `calibration.auroc`."""
    return auroc([score for score, _ in pairs], [outcome for _, outcome in pairs]) if pairs else math.nan


def ece_of(pairs: Sequence[tuple[float, bool]]) -> float:
    """Expected calibration error of (probability, outcome) pairs in 10 bins of equal size, 0..1; lower is better."""
    if not pairs:
        return math.nan
    return expected_calibration_error([probability for probability, _ in pairs], [outcome for _, outcome in pairs])


def f1_of(pairs: Sequence[tuple[bool, bool]]) -> float:
    """F1 of (predicted, true) pairs: the harmonic mean of precision and recall, 0..1; NaN without any positive."""
    both = sum(1 for predicted, true in pairs if predicted and true)
    either = sum(bool(predicted) + bool(true) for predicted, true in pairs)
    return 2 * both / either if either else math.nan


def rank_correlation(pairs: Sequence[Pair]) -> float:
    """Spearman's rank correlation of (x, y) pairs, -1..1: Pearson's of the ranks, ties sharing their mean rank."""
    x, y = _columns(pairs)
    return _pearson(_ranks(x), _ranks(y))


def slope(pairs: Sequence[Pair]) -> float:
    """Slope of the least-squares line y = a + slope * x through (x, y) pairs, in units of y per unit of x."""
    x, y = _columns(pairs)
    if not x:
        return math.nan
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    spread = math.fsum((a - mx) ** 2 for a in x)
    return math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / spread if spread else math.nan


def _columns(pairs: Sequence[tuple[float, float]]) -> tuple[list[float], list[float]]:
    return [x for x, _ in pairs], [y for _, y in pairs]


def _ranks(values: Sequence[float]) -> list[float]:
    """Ranks from 1, ties sharing their mean rank."""
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, start = [0.0] * len(values), 0
    while start < len(order):
        stop = start
        while stop < len(order) and values[order[stop]] == values[order[start]]:
            stop += 1
        for place in order[start:stop]:
            ranks[place] = (start + stop + 1) / 2
        start = stop
    return ranks


def _pearson(x: Sequence[float], y: Sequence[float]) -> float:
    if len(x) < 2:
        return math.nan
    mx, my = math.fsum(x) / len(x), math.fsum(y) / len(y)
    scale = math.sqrt(math.fsum((a - mx) ** 2 for a in x) * math.fsum((b - my) ** 2 for b in y))
    return math.fsum((a - mx) * (b - my) for a, b in zip(x, y, strict=True)) / scale if scale else math.nan
