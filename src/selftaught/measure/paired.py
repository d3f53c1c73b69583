"""Effects of solvers, which share one fixed model: the problem is the random unit."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, TypeVar

from selftaught.measure.estimate import BootstrapEstimate, Estimate, SpreadlessEstimate, TEstimate
from selftaught.measure.stats import bootstrap_means, mcnemar_exact

if TYPE_CHECKING:
    import numpy as np

Scores = Mapping[str, float]
"""Problem id -> score of one system in one pass over the problems."""

T = TypeVar("T")


def paired_effect(
    mine: Sequence[Scores], theirs: Sequence[Scores], *, interval: Literal["bca", "t"] = "bca",
    resamples: int = 10_000, seed: int = 0,
) -> Estimate:  # fmt: skip
    """Estimate the mean of mine - theirs over problems, for two solvers of one fixed model.

    Both answer the same problems, so shared difficulty cancels (Miller 2024, Adding Error Bars to Evals, 2411.00640,
    section 4). Passes that repeat a problem (samples, seeds, builds) are samples of it: their mean is its value, so
    repeating what is known does not narrow the interval.

    Args:
        mine: scores of the new solver, one mapping per pass.
        theirs: scores of the old one, of the same problems in each pass.
        interval: "bca", the bias-corrected and accelerated bootstrap over problems (Efron 1987), or "t", Student's.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: no or different passes, or different problems.
    """
    differences = problem_differences(mine, theirs)
    n, mean = len(differences), math.fsum(differences) / len(differences)
    spread = math.sqrt(math.fsum((d - mean) ** 2 for d in differences) / (n - 1)) if n > 1 else 0.0
    if spread < 1e-12:
        return SpreadlessEstimate(mean, n, possible_differences(mine, theirs))
    if interval == "t":
        return TEstimate(mean, spread / math.sqrt(n), n - 1)
    _, draws = bootstrap_means(differences, resamples, seed)
    return _bca(mean, draws, differences)


def paired_p_value(mine: Sequence[Scores], theirs: Sequence[Scores]) -> float:
    """Two-sided p-value of no difference: McNemar's exact test of one pass of 0/1 scores, else the paired t-test.

    Args:
        mine: scores of the new solver, one mapping per pass.
        theirs: scores of the old one, of the same problems in each pass.

    Raises:
        ValueError: no or different passes, or different problems.
    """
    differences = problem_differences(mine, theirs)
    if len(mine) == 1 and all(score in (0, 1) for scores in (*mine, *theirs) for score in scores.values()):
        return mcnemar_exact(sum(d > 0 for d in differences), sum(d < 0 for d in differences))
    return paired_effect(mine, theirs, interval="t").p_value()


def statistic_estimate(
    statistic: Callable[[list[T]], float], groups: Sequence[Sequence[T]], *, resamples: int = 1000, seed: int = 0
) -> BootstrapEstimate:
    """Estimate any statistic of values that belong to problems, such as an AUROC, by resampling whole problems.

    Draws of which the statistic is NaN are left out.

    Args:
        statistic: of the values of all problems.
        groups: for each problem its values.
        resamples: bootstrap draws.
        seed: of the draws.
    """
    import numpy as np

    rng, draws = np.random.default_rng(seed), list[float]()
    for _ in range(resamples if groups else 0):
        value = statistic([one for i in rng.integers(len(groups), size=len(groups)) for one in groups[i]])
        draws += [] if math.isnan(value) else [value]
    whole = [one for group in groups for one in group]
    return BootstrapEstimate(statistic(whole) if whole else math.nan, np.sort(np.array(draws)))


def problem_differences(mine: Sequence[Scores], theirs: Sequence[Scores]) -> list[float]:
    """Return the mean difference of each problem over the passes that have it, in order of first appearance."""
    check_passes(mine, theirs)
    differences = defaultdict[str, list[float]](list)
    for a, b in zip(mine, theirs, strict=True):
        for problem, score in a.items():
            differences[problem].append(score - b[problem])
    return [math.fsum(d) / len(d) for d in differences.values()]


def check_passes(mine: Sequence[Scores], theirs: Sequence[Scores]) -> None:
    """Refuse scores that cannot be paired.

    Raises:
        ValueError: no or different passes, or different problems.
    """
    if len(mine) != len(theirs) or not mine:
        raise ValueError(f"expected scores of the same passes, at least one, got {len(mine)} and {len(theirs)}")
    if any(a.keys() != b.keys() or not a for a, b in zip(mine, theirs, strict=True)):
        raise ValueError("only scores on the same problems can be compared")


def possible_differences(mine: Sequence[Scores], theirs: Sequence[Scores]) -> tuple[float, float]:
    """Return the least and greatest difference of two scores: ±1 of scores in 0..1, else as far as those seen go."""
    scores = [score for scores in (*mine, *theirs) for score in scores.values()]
    low, high = min(0.0, *scores), max(1.0, *scores)
    return low - high, high - low


def _bca(mean: float, draws: np.ndarray, values: Sequence[float]) -> BootstrapEstimate:
    """The BCa bootstrap of a mean, whose influence values are the distances to it."""
    import numpy as np

    sorted_draws, away = np.sort(draws), np.asarray(values, dtype=float) - mean
    below = np.searchsorted(sorted_draws, mean - 1e-12, "left") + np.searchsorted(sorted_draws, mean + 1e-12, "right")
    size = len(sorted_draws)
    share = min(max(below / (2 * size), 1 / (size + 1)), size / (size + 1))  # ties count one half
    acceleration = float((away**3).sum() / (6 * (away**2).sum() ** 1.5))
    return BootstrapEstimate(mean, sorted_draws, NormalDist().inv_cdf(float(share)), acceleration)
