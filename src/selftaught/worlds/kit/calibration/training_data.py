"""Checks of what is learned from: majority labels, all samples, wrong samples, and preferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from selftaught.curate import finished, pairs, right_times_wrong
from selftaught.curate.keep import demos_of
from selftaught.learn import sft
from selftaught.learn.objectives import rpo
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Demo, Verdict
from selftaught.run.run import Run
from selftaught.worlds.kit.calibration.base_model import Samples, samples_of
from selftaught.worlds.kit.calibration.figures import Figure, Scores, effect_of, share_of
from selftaught.worlds.kit.calibration.lab import SAMPLING, Lab, NotApplicable, greedy, policy_of, sampled
from selftaught.worlds.kit.calibration.training import PER_PROBLEM, change_of, seeds_of, start_of

SOME = 8  # samples per problem for pass@k and distinct answers after training
PREFERENCE_LR_SCALE = 0.2  # as in the claim of `preferences`


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
