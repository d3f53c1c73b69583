"""Effects of trained methods: runs differ by seed and by build of the base model, and share test problems or do not."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from selftaught.measure.estimate import Alternative, SpreadlessEstimate, TEstimate
from selftaught.measure.paired import Scores, check_passes, possible_differences
from selftaught.measure.stats import Interval

if TYPE_CHECKING:
    import numpy as np

Design = Literal["crossed", "nested", "overlapping"]


@dataclass(frozen=True)
class CrossedEffect:
    """A mean difference with its standard error over runs and problems.

    Attributes:
        estimate: the mean and what intervals are computed from.
        components: estimated standard deviations of a difference that come from the "build", the "seed", the
            "problem" and the "residual" (of one run on one problem); 0 where not positive or not identified.
        by_build: mean difference of each build.
        runs: number of runs (seeds).
        problems: number of distinct test problems.
        design: "crossed" if all runs were tested on the same problems, "nested" if no two share any.
    """

    estimate: TEstimate | SpreadlessEstimate
    components: Mapping[str, float]
    by_build: Mapping[str, float]
    runs: int
    problems: int
    design: Design

    @property
    def value(self) -> float:
        """The mean difference: over problems, runs of a build, and builds."""
        return self.estimate.value

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided confidence interval."""
        return self.estimate.interval(level)

    def p_value(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """p-value of the hypothesis that the mean difference is `null`."""
        return self.estimate.p_value(null, alternative)

    def __neg__(self) -> CrossedEffect:
        return replace(self, estimate=-self.estimate, by_build={b: -value for b, value in self.by_build.items()})


def crossed_effect(
    mine: Sequence[Scores], theirs: Sequence[Scores], *, builds: Sequence[str] | None = None,
    build_effect: Literal["blocked", "random"] = "blocked",
) -> CrossedEffect:  # fmt: skip
    """Estimate the mean of mine - theirs over runs and problems, both of which are random.

    With runs s and a fixed set of problems i shared by them, d[s, i] = mean + run + problem + residual, and

        Var(mean) = sigma_s² / S + sigma_i² / n + sigma_e² / (S n)

    estimated by ANOVA: the variance of the runs' means over S covers the first and the last term; the mean covariance
    of two runs' means through the problems that they share is the second one. This is (MS_s + MS_i - MS_e) / (S n) of
    the two-way layout without replication, and where runs share no problems the variance of their means alone.
    Degrees of freedom are Satterthwaite's (1946, An Approximate Distribution of Estimates of Variance Components); of
    runs that share no problems they are S - 1 (Cameron & Miller 2015, A Practitioner's Guide to Cluster-Robust
    Inference, section VI: unconfirmed). Every build has the same weight, however many runs it has.

    Args:
        mine: for each run, problem id -> score of the method.
        theirs: of the baseline, in the same runs (same seed, build and train problems) and on the same problems.
        builds: the build of the base model that each run started from; None: all the same.
        build_effect: "blocked": the effect on these builds; runs are compared within them. "random": on all builds
            of which these are a sample; the builds are then what is counted, and few give a wide interval.

    Raises:
        ValueError: different runs or problems, or a build effect that cannot be estimated: fewer than two runs of
            any build when blocked, fewer than two builds when random.
    """
    check_passes(mine, theirs)
    return effect_of_differences(
        _table(mine, theirs), builds=builds, build_effect=build_effect, bounds=possible_differences(mine, theirs)
    )


def effect_of_differences(
    d: np.ndarray, *, builds: Sequence[str] | None = None, build_effect: Literal["blocked", "random"] = "blocked",
    bounds: tuple[float, float] = (-1.0, 1.0),
) -> CrossedEffect:  # fmt: skip
    """Estimate the mean of paired differences, see `crossed_effect`.

    Args:
        d: differences, runs x distinct problems, NaN where a run was not tested on a problem.
        builds: the build that each run started from; None: all the same.
        build_effect: see `crossed_effect`.
        bounds: least and greatest possible difference.

    Raises:
        ValueError: a build effect that cannot be estimated.
    """
    import numpy as np

    labels = _labels(builds, len(d))
    names = list(dict.fromkeys(labels))
    groups = np.array([names.index(label) for label in labels])
    runs = _Layout(d, groups)
    units = runs if build_effect == "blocked" else _Layout(_build_means(d, groups), None)
    if units.freedom < 1:
        what = "runs of a build" if build_effect == "blocked" else "builds"
        raise ValueError(f"an interval needs at least two {what}, got {len(d)} runs of {len(names)} builds")
    by_build = {name: float(value) for name, value in zip(names, runs.build_means, strict=True)}
    estimate = _estimate(units, bounds, d.shape[1])
    return CrossedEffect(estimate, runs.components(), by_build, len(d), d.shape[1], _design(d))


def pigeonhole_interval(
    mine: Sequence[Scores], theirs: Sequence[Scores], *, builds: Sequence[str] | None = None, level: float = 0.95,
    resamples: int = 2000, seed: int = 0,
) -> Interval:  # fmt: skip
    """Percentile interval of the mean difference by the pigeonhole bootstrap: a check of `crossed_effect`.

    Runs, within their build, and problems are resampled independently of each other, and a cell counts as often as its
    run and its problem were drawn together (Owen 2007, The Pigeonhole Bootstrap, Annals of Applied Statistics 1). It
    overstates the residual part a little, and with few runs it is too narrow, as every bootstrap of few units is.

    Args:
        mine: for each run, problem id -> score of the method.
        theirs: of the baseline, in the same runs and on the same problems.
        builds: the build of each run; None: all the same.
        level: the nominal coverage.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: different runs or problems.
    """
    import numpy as np

    check_passes(mine, theirs)
    labels, d = _labels(builds, len(mine)), _table(mine, theirs)
    rng, seen, filled = np.random.default_rng(seed), ~np.isnan(d), np.nan_to_num(d)
    weights = np.zeros((resamples, len(mine)))
    for name in dict.fromkeys(labels):
        rows = [r for r, label in enumerate(labels) if label == name]
        weights[:, rows] = rng.multinomial(len(rows), np.full(len(rows), 1 / len(rows)), size=resamples) / len(rows)
    n = d.shape[1]
    draws = []
    for block in np.array_split(weights, max(1, resamples * n >> 20)):
        times = rng.multinomial(n, np.full(n, 1 / n), size=len(block))
        sums, counts = times @ filled.T, times @ seen.T
        draws.append((block * sums / np.maximum(counts, 1)).sum(1) / (block * (counts > 0)).sum(1))
    low, high = np.quantile(np.concatenate(draws), [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


class _Layout:
    """Means, mean squares and shared covariances of differences d[run, problem], NaN where a run lacks a problem."""

    def __init__(self, d: np.ndarray, groups: np.ndarray | None) -> None:
        import numpy as np

        self.groups = np.zeros(len(d), int) if groups is None else groups
        builds = int(self.groups.max()) + 1
        self.member = np.equal.outer(np.arange(builds), self.groups)  # builds x runs
        self.sizes = self.member.sum(1)
        self.weights = 1 / (builds * self.sizes[self.groups])
        self.means = np.nanmean(d, axis=1)
        self.build_means = self.member @ self.means / self.sizes
        self.freedom = len(d) - builds
        within = ((self.means - self.build_means[self.groups]) ** 2).sum()
        self.run_square = float(within / self.freedom) if self.freedom else 0.0
        counts = (~np.isnan(d)).sum(1)
        self.per_run = float(counts.mean())
        away = np.nan_to_num(d - self.means[:, None]) / np.sqrt(counts * np.maximum(counts - 1, 1))[:, None]
        self.covariances = away @ away.T  # of two runs' means, through the problems that they share
        self.shared = self._shared()

    def _shared(self) -> np.ndarray:
        """The mean covariance of two different runs of build a and of build b; of a build with one run, of the rest."""
        import numpy as np

        m = self.member.astype(float)
        sums = m @ self.covariances @ m.T - np.diag(m @ np.diag(self.covariances))
        pairs = np.outer(self.sizes, self.sizes) - np.diag(self.sizes)
        shared = np.divide(sums, pairs, out=np.zeros_like(sums), where=pairs > 0)
        known = pairs.diagonal() > 0
        rest = shared.diagonal()[known].mean() if known.any() else _off_diagonal_mean(shared)
        np.fill_diagonal(shared, np.where(known, shared.diagonal(), rest))
        return shared

    def variances(self) -> tuple[float, float]:
        """The variance of the mean in two parts: of runs, residual included, and of the problems that they share."""
        return float((self.weights**2).sum()) * self.run_square, max(0.0, float(self.shared.mean()))

    def satterthwaite(self, problems: int) -> float:
        """Degrees of freedom of the sum of `variances`."""
        runs, shared = self.variances()
        spread = runs**2 / self.freedom
        if shared > 0 and problems > 1:
            both = float(self.weights @ self.covariances @ self.weights)
            spread += (both**2 + (both - shared) ** 2 / self.freedom) / (problems - 1)
        return (runs + shared) ** 2 / spread if spread > 0 else math.inf

    def components(self) -> dict[str, float]:
        """Standard deviations by source, see `CrossedEffect`."""
        sampling, within = float(self.covariances.diagonal().mean()), float(self.shared.diagonal().mean())
        between = _off_diagonal_mean(self.shared) if len(self.sizes) > 1 else within
        build = 0.0
        if len(self.sizes) > 1:
            square = float(self.build_means.var(ddof=1))
            build = square - self.run_square * float((1 / self.sizes).mean()) - (within - between)
        variances = {
            "build": build, "seed": self.run_square - (sampling - within) if self.freedom else 0.0,
            "problem": self.per_run * within, "residual": self.per_run * (sampling - max(0.0, within)),
        }  # fmt: skip
        return {name: math.sqrt(max(0.0, variance)) for name, variance in variances.items()}


def _estimate(layout: _Layout, bounds: tuple[float, float], problems: int) -> TEstimate | SpreadlessEstimate:
    """The mean with its error; where all runs have the same mean, with the sampling error of the problems."""
    value = float(layout.build_means.mean())
    variance = sum(layout.variances())
    if variance > 1e-24:
        return TEstimate(value, math.sqrt(variance), layout.satterthwaite(problems))
    sampling = float((layout.weights**2) @ layout.covariances.diagonal())
    if sampling > 1e-24:
        return TEstimate(value, math.sqrt(sampling), problems - 1)
    return SpreadlessEstimate(value, problems, bounds)


def _labels(builds: Sequence[str] | None, runs: int) -> Sequence[str]:
    """The build of each run."""
    if builds is not None and len(builds) != runs:
        raise ValueError(f"expected the build of each of {runs} runs, got {len(builds)}")
    return builds if builds is not None else [""] * runs


def _table(mine: Sequence[Scores], theirs: Sequence[Scores]) -> np.ndarray:
    """The differences, runs x distinct problems, NaN where a run was not tested on a problem."""
    import numpy as np

    columns = {problem: j for j, problem in enumerate(dict.fromkeys(p for a in mine for p in a))}
    d = np.full((len(mine), len(columns)), np.nan)
    for row, a, b in zip(d, mine, theirs, strict=True):
        row[[columns[p] for p in a]] = [a[p] - b[p] for p in a]
    return d


def _build_means(d: np.ndarray, groups: np.ndarray) -> np.ndarray:
    """The mean difference of each build on each problem, builds x problems."""
    import numpy as np

    rows = [d[groups == g] for g in range(groups.max() + 1)]
    seen = [(~np.isnan(row)).sum(0) for row in rows]
    sums = [np.nan_to_num(row).sum(0) for row in rows]
    return np.array([np.where(n > 0, s / np.maximum(n, 1), np.nan) for s, n in zip(sums, seen, strict=True)])


def _design(d: np.ndarray) -> Design:
    """How runs share problems."""
    import numpy as np

    times = (~np.isnan(d)).sum(0)
    if (times == len(d)).all():
        return "crossed"
    return "nested" if times.max() == 1 else "overlapping"


def _off_diagonal_mean(square: np.ndarray) -> float:
    """The mean of the entries beside the diagonal; 0 if there are none."""
    size = len(square)
    return float((square.sum() - square.trace()) / (size * (size - 1))) if size > 1 else 0.0
