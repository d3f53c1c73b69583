"""Checks of what is learned from: majority labels, all samples, wrong samples, and preferences."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from selftaught.curate import finished, pairs, right_and_nearest_wrong
from selftaught.curate.keep import demos_of
from selftaught.learn import sft
from selftaught.learn.objectives import rpo
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Pair, Verdict
from selftaught.refine.perturbations import first_error
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.worlds.kit.calibration.base_model import Samples
from selftaught.worlds.kit.calibration.figures import Figure, Scores, effect_of, share_of
from selftaught.worlds.kit.calibration.lab import SAMPLING, Lab, NotApplicable, greedy, policy_of, sampled
from selftaught.worlds.kit.calibration.training import PER_PROBLEM, change_of, seeds_of, start_of

SOME = 8  # samples per problem for pass@k and distinct answers after training
LIMIT = 64  # samples of a vote that hardly rises with more
BETA = 0.4  # of preferences between steps, as the authors of Step-DPO (2406.18629) set it
PREFERENCE_LR_SCALE = 2.0  # of 1 and 2, tried with these pairs on a calibration seed; imitation's is the world's


class Ended(NamedTuple):
    """A trained policy.

    Attributes:
        greedy: its greedy scores.
        samples: of it, at the first of the test problems.
        alarms: lines of the alarms that rang.
    """

    greedy: Scores
    samples: Samples
    alarms: Sequence[str]


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
    found = [_changed(lab, learn_majority(lab, seed), lambda some: some.passed(SOME)) for seed in seeds_of(lab)]
    return majority_figures(found, limit_of_vote(lab))


def limit_of_vote(lab: Lab) -> Scores:
    """The vote of so many samples of the starting model that more hardly change it, on the problems of trainings.

    Rounds of majority labels vote again with what has learned a vote, so that they draw on more samples than a round
    takes; they are held against this limit.
    """
    if "limit" not in lab.shared:
        with lab.run("limit", lab.fixed) as run:
            lab.shared["limit"] = Samples(sampled(run, run.base, lab.fixed.test, LIMIT), {}).majority(LIMIT)
    return lab.shared["limit"]


def learn_majority(lab: Lab, seed: int) -> Ended:
    """Three rounds of learning majority labels."""
    options = {"rounds": 3, "samples": 8, "temperature": 0.7, "later_temperature": 0.7, "mixed_formats": False}
    with lab.run(f"lmsi-{seed}", lab.trained(seed), seed=seed) as run:
        find("lmsi")(run, run.base, run.task, **options)
        return _ended(lab, run, policy_of(run, run.history[-1]["policy"]))


def majority_figures(seeds: Sequence[Changed], vote: Scores) -> dict[str, Figure]:
    """What training on majority labels does to greedy answers and to pass@8.

    Args:
        vote: scores of the starting model's vote on the test problems of the trainings.
    """
    return {
        "greedy, last round - start": change_of([s.greedy for s in seeds]),
        "greedy, last round - start's majority@64": effect_of([s.greedy[1] for s in seeds], [vote] * len(seeds)),
        "pass@8, last round - start": change_of([s.other for s in seeds]),
    }


def bad_filters(lab: Lab) -> dict[str, Figure]:
    """Check 10."""
    unfiltered = [_changed(lab, learn_all(lab, seed), lambda some: some.distinct(SOME)) for seed in seeds_of(lab)]
    return filter_figures(unfiltered, [(start_of(lab).core, learn_wrong(lab, seed)) for seed in seeds_of(lab)])


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


def learn_all(lab: Lab, seed: int) -> Ended:
    """Five rounds of learning all of one's own samples, by the study of collapse."""
    with lab.run(f"unfiltered-{seed}", lab.trained(seed), seed=seed) as run:
        report = find("self-train-collapse")(run, run.base, run.task, rounds=5, samples=4, temperature=0.7)
        alarms = [line for row in run.history for line in row.get("alarms", ())]
        return _ended(lab, run, policy_of(run, str(report.rows[-1]["policy"])), alarms)


def learn_wrong(lab: Lab, seed: int) -> Scores:
    """Greedy scores after learning one's own wrong samples, once."""
    with lab.run(f"inverted-{seed}", lab.trained(seed), seed=seed) as run:
        tried = run.attempt(run.base, run.task.train, samples=SOME, **SAMPLING)
        demos = demos_of(tried, lambda attempt: attempt.verdict is Verdict.WRONG, PER_PROBLEM, "drop")
        return greedy(run, run.learn(run.base, sft(), demos), lab.fixed.test)


def _ended(lab: Lab, run: Run, policy: Policy, alarms: Sequence[str] = ()) -> Ended:
    """A policy's greedy scores and samples."""
    samples = sampled(run, policy, lab.fixed.test[: lab.sizes.few], SOME)
    return Ended(greedy(run, policy, lab.fixed.test), Samples(samples, {}), alarms)


def _changed(lab: Lab, end: Ended, other: Callable[[Samples], Scores]) -> Changed:
    """The starting model and a policy, measured greedily and by a figure of their samples."""
    start = start_of(lab)
    before = Samples({name: group[:SOME] for name, group in start.samples.groups.items()}, {})
    return Changed((start.core, end.greedy), (other(before), other(end.samples)), end.alarms)


def preferences_over_demos(lab: Lab) -> dict[str, Figure]:
    """Check 15: learn the same right answers, as chosen ones of preferences and as demonstrations."""
    return preference_figures([(start_of(lab).core, *learn_chosen(lab, seed)) for seed in seeds_of(lab)])


def learn_chosen(lab: Lab, seed: int) -> tuple[Scores, Scores]:
    """Greedy scores after imitating right answers, and after preferring the same ones to others' wrong steps."""
    with lab.run(f"preferences-{seed}", lab.trained(seed), seed=seed) as run:
        tried = finished(run.attempt(run.base, run.task.train, samples=SOME, **SAMPLING))
        chosen = step_pairs(run.task, tried)
        demos = [Demo(pair.prompt, pair.chosen, attempts=pair.attempts[:1]) for pair in chosen]
        preferring = run.learn(run.base, rpo(BETA), chosen, lr_scale=PREFERENCE_LR_SCALE)
        imitating = run.learn(run.base, sft(), demos)
        return greedy(run, imitating, lab.fixed.test), greedy(run, preferring, lab.fixed.test)


def step_pairs(task: Task, attempts: Sequence[Attempt]) -> list[Pair]:
    """Right answers over the wrong ones that they share most steps with, each of these up to its first wrong step.

    Source: Setlur et al., 2406.14532: wrong answers teach more than right ones alone if credit is given by step.

    Raises:
        NotApplicable: the verifier gives no verdicts on steps.
    """
    by_id = {one.id: one for one in attempts}
    found = pairs(attempts, per_problem=PER_PROBLEM, select=right_and_nearest_wrong)
    return [replace(one, rejected=to_first_error(task, by_id[one.attempts[1]]), ends=False) for one in found]


def to_first_error(task: Task, attempt: Attempt) -> str:
    """The beginning of an answer up to and with its first wrong step; all of it where no step is wrong by itself.

    Raises:
        NotApplicable: the verifier gives no verdicts on steps.
    """
    verdicts = task.step_verdicts(attempt.problem, attempt.text)
    if verdicts is None:
        raise NotApplicable("the world's verifier gives no verdicts on steps")
    return "".join(task.steps.split(attempt.text)[: first_error(verdicts)]).rstrip("\n")


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
