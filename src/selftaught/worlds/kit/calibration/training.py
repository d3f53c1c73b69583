"""Checks of what training does: rejection sampling, majority labels, unfiltered and inverted filters, preferences."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

from selftaught.curate import finished, pairs, right_times_wrong
from selftaught.curate.keep import demos_of
from selftaught.learn import sft
from selftaught.learn.objectives import rpo
from selftaught.measure import Interval
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Demo, Verdict
from selftaught.run.run import Run
from selftaught.worlds.kit.calibration.base_model import Samples, samples_of
from selftaught.worlds.kit.calibration.figures import Figure, Scores, effect_of, share_of
from selftaught.worlds.kit.calibration.lab import SAMPLING, Lab, NotApplicable, greedy, policy_of, sampled

MANY = 32  # samples per problem for pass@k at large k
MANY_SEEDS = 3  # trainings after which so many are drawn
SOME = 8  # samples per problem for pass@k and distinct answers after training
PER_PROBLEM = 4  # records per problem of a training
PREFERENCE_LR_SCALE = 0.2  # as in the claim of `preferences`


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


@dataclass(frozen=True)
class Trained:
    """Scores of the starting model and of the policies of one training, in order.

    Attributes:
        core: greedy scores on the test problems.
        longer: the same on longer problems; empty where the world has none.
        samples: of the first and of the last policy; None if they were not drawn.
    """

    core: list[Scores]
    longer: list[Scores] = field(default_factory=list)
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
        lab.shared["rest-em"] = [_two_rounds(lab, seed) for seed in seeds_of(lab)]
    return lab.shared["rest-em"]


def _two_rounds(lab: Lab, seed: int) -> Trained:
    start, core, longer = start_of(lab), lab.fixed.test, lab.longer
    options = {"rounds": 2, "samples": 8, "per_problem": PER_PROBLEM, **SAMPLING}
    with lab.run(f"rest-em-{seed}", lab.trained(seed, longer=True), seed=seed) as run:
        find("rest-em")(run, run.base, run.task, **options)
        rounds = [policy_of(run, row["policy"]) for row in run.history]
        drawn = None
        if seed <= MANY_SEEDS:
            drawn = start.samples, Samples(sampled(run, rounds[-1], core[: lab.sizes.few], MANY), {})
        return Trained(
            [start.core, *(greedy(run, policy, core) for policy in rounds)],
            [start.longer, *(greedy(run, policy, longer) for policy in rounds)] if longer else [],
            drawn,
        )


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


@dataclass(frozen=True)
class Changed:
    """The starting model and a trained policy on the same problems.

    Attributes:
        greedy: scores before and after.
        other: pass@8, or the share of distinct answers, before and after.
        alarms: lines of the alarms that rang.
    """

    greedy: tuple[Scores, Scores]
    other: tuple[Scores, Scores]
    alarms: Sequence[str] = ()


def majority_labels(lab: Lab) -> dict[str, Figure]:
    """Check 9."""
    options = {"rounds": 3, "samples": 8, "temperature": 0.7, "later_temperature": 0.7, "mixed_formats": False}
    found: list[Changed] = []
    for seed in seeds_of(lab):
        with lab.run(f"lmsi-{seed}", lab.trained(seed), seed=seed) as run:
            find("lmsi")(run, run.base, run.task, **options)
            last = policy_of(run, run.history[-1]["policy"])
            found.append(_changed(lab, run, last, lambda samples: samples.passed(SOME)))
    start = samples_of(lab)
    return majority_figures(found, start.majority(start.votes))


def majority_figures(seeds: Sequence[Changed], vote: Scores) -> dict[str, Figure]:
    """What training on majority labels does to greedy answers and to pass@8.

    Args:
        vote: scores of the starting model's vote, on problems some of which are test problems of the trainings.
    """
    after = [s.greedy[1] for s in seeds]
    both = vote.keys() & after[0].keys()
    if not both:
        raise NotApplicable("the test problems of trainings are not among those of the vote")
    return {
        "greedy, last round - start": change_of([s.greedy for s in seeds]),
        "greedy, last round - start's majority@16": effect_of(
            [{i: one[i] for i in both} for one in after], [{i: vote[i] for i in both}] * len(after)
        ),
        "pass@8, last round - start": change_of([s.other for s in seeds]),
    }


def bad_filters(lab: Lab) -> dict[str, Figure]:
    """Check 10."""
    return filter_figures(
        [_unfiltered(lab, seed) for seed in seeds_of(lab)], [_inverted(lab, seed) for seed in seeds_of(lab)]
    )


def filter_figures(unfiltered: Sequence[Changed], inverted: Sequence[tuple[Scores, Scores]]) -> dict[str, Figure]:
    """What learning all samples again and again does, and learning the wrong ones.

    Args:
        inverted: for each seed, greedy scores before and after learning the wrong samples.
    """
    return {
        "unfiltered: distinct answers, end - start": change_of([s.other for s in unfiltered]),
        "unfiltered: greedy, end - start": change_of([s.greedy for s in unfiltered]),
        "unfiltered: share of runs with an alarm": share_of([bool(s.alarms) for s in unfiltered]),
        "inverted filter: greedy, end - start": change_of(inverted),
    }  # fmt: skip


def _unfiltered(lab: Lab, seed: int) -> Changed:
    """Five rounds of learning all of one's own samples, by the study of collapse."""
    with lab.run(f"unfiltered-{seed}", lab.trained(seed), seed=seed) as run:
        report = find("self-train-collapse")(run, run.base, run.task, rounds=5, samples=4, temperature=0.7)
        last = policy_of(run, str(report.rows[-1]["policy"]))
        alarms = [line for row in run.history for line in row.get("alarms", ())]
        return _changed(lab, run, last, lambda samples: samples.distinct(SOME), alarms)


