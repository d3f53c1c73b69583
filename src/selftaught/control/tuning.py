"""Tune temperature, number of samples and reward threshold by the balance score on a probe of problems."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from statistics import fmean, stdev

from selftaught.control.balance import (
    Groups,
    ScoredAttempt,
    dynamics,
    first_samples,
    group_by_problem,
    rank,
    ranked_scores,
)
from selftaught.errors import BadInput
from selftaught.records import Problem

SampleFn = Callable[[Sequence[Problem], float, int], Iterable[ScoredAttempt]]
"""`(problems, temperature, n)`: n scored attempts at each problem, those of one problem together."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """How to sample and select.

    Attributes:
        temperature: of sampling.
        samples: attempts per problem.
        threshold: an attempt is selected if its reward is above it.
    """

    temperature: float
    samples: int
    threshold: float


@dataclass(frozen=True, slots=True)
class SamplingChoice:
    """The chosen setting, and the samples it was chosen on.

    Attributes:
        config: the chosen setting.
        score: its mean balance score on the probe.
        groups: all attempts drawn on the probe at its temperature; reuse them instead of sampling again.
        tried: temperature -> number of problems it was tried on, and its best mean score there.
    """

    config: SamplingConfig
    score: float
    groups: Groups
    tried: Mapping[float, tuple[int, float]]

    @property
    def probed(self) -> Groups:
        """The attempts at the probe that the chosen number of samples covers."""
        return first_samples(self.groups, self.config.samples)

    def metrics(self, target: int) -> dict[str, float]:
        """The setting, and exploration and exploitation on the probe under it, as named numbers to log."""
        return asdict(self.config) | asdict(dynamics(self.probed, self.config.threshold, target))


@dataclass(frozen=True, slots=True)
class BalanceTuner:
    """Choose the setting with the highest mean balance score on a probe of problems.

    Comparing thresholds and numbers of samples is free: the same samples are scored again. Temperatures compete by
    successive halving (Jamieson & Talwalkar, 1502.07943): all on a few problems, the better half on twice as many, and
    so on until two compete on the whole probe. With an earlier choice, only its neighbors compete. So 8 temperatures
    cost 4 probes where a grid costs 8, and 3 neighbors cost 2.5.

    The number of samples chosen is the smallest whose score is within one standard error of the best (the rule of
    Breiman et al., 1984, on the paired differences). Among equally good thresholds the strictest is chosen.

    Attributes:
        temperatures: candidates, in rising order.
        samples: candidate numbers of attempts per problem.
        thresholds: candidate rewards.
        target: n*, right answers wanted per problem.
        size: answers to select per problem, on average; None: n*.
        reference: count a reference solution in selection and score, see `control.balance`.

    Raises:
        BadInput: nothing to choose from, or `target` or `size` below 1.
    """

    temperatures: tuple[float, ...]
    samples: tuple[int, ...]
    thresholds: tuple[float, ...]
    target: int = 8
    size: float | None = None
    reference: bool = False

    def __post_init__(self) -> None:
        for name in ("temperatures", "samples", "thresholds"):
            if not getattr(self, name):
                raise BadInput("nothing to choose from", where=f"BalanceTuner.{name}", fix="give at least one value")
        if self.target < 1 or min(self.samples) < 1:
            got = f"target={self.target}, samples={min(self.samples)}"
            raise BadInput(f"target and samples must be at least 1, got {got}", where="BalanceTuner")
        if self.size is not None and self.size < 1:
            raise BadInput(f"size must be at least 1, got {self.size}", where="BalanceTuner")

    def choose(
        self, problems: Sequence[Problem], sample: SampleFn, near: SamplingConfig | None = None
    ) -> SamplingChoice:
        """Choose the setting for these problems.

        Args:
            problems: the probe, in random order, as prefixes of it are used.
            sample: draws and scores attempts.
            near: an earlier choice, to try only its neighbors; None tries all temperatures.

        Raises:
            BadInput: no problems.
        """
        if not problems:
            raise BadInput("no problems to probe", where="BalanceTuner.choose", fix="pass some train problems")
        candidates = self._candidates(near)
        drawn: dict[float, dict[str, list[ScoredAttempt]]] = {temperature: {} for temperature in candidates}
        tried: dict[float, tuple[int, float]] = {}
        start = 0
        for size in _rungs(len(candidates), len(problems)):
            for temperature in candidates:
                fresh = sample(problems[start:size], temperature, max(self.samples))
                drawn[temperature] |= group_by_problem(fresh)
                tried[temperature] = size, self._best(drawn[temperature], temperature)[0]
            start = size
            candidates = sorted(candidates, key=lambda t: -tried[t][1])[: math.ceil(len(candidates) / 2)]
        groups = drawn[candidates[0]]
        score, config = self._best(groups, candidates[0])
        return SamplingChoice(config, score, groups, tried)

    def rechoose_threshold(self, config: SamplingConfig, groups: Groups) -> SamplingConfig:
        """The same setting, with the threshold whose mean score on other attempts is highest.

        Args:
            groups: attempts sampled at the setting's temperature, such as those at all problems.
        """
        return replace(config, threshold=self._best_threshold(groups)[1])

    def _best_threshold(self, groups: Groups) -> tuple[float, float, list[float]]:
        """The highest mean score, its threshold, the strictest of equally good ones, and the score of each problem."""
        ranked = rank(groups, reference=self.reference)  # once for all thresholds
        scores = ((x, list(ranked_scores(ranked, x, self.target, self.size).values())) for x in self.thresholds)
        return max((fmean(values), x, values) for x, values in scores)

    def _candidates(self, near: SamplingConfig | None) -> list[float]:
        """The temperatures that compete."""
        if near is None:
            return list(self.temperatures)
        order = sorted(range(len(self.temperatures)), key=lambda i: abs(self.temperatures[i] - near.temperature))
        return list(self.temperatures[max(0, order[0] - 1) : order[0] + 2])

    def _best(self, groups: Groups, temperature: float) -> tuple[float, SamplingConfig]:
        """The best setting at a temperature, with its mean score."""
        best = {n: self._best_threshold(first_samples(groups, n)) for n in self.samples}
        top, _, scores = max(best.values(), key=lambda row: row[0])
        near = [n for n, (mean, _, mine) in best.items() if top - mean <= _error(scores, mine)]
        samples = min(near)
        return best[samples][0], SamplingConfig(temperature, samples, best[samples][1])


def _error(one: Sequence[float], other: Sequence[float]) -> float:
    """Standard error of the mean paired difference."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    return stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0


def _rungs(count: int, problems: int) -> list[int]:
    """Number of problems used at each stage of the halving, doubling up to all of them."""
    stages = max(1, math.ceil(math.log2(count)))
    return [math.ceil(problems / 2 ** (stages - 1 - stage)) for stage in range(stages)]


def halving_grid(most: int, least: int) -> tuple[int, ...]:
    """`most` and its successive halves down to `least`, in rising order."""
    found = [most]
    while found[-1] // 2 >= max(1, least):
        found.append(found[-1] // 2)
    return tuple(reversed(found))


def linspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` evenly spaced numbers from `low` to `high`; only `low` where `count` is 1."""
    step = (high - low) / max(1, count - 1)
    return tuple(round(low + i * step, 6) for i in range(count))


THRESHOLDS = linspace(-1.0, 0.99, 200)
"""The reward thresholds that the authors' code of 2412.17256 tries; a reference solution, of reward 1, is above all."""
