"""From what the seeds gave to a verdict on each contrast of a claim."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from selftaught.check.legs import (
    CONTRASTS,
    FIXED_BASELINES,
    Alarm,
    AnyBaseline,
    Baseline,
    Beats,
    Contrast,
    Leg,
    Metric,
    NoWorse,
    Ordered,
    Statistic,
    name_of,
)
from selftaught.check.outcome import Outcome, SeedResult
from selftaught.check.seed import contrasts_of
from selftaught.check.setup import Check
from selftaught.check.statistics import statistic_of_seeds
from selftaught.measure import (
    Decision,
    Estimate,
    Interval,
    Looks,
    ShareEstimate,
    crossed_effect,
    decide,
    paired_effect,
    untestable,
)
from selftaught.measure.inference import Leg as TestedLeg
from selftaught.measure.inference import Precondition as TestedPrecondition


@dataclass(frozen=True)
class LegTest:
    """A leg as it is tested: with its estimate in the claimed direction.

    Attributes:
        kind: "beats", "no worse", "ordered", "statistic" or "alarm".
        against: the baseline, if it is compared with one.
        sign: -1 where the estimate is negated because lower is claimed.
        tested: what `measure.decide` gets; None where the leg cannot be tested.
    """

    kind: str
    against: str
    sign: int
    tested: TestedLeg | None

    def raw(self, value: float, interval: Interval) -> tuple[float, Interval]:
        """A value and an interval as measured, not in the claimed direction."""
        low, high = sorted((self.sign * interval.low, self.sign * interval.high))
        return self.sign * value, Interval(low, high)


def systems(trial: SeedResult, contrast: Contrast) -> Mapping[str, Outcome]:
    """The baselines of a contrast."""
    if contrast == "as published":
        return trial.published
    return trial.fitted


def effect_of(what: Check, mine: Sequence[Mapping[str, float]], theirs: Sequence[Mapping[str, float]],
              builds: Sequence[str]) -> Estimate:  # fmt: skip
    """The effect mine - theirs over seeds: by problem where nothing is trained, else over seeds and problems too."""
    if what.by_problem:
        return paired_effect(mine, theirs)
    return crossed_effect(mine, theirs, builds=builds if _comparable(builds) else None)


def leg_tests(what: Check, trials: Sequence[SeedResult], contrast: Contrast) -> list[LegTest]:
    """The legs of a contrast, tested on the seeds so far; empty if the claim has none there.

    Legs without a baseline are of the contrast as published.
    """
    found: list[LegTest] = []
    for index, leg in enumerate(what.claim.all_legs):
        if isinstance(leg, (Statistic, Alarm)):
            found += [_statistic(what, trials, index, leg)] if contrast == "as published" else []
        elif takes_part(what, leg, contrast, trials):
            found += _comparisons(what, trials, leg, contrast)
    return found


def takes_part(what: Check, leg: Leg, contrast: Contrast, trials: Sequence[SeedResult]) -> bool:
    """Whether all baselines of a leg take part in a contrast, and were run in it on every seed."""
    names: list[AnyBaseline | None] = list(leg.systems) if isinstance(leg, Ordered) else []
    names += [leg.baseline] if isinstance(leg, (Beats, NoWorse)) else []
    known = what.claim.all_baselines
    named = [known[name_of(one)] for one in names if one is not None]
    return all(
        contrast in contrasts_of(what, one) and all(name_of(one) in systems(trial, contrast) for trial in trials)
        for one in named
    )


def left_out(what: Check, trials: Sequence[SeedResult], contrast: Contrast) -> dict[str, str]:
    """Baselines of the claim's legs that are not compared in a contrast, by name, and why."""
    found: dict[str, str] = {}
    for name, baseline in what.claim.leg_baselines.items():
        if contrast in contrasts_of(what, baseline):
            why = [trial.unfitted[name] for trial in trials if name in trial.unfitted]
            found |= {name: why[0]} if why and contrast == "equal compute" else {}
        elif isinstance(baseline, Baseline):
            found[name] = "the claim does not compare it there"
        else:
            one = baseline in FIXED_BASELINES
            found[name] = "it gives one answer per problem" if one else f"{what.method.id} has no number of samples"
    return found


def cannot_fit(what: Check, trials: Sequence[SeedResult], contrast: Contrast) -> dict[str, str]:
    """Those of them that the claim asks for in this contrast."""
    known, found = what.claim.leg_baselines, left_out(what, trials, contrast)
    return {name: why for name, why in found.items() if contrast in contrasts_of(what, known[name])}