def _inverted(lab: Lab, seed: int) -> tuple[Scores, Scores]:
    """Greedy scores before and after learning one's own wrong samples, once."""
    with lab.run(f"inverted-{seed}", lab.trained(seed), seed=seed) as run:
        tried = run.attempt(run.base, run.task.train, samples=SOME, **SAMPLING)
        demos = demos_of(tried, lambda attempt: attempt.verdict is Verdict.WRONG, PER_PROBLEM, "drop")
        policy = run.learn(run.base, sft(), demos)
        return start_of(lab).core, greedy(run, policy, lab.fixed.test)


def _changed(
    lab: Lab, run: Run, policy: Policy, other: Callable[[Samples], Scores], alarms: Sequence[str] = ()
) -> Changed:
    """The starting model and a policy, measured greedily and by a figure of their samples."""
    start = start_of(lab)
    after = Samples(sampled(run, policy, lab.fixed.test[: lab.sizes.few], SOME), {})
    before = Samples({name: group[:SOME] for name, group in start.samples.groups.items()}, {})
    return Changed((start.core, greedy(run, policy, lab.fixed.test)), (other(before), other(after)), alarms)


def preferences_over_demos(lab: Lab) -> dict[str, Figure]:
    """Check 15: learn the same right answers, as chosen ones of preferences and as demonstrations."""
    found: list[tuple[Scores, Scores, Scores]] = []
    for seed in seeds_of(lab):
        with lab.run(f"preferences-{seed}", lab.trained(seed), seed=seed) as run:
            tried = finished(run.attempt(run.base, run.task.train, samples=SOME, **SAMPLING))
            chosen = pairs(tried, per_problem=PER_PROBLEM, select=right_times_wrong)
            demos = [Demo(pair.prompt, pair.chosen, attempts=pair.attempts[:1]) for pair in chosen]
            preferring = run.learn(run.base, rpo(0.1), chosen, lr_scale=PREFERENCE_LR_SCALE)
            imitating = run.learn(run.base, sft(), demos)
            scores = [greedy(run, policy, lab.fixed.test) for policy in (imitating, preferring)]
            found.append((start_of(lab).core, scores[0], scores[1]))
    return preference_figures(found)


def preference_figures(seeds: Sequence[tuple[Scores, Scores, Scores]]) -> dict[str, Figure]:
    """Preferences against demonstrations.

    Args:
        seeds: for each seed the scores of the start, of imitation and of preferences.
    """
    start, imitating, preferring = (list(column) for column in zip(*seeds, strict=True))
    return {
        "preferences - SFT on the chosen answers": effect_of(preferring, imitating),
        "SFT on the chosen answers - start": effect_of(imitating, start),
    }


def ratio_of(numerators: Sequence[float], denominators: Sequence[float]) -> Figure:
    """The ratio of two means over seeds, with a normal interval of its jackknife standard error.

    NaN where the denominators' mean is not positive: there was no gain to compare with.
    """
    if fmean(denominators) <= 0:
        return Figure(math.nan)
    value, n = fmean(numerators) / fmean(denominators), len(numerators)
    if n < 2:
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
