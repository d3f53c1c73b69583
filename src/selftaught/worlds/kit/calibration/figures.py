"""Figures with intervals, the ranges they must lie in, and what a check found."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from selftaught.measure import Interval, crossed_effect, paired_effect, statistic_estimate, wilson
from selftaught.measure.estimate import Estimate

T = TypeVar("T")
Scores = Mapping[str, float]
NO_INTERVAL = Interval(math.nan, math.nan)


@dataclass(frozen=True, slots=True)
class Figure:
    """A measured number.

    Attributes:
        value: the estimate.
        ci95: its 95 % interval; NaN at both ends where there is none.
    """

    value: float
    ci95: Interval = NO_INTERVAL


@dataclass(frozen=True, slots=True)
class Wanted:
    """The range that a figure must lie in.

    Attributes:
        text: in words.
        holds: whether a figure lies in it.
    """

    text: str
    holds: Callable[[Figure], bool]


def at_least(low: float) -> Wanted:
    """The estimate is at least `low`."""
    return Wanted(f"≥ {low:g}", lambda figure: figure.value >= low)


def at_most(high: float) -> Wanted:
    """The estimate is at most `high`."""
    return Wanted(f"≤ {high:g}", lambda figure: figure.value <= high)


def between(low: float, high: float) -> Wanted:
    """The estimate is in a range, ends included."""
    return Wanted(f"{low:g} to {high:g}", lambda figure: low <= figure.value <= high)


def above(low: float) -> Wanted:
    """The whole interval lies above `low`."""
    return Wanted(f"interval above {low:g}", lambda figure: figure.ci95.low > low)


def below(high: float) -> Wanted:
    """The whole interval lies below `high`."""
    return Wanted(f"interval below {high:g}", lambda figure: figure.ci95.high < high)


def not_above(high: float) -> Wanted:
    """The interval does not lie above `high`: there is no evidence of more."""
    return Wanted(f"interval not above {high:g}", lambda figure: figure.ci95.low <= high)


@dataclass(frozen=True, slots=True)
class CheckSpec:
    """A check of the suite.

    Attributes:
        number: its number.
        name: what it looks at, in a few words.
        known: the property of base models that it stands for, as a sentence.
        source: where that is reported; "unconfirmed" where it was recalled and not looked up.
        wanted: name of each figure -> the range it must lie in; the first one is the check's own figure.
        seconds: what it took on two cores, relative to the others.
    """

    number: int
    name: str
    known: str
    source: str
    wanted: Mapping[str, Wanted]
    seconds: float


@dataclass(frozen=True)
class Finding:
    """What a check found.

    Attributes:
        spec: the check.
        figures: by name; those that the check asks for and others for the reader.
        reason: why it is not applicable; empty if it is.
        seconds: what it took.
    """

    spec: CheckSpec
    figures: Mapping[str, Figure] = field(default_factory=dict)
    reason: str = ""
    seconds: float = 0.0

    @property
    def holds(self) -> bool:
        """Whether every figure asked for is there and in its range; a check that is not applicable does not hold."""
        return not self.reason and all(self.condition(name) for name in self.spec.wanted)

    def condition(self, name: str) -> bool:
        """Whether a figure is there and in its range."""
        figure = self.figures.get(name)
        return figure is not None and not math.isnan(figure.value) and self.spec.wanted[name].holds(figure)

    def to_json(self) -> dict[str, Any]:
        """Plain data: the first figure as the check's own, all of them as conditions; NaN becomes None."""
        conditions = [
            {"name": name, "holds": self.condition(name), **_plain(self.figures.get(name)), "threshold": wanted.text}
            for name, wanted in self.spec.wanted.items()
        ]
        first, also = conditions[0], {n: _plain(f) for n, f in self.figures.items() if n not in self.spec.wanted}
        return {
            "number": self.spec.number, "name": self.spec.name, "holds": self.holds, "value": first["value"],
            "ci95": first["ci95"], "threshold": first["threshold"], "conditions": conditions, "also": also,
            "known": self.spec.known, "source": self.spec.source, "not_applicable": self.reason,
            "seconds": round(self.seconds, 1),
        }  # fmt: skip


def _plain(figure: Figure | None) -> dict[str, Any]:
    if figure is None or math.isnan(figure.value):
        return {"value": None, "ci95": None}
    ends = None if math.isnan(figure.ci95.low) else [round(x, 4) for x in figure.ci95]
    return {"value": round(figure.value, 4), "ci95": ends}


def mean_of(values: Sequence[float]) -> Figure:
    """The mean of one value per problem, with the normal interval of its standard error."""
    n = len(values)
    if n < 2:
        return Figure(values[0] if values else math.nan)
    mean = math.fsum(values) / n
    half = 1.96 * math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1) / n)
    return Figure(mean, Interval(mean - half, mean + half))


def difference_of(new: Scores, old: Scores) -> Figure:
    """The mean over problems of new - old, paired by problem.

    Raises:
        ValueError: their problems differ.
    """
    return figure_of(paired_effect([new], [old], interval="t"))


def share_of(hits: Sequence[bool]) -> Figure:
    """The share of hits, with Wilson's interval; NaN of nothing."""
    return Figure(sum(hits) / len(hits), wilson(sum(hits), len(hits))) if hits else Figure(math.nan)


def statistic_of(statistic: Callable[[list[T]], float], groups: Sequence[Sequence[T]], resamples: int = 500) -> Figure:
    """A statistic of the values of all problems, with the bootstrap interval over problems.

    Args:
        groups: for each problem its values.
    """
    return figure_of(statistic_estimate(statistic, groups, resamples=resamples))


def effect_of(new: Sequence[Scores], old: Sequence[Scores]) -> Figure:
    """The mean effect of trainings, over seeds and problems; one seed: over its problems alone.

    Args:
        new: for each seed, problem -> score.
        old: the same seeds and problems.
    """
    if len(new) == 1:
        return difference_of(new[0], old[0])
    return figure_of(crossed_effect(new, old))


def figure_of(estimate: Estimate) -> Figure:
    """An estimate with its 95 % interval."""
    return Figure(estimate.value, estimate.interval())
