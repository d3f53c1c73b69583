"""Check 1: whether the model is the writer of its training text."""

from __future__ import annotations

import asyncio
import math
import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.engines import Engine
from selftaught.models import Policy
from selftaught.records import Problem
from selftaught.samples import Likelihood
from selftaught.worlds.kit.calibration.figures import Figure, mean_of
from selftaught.worlds.kit.calibration.lab import Lab, NotApplicable, sampled
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS, Decision, Writer

MIN_DECISIONS = 50
"""Fewest choices of a skill whose accuracy is compared."""


def model_is_writer(lab: Lab) -> dict[str, Figure]:
    """Check 1: KL(writer || model) on the writer's solutions, and the accuracy of each skill on the model's own."""
    writer = lab.plan.writer
    if writer is None:
        raise NotApplicable("the world has no writer with exact distributions (CalibrationPlan.writer)")
    with lab.run("writer", lab.measured(lab.sizes.some)) as run:
        problems = run.task.test
        written = [_written(writer, problem) for problem in problems]
        own = sampled(run, run.base, problems, 1, temperature=1.0)
        made = {p.id: writer.decisions(p, own[p.id][0].text) for p in problems}
        gaps = asyncio.run(_gaps(run.engine, run.base, problems, writer, written))
    return {
        "KL(writer || model), nats a decision": divergence([one for group in gaps for one in group]),
        **skill_figures(list(made.values())),
        **{f"KL, {skill}": figure for skill, figure in divergence_by_skill(gaps).items()},
    }


def _written(writer: Writer, problem: Problem) -> str:
    """A solution by the writer, the same each time."""
    return writer.write(problem, random.Random(f"{CALIBRATION_SEEDS[0]}/{problem.id}"))


Gap = tuple[str, float]
"""The skill of a choice, and by how many nats the writer finds it more probable than the model does."""


async def _gaps(
    engine: Engine, policy: Policy, problems: Sequence[Problem], writer: Writer, written: Sequence[str]
) -> list[list[Gap]]:
    """The gaps of all choices in each solution, read teacher-forced, each solution up to the end of each choice.

    An engine reports log-probabilities by token, and tokens are not aligned with characters in general; so a choice
    costs two readings, of the solution before and after it, whose common prefix the engine reads once.
    """

    async def read(problem: Problem, text: str) -> float:
        found: Likelihood = await engine.loglikelihood(policy, problem.prompt, text)
        return math.nan if found.failed else found.total

    async def of(problem: Problem, text: str) -> list[Gap]:
        decisions = list(writer.decisions(problem, text))
        ends = sorted({place for one in decisions for place in (one.start, one.end)} - {0})
        totals = await asyncio.gather(*(read(problem, text[:end]) for end in ends))
        before: dict[int, float] = {0: 0.0, **dict(zip(ends, totals, strict=True))}
        return [(one.skill, one.logprob - (before[one.end] - before[one.start])) for one in decisions]

    return list(await asyncio.gather(*(of(p, text) for p, text in zip(problems, written, strict=True))))


def divergence(gaps: Sequence[Gap]) -> Figure:
    """KL(writer || model) per choice, in nats: the mean gap, as the writer drew the choices."""
    known = [gap for _, gap in gaps if not math.isnan(gap)]
    return mean_of(known)


def divergence_by_skill(gaps: Sequence[Sequence[Gap]]) -> dict[str, Figure]:
    """The divergence of each skill, by name."""
    found: dict[str, list[Gap]] = defaultdict(list)
    for one in (one for group in gaps for one in group):
        found[one[0]].append(one)
    return {skill: divergence(some) for skill, some in sorted(found.items())}


def skill_figures(texts: Sequence[Sequence[Decision]]) -> dict[str, Any]:
    """The model's accuracy less the writer's, by skill, on the choices of the model's own solutions at temperature 1.

    Both are of the same choices, so that the problems that the model happens to reach do not matter.

    Args:
        texts: the choices of each solution.
    """
    off: Mapping[str, list[float]] = defaultdict(list)
    for one in (one for text in texts for one in text):
        if one.right is not None and one.p_right is not None:
            off[one.skill].append(float(one.right) - one.p_right)
    by_skill = {skill: mean_of(some) for skill, some in sorted(off.items()) if len(some) >= MIN_DECISIONS}
    worst = max(by_skill.values(), key=lambda figure: abs(figure.value), default=None)
    largest = {} if worst is None else {"accuracy by skill, largest difference": _size(worst)}
    return largest | {f"accuracy, {skill}: model - writer": figure for skill, figure in by_skill.items()}


def _size(figure: Figure) -> Figure:
    """The absolute value of a figure."""
    low, high = figure.ci95
    ends = (-high, -low) if figure.value < 0 else (low, high)
    return Figure(abs(figure.value), type(figure.ci95)(*ends))