def decisions(
    what: Check, trials: Sequence[SeedResult], looks: Looks, look: int
) -> dict[Contrast, tuple[Decision, list[LegTest]]]:
    """The verdict on each contrast that the claim has, at a look.

    It is "not testable here" where a precondition fails, and where a baseline cannot be given the method's compute:
    without it the claim would be easier than declared.
    """
    conditions = [
        TestedPrecondition(one.name, one.holds(value), value)
        for one, value in zip(what.claim.preconditions, condition_values(what, trials), strict=True)
    ]
    found: dict[Contrast, tuple[Decision, list[LegTest]]] = {}
    for contrast in CONTRASTS:
        tests, missing = leg_tests(what, trials, contrast), cannot_fit(what, trials, contrast)
        if tests:
            needed = [*conditions, *(TestedPrecondition(name, False) for name in missing)]
            legs = [one.tested for one in tests if one.tested]
            found[contrast] = decide(legs, preconditions=needed, looks=looks, look=look), tests
        elif missing:
            found[contrast] = untestable(list(missing)), [LegTest("beats", name, 1, None) for name in missing]
    return found


def condition_values(what: Check, trials: Sequence[SeedResult]) -> list[float | None]:
    """The mean value of each precondition over the seeds on which it could be measured; None without any."""
    means: list[float | None] = []
    for index, one in enumerate(what.claim.preconditions):
        values: list[float] = []
        for trial in trials:
            value = _value_on(trial, index, None if one.of is None else name_of(one.of))
            less = 0.0 if one.over is None else _value_on(trial, index, name_of(one.over))
            values += [] if value is None or less is None else [value - less]
        means.append(math.fsum(values) / len(values) if values else None)
    return means


def _value_on(trial: SeedResult, index: int, name: str | None) -> float | None:
    if name is None:
        return trial.method.values.get(index)
    outcome = trial.measured.get(name)
    return outcome.values.get(index) if outcome else None


def _comparisons(what: Check, trials: Sequence[SeedResult], leg: Leg, contrast: Contrast) -> list[LegTest]:
    claim, sign = what.claim, what.claim.sign

    def estimate(better: str | None, worse: str, metric: Metric | None) -> Estimate:
        mine, theirs = (_scores(trials, who, contrast, metric or claim.metric) for who in (better, worse))
        effect = effect_of(what, mine, theirs, [trial.build for trial in trials])
        return effect if sign > 0 else -effect

    if isinstance(leg, Ordered):
        names = [None if one is None else name_of(one) for one in leg.systems]
        found: list[LegTest] = []
        for better, worse in pairwise(names):
            shown = f"{better or what.method.id} > {worse or what.method.id}"
            effect = _between(estimate, better, worse, leg.metric)
            tested = TestedLeg(shown, effect, 0.0, claim.min_effect)
            found.append(LegTest("ordered", worse or better or "", sign, tested))
        return found
    assert isinstance(leg, (Beats, NoWorse))
    name = name_of(leg.baseline)
    effect = estimate(None, name, leg.metric)
    if isinstance(leg, NoWorse):
        return [LegTest("no worse", name, sign, TestedLeg(f"no worse than {name}", effect, -leg.margin))]
    return [LegTest("beats", name, sign, TestedLeg(name, effect, 0.0, leg.min_effect or claim.min_effect))]


def _between(estimate: Any, better: str | None, worse: str | None, metric: Metric | None) -> Estimate:
    """The effect of `better` over `worse`, either of which may be the method."""
    return -estimate(None, better, metric) if worse is None else estimate(better, worse, metric)


def _scores(
    trials: Sequence[SeedResult], name: str | None, contrast: Contrast, metric: Metric
) -> list[Mapping[str, float]]:
    outcomes = [trial.method if name is None else systems(trial, contrast)[name] for trial in trials]
    return [outcome.scores[metric] for outcome in outcomes]


# --- statistics and alarms ---


def _statistic(what: Check, trials: Sequence[SeedResult], index: int, leg: Statistic | Alarm) -> LegTest:
    if isinstance(leg, Alarm):
        rings = sum(leg.name in trial.method.alarms for trial in trials)
        return LegTest("alarm", "", 1, TestedLeg(f"alarm {leg.name}", ShareEstimate(rings, len(trials)), leg.share))
    found = statistic_of_seeds(trials, index, leg, by_problem=what.by_problem)
    against = "" if leg.over is None else name_of(leg.over)
    if leg.at_least is not None:
        return LegTest("statistic", against, 1, TestedLeg(leg.name, found, leg.at_least))
    return LegTest("statistic", against, -1, TestedLeg(leg.name, -found, -(leg.at_most or 0.0)))


def _comparable(builds: Sequence[str]) -> bool:
    """Whether several builds took part, some of them on two seeds, so that they can be told from the seeds."""
    kinds = set(builds)
    return len(kinds) > 1 and any(builds.count(one) > 1 for one in kinds)
