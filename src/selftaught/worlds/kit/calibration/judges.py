"""Checks of prompts: the generation-verification gap, a forced second look, and demonstrations."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from selftaught.models import Policy
from selftaught.records import Attempt, Message, Problem, Prompt, Verdict, content_hash
from selftaught.refine import judge_answer, parse_verdict
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.worlds.kit.calibration.figures import Figure, difference_of, mean_of, share_of, statistic_of
from selftaught.worlds.kit.calibration.lab import SAMPLING, Lab, NotApplicable, sampled
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS

JUDGED = 4  # samples per problem that the model judges
SHOWN = 3  # worked problems in the prompt, where the world does not say which

Judged = Sequence[tuple[bool, bool]]
"""For each sample of a problem: whether it is right, and whether the model accepts it."""


def verification_gap(lab: Lab) -> dict[str, Figure]:
    """Check 17."""
    found: dict[str, Figure] = {}
    for name, spec in (("checkable", lab.plan.checkable), ("look-up only", lab.plan.lookup_only)):
        if spec:
            found |= gap_figures(name, _judged(lab, name, spec))
    if not found:
        raise NotApplicable("the world names no problems that are easy to check (CalibrationPlan.checkable)")
    return found


def gap_figures(name: str, judged: Sequence[Judged]) -> dict[str, Figure]:
    """The accuracy of what the model accepts, less that of all; the share accepted beside it."""
    return {
        f"{name}: accepted - all": statistic_of(accepted_gap, judged),
        f"{name}: all": statistic_of(lambda some: sum(right for right, _ in some) / len(some), judged),
        f"{name}: share accepted": statistic_of(lambda some: sum(took for _, took in some) / len(some), judged),
    }


def accepted_gap(some: Judged) -> float:
    """The gap of Song et al., 2412.02674, by filtering: accuracy of accepted samples less accuracy of all.

    0 where none is accepted: nothing is selected.
    """
    accepted = [right for right, took in some if took]
    return sum(accepted) / len(accepted) - sum(right for right, _ in some) / len(some) if accepted else 0.0


def _judged(lab: Lab, name: str, spec: str) -> list[Judged]:
    with lab.run(f"judged-{name.replace(' ', '-')}", lab.measured(lab.sizes.some // 2, spec)) as run:
        groups = sampled(run, run.base, run.task.test, JUDGED)
        tried = [a for group in groups.values() for a in group if not a.failed]
        replies = run.attempt(run.base, tried, solver=judge_answer, temperature=0.0)
    took = {a.id: parse_verdict(reply) is True for a, reply in zip(tried, replies, strict=True)}
    return [[(a.right, took[a.id]) for a in group if a.id in took] for group in groups.values()]


@dataclass(frozen=True)
class ForcedLook:
    """Keep an answer up to a step, insert the text of a second look, and let the model go on.

    Attributes:
        wait: the text.
        places: attempt id -> number of steps to keep.
    """

    wait: str
    places: Mapping[str, int]
    id = "forced-look"

    @property
    def options(self) -> dict[str, Any]:
        """What its answers depend on."""
        return {"wait": self.wait, "places": content_hash(sorted(self.places.items()))}

    async def __call__(self, ask: Ask, attempt: Attempt) -> Attempt:
        """Sample the rest anew."""
        kept = "".join(ask.steps.split(attempt.text)[: self.places[attempt.id]])
        prefix = kept + ("" if kept.endswith(ask.steps.end) else ask.steps.end) + self.wait
        return await ask(attempt.problem.prompt, prefix=prefix, parent=attempt)


def second_look(lab: Lab) -> dict[str, Figure]:
    """Check 18."""
    if not lab.plan.wait:
        raise NotApplicable("the world's text has no second look within an answer (CalibrationPlan.wait)")
    found = look_figures("", _looked(lab, "second-look", lab.policy))
    if lab.plan.control_model:
        control = lab.resolve(lab.plan.control_model)
        found |= look_figures("without it in the text: ", _looked(lab, "second-look-control", control))
    return found


def look_figures(who: str, changes: Sequence[tuple[bool, bool]]) -> dict[str, Figure]:
    """How many wrong answers are right after the look, and right ones wrong.

    Args:
        changes: for each answer, whether it was right before and after.
    """
    usual = "fixed of wrong - spoiled of right" if not who else f"{who}fixed - spoiled"
    return {
        usual: statistic_of(fixed_less_spoiled, [[one] for one in changes]),
        f"{who}fixed of wrong": share_of([after for before, after in changes if not before]),
        f"{who}spoiled of right": share_of([not after for before, after in changes if before]),
    }


def fixed_less_spoiled(changes: Sequence[tuple[bool, bool]]) -> float:
    """The share of wrong answers that became right, less the share of right ones that became wrong."""
    wrong = [after for before, after in changes if not before]
    right = [not after for before, after in changes if before]
    return sum(wrong) / max(1, len(wrong)) - sum(right) / max(1, len(right))


def _looked(lab: Lab, name: str, policy: Policy) -> list[tuple[bool, bool]]:
    with lab.run(name, lab.measured(lab.sizes.some), model=policy) as run:
        drafts = [a for group in sampled(run, run.base, run.task.test, 1).values() for a in group]
        places = {a.id: place for a in drafts if (place := place_of(run.task, a))}
        kept = [a for a in drafts if a.id in places]
        after = run.attempt(run.base, kept, solver=ForcedLook(lab.plan.wait, places), **SAMPLING)
    return [(old.right, new.right) for old, new in zip(kept, after, strict=True)]


def place_of(task: Task, attempt: Attempt) -> int | None:
    """The number of steps before the look: to the first wrong one, or of a right answer to one drawn by its id.

    None for a failed answer, and where there is no such step.
    """
    verdicts = task.step_verdicts(attempt.problem, attempt.text)
    if attempt.failed or not verdicts:
        return None
    if attempt.right:
        return 1 + int(attempt.id, 16) % len(verdicts)
    return next((number for number, one in enumerate(verdicts, 1) if one is not Verdict.RIGHT), None)


@dataclass(frozen=True)
class Shown:
    """Answer a problem after worked problems, shown as earlier turns of the conversation."""

    messages: Callable[[Problem], Prompt]
    version: str
    id = "shown"

    @property
    def options(self) -> dict[str, Any]:
        """What its answers depend on."""
        return {"demonstrations": self.version}

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        """Sample one answer."""
        return await ask((*self.messages(problem), *problem.prompt))


def demonstrations(lab: Lab) -> dict[str, Figure]:
    """Check 19; of samples, as greedy answers of a model that knows several ways go by the most usual one."""
    with lab.run("demonstrations", lab.measured(lab.sizes.problems)) as run:
        problems, shown = run.task.test, _shown(lab, run)
        sides = [sampled(run, run.base, problems, 1, solver=solver) for solver in (None, shown)]
    before, after = ({name: float(group[0].right) for name, group in side.items()} for side in sides)
    return {
        "with demonstrations - without": difference_of(after, before),
        "without": mean_of(list(before.values())),
    }


def _shown(lab: Lab, run: Run) -> Shown:
    """The world's own demonstrations, or worked train problems."""
    seed, of = CALIBRATION_SEEDS[0], lab.plan.demonstrations
    if of is not None:
        texts = content_hash([list(of(problem, seed)) for problem in run.task.test[:50]])
        return Shown(lambda problem: tuple(of(problem, seed)), texts)
    held_out = {p.id for p in run.task.test}
    worked = [
        p for p in lab.problems(seed=1, train=20 * SHOWN).train if p.meta.get("solution") and p.id not in held_out
    ]
    if len(worked) < SHOWN:
        raise NotApplicable("the world has no demonstrations and no written solutions (CalibrationPlan.demonstrations)")
    turns = [turn for p in worked[:SHOWN] for turn in (*p.prompt, Message("assistant", str(p.meta["solution"])))]
    return Shown(lambda _: tuple(turns), content_hash(turns))
