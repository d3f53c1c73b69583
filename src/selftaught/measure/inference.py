"""From legs of a claim, each an estimate, to a verdict at one of several looks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from selftaught.measure.estimate import Estimate
from selftaught.measure.multiplicity import holm
from selftaught.measure.sequential import FIXED, Looks
from selftaught.measure.stats import Interval

ClaimVerdict = Literal[
    "reproduced", "contradicted", "no effect of the smallest size of interest", "inconclusive", "not testable here"
]
Outcome = Literal["holds", "contradicted", "no effect", "inconclusive"]
Stop = Literal["efficacy", "futility", "precondition", "last look"]

NO_EFFECT: ClaimVerdict = "no effect of the smallest size of interest"


@dataclass(frozen=True)
class Leg:
    """One statement of a claim: that a quantity is above `null`.

    | statement | estimate | null | min_effect |
    | --- | --- | --- | --- |
    | beats a baseline | effect on the metric | 0 | the smallest effect of interest |
    | no worse than a baseline | effect on the metric | -margin | None |
    | a statistic is above a threshold | the statistic | the threshold | None |
    | an alarm rings | `ShareEstimate(rings, seeds)` | 0.5 | None |

    Where the claim is that a quantity is lower, negate the estimate and the threshold.

    Attributes:
        name: of the baseline or statistic.
        estimate: of the quantity, positive as claimed.
        null: what the quantity must exceed.
        min_effect: the smallest effect of interest, > `null`; a leg whose effect is surely below it has "no effect".
            None where only the direction matters.
    """

    name: str
    estimate: Estimate
    null: float = 0.0
    min_effect: float | None = None

    def __post_init__(self) -> None:
        if self.min_effect is not None and self.min_effect <= self.null:
            raise ValueError(f"the smallest effect of interest must exceed {self.null}, got {self.min_effect}")


@dataclass(frozen=True)
class Precondition:
    """A manipulation check, without which a claim says nothing here: "the fixed arm levels off", "the KL moved".

    Attributes:
        name: what must be so.
        holds: whether it is.
        value: the figure that shows it.
    """

    name: str
    holds: bool
    value: float | None = None


@dataclass(frozen=True)
class LegResult:
    """What was found of a leg.

    Attributes:
        name: of the leg.
        value: the estimate.
        interval: repeated interval, which holds at all looks together with 95 %; of one look the plain one.
        outcome: "holds", "contradicted", "no effect" (smaller than the smallest effect of interest), "inconclusive".
        p_value: one-sided, that the quantity is at most the null; valid at any look.
        p_below: one-sided, that it is at least the null, corrected for the number of legs.
        p_small: one-sided, that it is at least the smallest effect of interest, likewise.
    """

    name: str
    value: float
    interval: Interval
    outcome: Outcome
    p_value: float
    p_below: float
    p_small: float | None


@dataclass(frozen=True)
class Decision:
    """The verdict on a claim at a look.

    Attributes:
        verdict: see `decide`.
        deciding: the leg that decides it.
        legs: all of them, in order.
        p_value: one-sided p-value of the whole claim, the greatest of its legs' (intersection-union test): for
            `benjamini_hochberg` over the claims of a table.
        stop: why no further look is needed; None: go on to the next look.
        failed: names of preconditions that do not hold.
    """

    verdict: ClaimVerdict
    deciding: LegResult
    legs: tuple[LegResult, ...]
    p_value: float
    stop: Stop | None
    failed: tuple[str, ...] = ()


def decide(
    legs: Sequence[Leg], *, preconditions: Sequence[Precondition] = (), looks: Looks = FIXED, look: int = 0
) -> Decision:
    """Return the verdict on a claim with all of `legs`.

    - "not testable here": a precondition does not hold.
    - "reproduced": every leg is above its null. An intersection-union test, which needs no correction for the number
      of legs (Berger 1982, Multiparameter Hypothesis Testing and Acceptance Sampling).
    - "contradicted": a leg is below its null. Any leg may be, so their p-values are corrected by Holm 1979.
    - "no effect of the smallest size of interest": a leg that is not above its null is below the smallest effect of
      interest, with the same correction (one half of an equivalence test: Lakens, Scheel & Isager 2018, Equivalence
      Testing for Psychological Research).
    - "inconclusive": neither.

    Each error has a chance of at most alpha / 2 (one-sided 2.5 %), all looks together. A check stops for efficacy when
    all legs hold, and for futility when one of them is contradicted or has no effect; stopping for futility is not
    binding: going on does not raise the error.

    Args:
        legs: at least one.
        preconditions: manipulation checks.
        looks: the looks fixed in advance.
        look: this one, from 0.

    Raises:
        ValueError: no legs, or no such look.
    """
    if not legs or not 0 <= look < len(looks.seeds):
        raise ValueError(f"expected legs and one of {len(looks.seeds)} looks, got {len(legs)} legs at look {look}")
    results = _leg_results(legs, looks, look)
    failed = tuple(p.name for p in preconditions if not p.holds)
    verdict, deciding = _verdict(results)
    last = look == len(looks.seeds) - 1
    stop: Stop | None = "last look" if last else None
    if failed:
        verdict, stop = "not testable here", "precondition"
    elif verdict != "inconclusive":
        stop = "efficacy" if verdict == "reproduced" else "futility"
    return Decision(verdict, deciding, tuple(results), max(r.p_value for r in results), stop, failed)


def untestable(names: Sequence[str]) -> Decision:
    """The decision on a claim of which no leg could be measured: "not testable here".

    Args:
        names: of its legs, at least one.
    """
    unknown = Interval(math.nan, math.nan)
    legs = tuple(LegResult(name, math.nan, unknown, "inconclusive", 1.0, 1.0, None) for name in names)
    return Decision("not testable here", legs[0], legs, 1.0, "precondition", tuple(names))


def ordered(names: Sequence[str], effects: Sequence[Estimate], *, min_effect: float | None = None) -> list[Leg]:
    """Return the legs of the claim that systems rank in this order, best first: each beats the next.

    Args:
        names: of the systems.
        effects: of each system against the next one, one fewer than names.
        min_effect: the smallest effect of interest of each step.

    Raises:
        ValueError: not one effect fewer than names.
    """
    pairs = list(pairwise(names))
    if len(pairs) != len(effects):
        raise ValueError(f"{len(names)} systems in order need {max(0, len(names) - 1)} effects, got {len(effects)}")
    return [
        Leg(f"{better} > {worse}", effect, min_effect=min_effect)
        for (better, worse), effect in zip(pairs, effects, strict=True)
    ]


def _leg_results(legs: Sequence[Leg], looks: Looks, look: int) -> list[LegResult]:
    """Test each leg against its null, in both directions, and against its smallest effect."""

    def tested(leg: Leg, null: float, above: bool) -> float:
        one_sided = leg.estimate.p_value(null, "greater" if above else "less")
        return max(one_sided, looks.repeated_p(min(1.0, 2 * one_sided), look) / 2)

    level, half = looks.level(look), looks.alpha / 2
    exceeds = [tested(leg, leg.null, True) for leg in legs]
    below = holm([tested(leg, leg.null, False) for leg in legs])
    sized = [i for i, leg in enumerate(legs) if leg.min_effect is not None]
    small = dict(zip(sized, holm([tested(legs[i], legs[i].min_effect or 0.0, False) for i in sized]), strict=True))
    results = []
    for i, leg in enumerate(legs):
        outcome: Outcome = "inconclusive"
        if exceeds[i] <= half:
            outcome = "holds"
        elif below[i] <= half:
            outcome = "contradicted"
        elif small.get(i, 1.0) <= half:
            outcome = "no effect"
        results.append(
            LegResult(leg.name, leg.estimate.value, leg.estimate.interval(level), outcome, exceeds[i], below[i],
                      small.get(i))
        )  # fmt: skip
    return results


def _verdict(results: Sequence[LegResult]) -> tuple[ClaimVerdict, LegResult]:
    """The verdict and the leg that decides it: of several, the one furthest from holding."""
    verdicts: tuple[tuple[Outcome, ClaimVerdict], ...] = (
        ("contradicted", "contradicted"), ("no effect", NO_EFFECT), ("inconclusive", "inconclusive"),
        ("holds", "reproduced"),
    )  # fmt: skip
    for outcome, verdict in verdicts:
        found = [r for r in results if r.outcome == outcome]
        if found:
            return verdict, max(found, key=lambda r: r.p_value)
    raise AssertionError("unreachable: every leg has an outcome")
