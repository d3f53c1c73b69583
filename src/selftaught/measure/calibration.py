"""How well probabilities predict outcomes: Brier score, expected calibration error, AUROC."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from itertools import chain, pairwise
from math import fsum, isnan
from typing import Literal

from selftaught.errors import BadInput
from selftaught.measure.stats import statistic_bootstrap


def calibration_statistics(probabilities: Sequence[float], outcomes: Sequence[bool]) -> dict[str, float]:
    """`brier` score, expected calibration error `ece` in 10 bins of equal size, and `auroc`, to 4 digits.

    Raises:
        BadInput: there are no outcomes, or not as many as probabilities.
    """
    return {name: round(statistic(probabilities, outcomes), 4) for name, statistic in STATISTICS.items()}


def calibration_with_intervals(problems: Sequence[Sequence[tuple[float, bool]]]) -> dict[str, float]:
    """`calibration_statistics`, each with the ends of its 95 % interval as NAME_low and NAME_high; empty of nothing.

    Args:
        problems: for each problem the (probability, outcome) pairs of its samples; whole problems are resampled.
    """
    if not problems:
        return {}
    figures = calibration_statistics(*zip(*chain.from_iterable(problems), strict=True))
    for name, statistic in STATISTICS.items():
        found = statistic_bootstrap(lambda pairs, of=statistic: of(*zip(*pairs, strict=True)), problems)
        figures |= {f"{name}_low": round(found.low, 4), f"{name}_high": round(found.high, 4)}
    return figures


def brier_score(probabilities: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Mean squared difference of probability and outcome, 0..1; lower is better, 0.25 for always saying one half.

    Raises:
        BadInput: there are no outcomes, or not as many as probabilities.
    """
    _check(probabilities, outcomes)
    return fsum((p - outcome) ** 2 for p, outcome in zip(probabilities, outcomes, strict=True)) / len(outcomes)


def expected_calibration_error(
    probabilities: Sequence[float],
    outcomes: Sequence[bool],
    *,
    bins: int = 10,
    strategy: Literal["quantile", "uniform"] = "quantile",
) -> float:
    """Mean distance of mean probability and share of true outcomes over bins, weighted by size: 0..1, lower is better.

    Sources: Guo et al., 1706.04599, equation 3, with bins of equal width ("uniform"); Kadavath et al., 2207.05221,
    with as many predictions in each bin ("quantile"; ties are split by their order).

    Args:
        bins: number of bins; empty ones count nothing.

    Raises:
        BadInput: there are no outcomes, or not as many as probabilities; `bins` is below 1.
    """
    _check(probabilities, outcomes)
    if bins < 1:
        raise BadInput(f"bins must be ≥ 1, got {bins}", where="bins")
    pairs = sorted(zip(probabilities, outcomes, strict=True), key=lambda pair: pair[0])
    size = len(pairs)
    if strategy == "quantile":
        edges = [size * i // bins for i in range(bins + 1)]
    else:  # a probability of i / bins is in bin i, but 1 is in the last one
        edges = [bisect_left(pairs, i / bins, key=lambda pair: pair[0]) for i in range(bins)] + [size]
    parts = (pairs[start:stop] for start, stop in pairwise(edges))
    return fsum(abs(fsum(p - outcome for p, outcome in part)) for part in parts) / size


def auroc(scores: Sequence[float], outcomes: Sequence[bool]) -> float:
    """Probability that a true outcome has a higher score than a false one, ties counting one half.

    It is the area under the receiver operating characteristic, equal to the Mann-Whitney U statistic over the number of
    pairs (Hanley & McNeil 1982): 1 ranks perfectly, 0.5 by chance. Scores that are NaN are left out; NaN if the other
    outcomes are all equal.

    Raises:
        BadInput: there are no outcomes, or not as many as scores.
    """
    _check(scores, outcomes)
    known = [(score, outcome) for score, outcome in zip(scores, outcomes, strict=True) if not isnan(score)]
    true, false = [score for score, good in known if good], sorted(score for score, good in known if not good)
    if not (true and false):
        return float("nan")
    return fsum(bisect_left(false, s) + bisect_right(false, s) for s in true) / (2 * len(true) * len(false))


def _check(scores: Sequence[float], outcomes: Sequence[bool]) -> None:
    if not outcomes or len(scores) != len(outcomes):
        raise BadInput(f"needs as many scores as outcomes, at least 1, got {len(scores)} and {len(outcomes)}")


STATISTICS: dict[str, Callable[[Sequence[float], Sequence[bool]], float]] = {
    "brier": brier_score,
    "ece": expected_calibration_error,
    "auroc": auroc,
}
