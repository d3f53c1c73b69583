"""Checks of rejection sampling: its gains by round, its coverage, and what transfers to longer problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import NamedTuple

from selftaught.measure import Interval
from selftaught.method import find
from selftaught.worlds.kit.calibration.base_model import Samples
from selftaught.worlds.kit.calibration.figures import Figure, Scores, effect_of
from selftaught.worlds.kit.calibration.lab import SAMPLING, Lab, NotApplicable, greedy, policy_of, sampled

MANY = 32  # samples per problem for pass@k at large k
MANY_SEEDS = 3  # trainings after which so many are drawn
PER_PROBLEM = 4  # records per problem of a training


@dataclass(frozen=True)
class Start:
    """The starting model on the test problems of all trainings.

    Attributes:
        core: greedy scores.
        longer: greedy scores on longer problems; empty where the world has none.
        samples: of the first of the test problems.
    """

    core: Scores
    longer: Scores
    samples: Samples


class Rounds(NamedTuple):
    """Scores of the policies of one training, in order.

    Attributes:
        core: greedy scores on the test problems.
        longer: the same on longer problems; empty where the world has none.
        samples: of the last policy; None if they were not drawn.
    """

    core: Sequence[Scores]
    longer: Sequence[Scores]
    samples: Samples | None


@dataclass(frozen=True)
class Trained:
    """Scores of the starting model and of the policies of one training, in order.

    Attributes:
        core: greedy scores on the test problems.
        longer: the same on longer problems; empty where the world has none.
        samples: of the first and of the last policy; None if they were not drawn.
    """

    core: Sequence[Scores]
    longer: Sequence[Scores] = ()
    samples: tuple[Samples, Samples] | None = None


def start_of(lab: Lab) -> Start:
    """The starting model, measured once for all trainings."""
    if "start" not in lab.shared:
        core, longer = lab.fixed.test, lab.longer
        with lab.run("start", lab.fixed.with_splits((), (), (*core, *longer))) as run:
            few = sampled(run, run.base, core[: lab.sizes.few], MANY)
            lab.shared["start"] = Start(
                greedy(run, run.base, core), greedy(run, run.base, longer) if longer else {}, Samples(few, {})
            )
    return lab.shared["start"]


def seeds_of(lab: Lab) -> range:
    """Numbers of the seeds of trainings; 0 is that of the test problems."""
    return range(1, lab.sizes.seeds + 1)


def rejection_sampling(lab: Lab) -> list[Trained]:
    """Two rounds of rejection sampling on each seed, which checks 7, 8 and 16 share."""
    if "rest-em" not in lab.shared:
        lab.shared["rest-em"] = [_from(start_of(lab), two_rounds(lab, seed)) for seed in seeds_of(lab)]
    return lab.shared["rest-em"]


def two_rounds(lab: Lab, seed: int) -> Rounds:
    """Two rounds of rejection sampling on one seed."""
    core, longer = lab.fixed.test, lab.longer
    options = {"rounds": 2, "samples": 8, "per_problem": PER_PROBLEM, **SAMPLING}
    with lab.run(f"rest-em-{seed}", lab.trained(seed, longer=True), seed=seed) as run:
        find("rest-em")(run, run.base, run.task, **options)
        policies = [policy_of(run, row["policy"]) for row in run.history]
        some = core[: lab.sizes.few if seed <= MANY_SEEDS else 0]
        return Rounds(
            [greedy(run, policy, core) for policy in policies],
            [greedy(run, policy, longer) for policy in policies] if longer else [],
            Samples(sampled(run, policies[-1], some, MANY), {}) if some else None,
        )


def _from(start: Start, rounds: Rounds) -> Trained:
    """A training with its start."""
    longer = [start.longer, *rounds.longer] if rounds.longer else []
    return Trained([start.core, *rounds.core], longer, (start.samples, rounds.samples) if rounds.samples else None)


def diminishing_gains(lab: Lab) -> dict[str, Figure]:
    """Check 7."""
    return gain_figures([one.core for one in rejection_sampling(lab)])


def gain_figures(seeds: Sequence[Sequence[Scores]]) -> dict[str, Figure]:
    """The gains of two rounds.

    Args:
        seeds: for each seed the scores of the start, of round 1 and of round 2.
    """
    start, first, second = (list(column) for column in zip(*seeds, strict=True))
    return {
        "round 1 - start": effect_of(first, start),
        "round 2 - round 1": effect_of(second, first),
        "second gain / first gain": ratio_of(_means(second, first), _means(first, start)),
        "start": Figure(fmean(map(_mean, start))),
    }


def sharpening(lab: Lab) -> dict[str, Figure]:
    """Check 8."""
    return sharpening_figures(rejection_sampling(lab))


def sharpening_figures(seeds: Sequence[Trained]) -> dict[str, Figure]:
    """The gain in pass@1 against that in pass@32, on the same samples, of the seeds that have some."""
    drawn = [one.samples for one in seeds if one.samples]
    once, many = ([(a.passed(k), b.passed(k)) for a, b in drawn] for k in (1, MANY))
    gains = [[{i: new[i] - old[i] for i in new} for old, new in column] for column in (once, many)]
    means = [[_mean(scores) for scores in column] for column in gains]
    return {
        "gain in pass@1 - gain in pass@32": effect_of(gains[0], gains[1]),
        "gain in pass@32 / gain in pass@1": ratio_of(means[1], means[0]),
        "gain in pass@1": change_of(once),
        "gain in pass@32": change_of(many),
    }


def transfer(lab: Lab) -> dict[str, Figure]:
    """Check 16."""
    if not lab.longer:
        raise NotApplicable("the world has no longer problems (CalibrationPlan.longer, World.generalization)")
    return transfer_figures(rejection_sampling(lab))


def transfer_figures(seeds: Sequence[Trained]) -> dict[str, Figure]:
    """The gain of round 1 on longer problems, absolutely and as a share of that on the trained ones."""
    start, first = [s.longer[0] for s in seeds], [s.longer[1] for s in seeds]
    core = _means([s.core[1] for s in seeds], [s.core[0] for s in seeds])
    return {
        "gain on longer problems / gain on trained ones": ratio_of(_means(first, start), core),
        "gain on longer problems": effect_of(first, start),
    }


def ratio_of(numerators: Sequence[float], denominators: Sequence[float]) -> Figure:
    """The ratio of two means over seeds, with a normal interval of its jackknife standard error.

    NaN where the denominators' mean is not positive: there was no gain to compare with. Without an interval of one
    seed, and where all but one gained nothing.
    """
    if fmean(denominators) <= 0:
        return Figure(math.nan)
    value, n = fmean(numerators) / fmean(denominators), len(numerators)
    if n < 2 or any(sum(denominators) == one for one in denominators):
        return Figure(value)
    without = [(sum(numerators) - a) / (sum(denominators) - b) for a, b in zip(numerators, denominators, strict=True)]
    half = 1.96 * math.sqrt((n - 1) / n * math.fsum((w - fmean(without)) ** 2 for w in without))
    return Figure(value, Interval(value - half, value + half))


def change_of(seeds: Sequence[tuple[Scores, Scores]]) -> Figure:
    """The mean change over seeds, of (before, after)."""
    return effect_of([after for _, after in seeds], [before for before, _ in seeds])


def _means(new: Sequence[Scores], old: Sequence[Scores]) -> list[float]:
    """The mean difference of each seed."""
    return [_mean(a) - _mean(b) for a, b in zip(new, old, strict=True)]


def _mean(scores: Mapping[str, float]) -> float:
    return math.fsum(scores.values()) / len(scores)
