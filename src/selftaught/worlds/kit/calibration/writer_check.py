"""Check 1: whether the model is the writer of its training text."""

from __future__ import annotations

import asyncio
import math
from collections import defaultdict
from collections.abc import Sequence
from itertools import islice
from typing import NamedTuple

from selftaught.engines import Engine
from selftaught.models import Policy
from selftaught.records import Prompt
from selftaught.worlds.kit.calibration.figures import Figure, mean_of
from selftaught.worlds.kit.calibration.lab import Lab, NotApplicable
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS, WrittenReply

MIN_DECISIONS = 50
"""Fewest choices of a skill whose accuracy is compared."""
BATCH = 64
"""Replies that are read together."""


class Reading(NamedTuple):
    """One choice, as the writer and as the model see it.

    Attributes:
        skill: the kind of choice.
        gap: by how many nats the writer finds what stands there more probable than the model does.
        off: the model's probability of what is right less the writer's; NaN where nothing is right or wrong.
    """

    skill: str
    gap: float
    off: float


def model_is_writer(lab: Lab) -> dict[str, Figure]:
    """Check 1: the model reads replies that the writer drew, teacher-forced."""
    if lab.plan.replies is None:
        raise NotApplicable("the world has no writer with exact distributions (CalibrationPlan.replies)")
    replies = list(islice(lab.plan.replies(CALIBRATION_SEEDS[0]), lab.sizes.problems))
    found: list[Reading] = []
    with lab.console.meter("reading the writer's replies", len(replies)) as meter:
        for start in range(0, len(replies), BATCH):
            some = replies[start : start + BATCH]
            found += asyncio.run(read_all(lab.engine, lab.policy, some))
            meter.advance(len(some))
    return writer_figures(found)


async def read_all(engine: Engine, policy: Policy, replies: Sequence[WrittenReply]) -> list[Reading]:
    """Read the choices of some replies."""
    read = await asyncio.gather(*(_read(engine, policy, reply) for reply in replies))
    return [one for some in read for one in some]


async def _read(engine: Engine, policy: Policy, reply: WrittenReply) -> list[Reading]:
    """Read a reply up to each choice, with what stands there and with what is right there.

    An engine gives the log-probability of a whole text, so a choice is the difference of two readings; the engine
    keeps what texts have in common.
    """
    texts = {""}
    for one in reply.decisions:
        before = reply.text[: one.start]
        texts |= {before, reply.text[: one.end], before + one.right}
    order = sorted(texts - {""}, key=len)
    totals = await asyncio.gather(*(_total(engine, policy, reply.prompt, text) for text in order))
    known = {"": 0.0, **dict(zip(order, totals, strict=True))}
    found = []
    for one in reply.decisions:
        before = reply.text[: one.start]
        gap = one.logprob - (known[reply.text[: one.end]] - known[before])
        off = math.exp(known[before + one.right] - known[before]) - one.p_right if one.right else math.nan
        found.append(Reading(one.skill, gap, off))
    return found


async def _total(engine: Engine, policy: Policy, prompt: Prompt, text: str) -> float:
    """The log-probability of a text, in nats; NaN where the engine refuses it."""
    return (await engine.loglikelihood(policy, prompt, text)).total


def writer_figures(read: Sequence[Reading]) -> dict[str, Figure]:
    """KL(writer || model) per choice, the largest difference of accuracy of any skill, and both by skill.

    The mean gap estimates the divergence without bias, as the writer drew the choices itself.
    """
    by_skill: dict[str, list[Reading]] = defaultdict(list)
    for one in read:
        by_skill[one.skill].append(one)
    off = {
        skill: mean_of(known)
        for skill, some in sorted(by_skill.items())
        if len(known := [one.off for one in some if not math.isnan(one.off)]) >= MIN_DECISIONS
    }
    worst = max(off.values(), key=lambda figure: abs(figure.value), default=None)
    return {
        "KL(writer || model), nats a decision": divergence(read),
        **({} if worst is None else {"accuracy by skill, largest difference": size_of(worst)}),
        **{f"KL, {skill}": divergence(some) for skill, some in sorted(by_skill.items())},
        **{f"accuracy, {skill}: model - writer": figure for skill, figure in off.items()},
    }


def divergence(read: Sequence[Reading]) -> Figure:
    """The mean gap, in nats."""
    return mean_of([one.gap for one in read if not math.isnan(one.gap)])


def size_of(figure: Figure) -> Figure:
    """The absolute value of a figure."""
    low, high = figure.ci95
    return Figure(-figure.value, type(figure.ci95)(-high, -low)) if figure.value < 0 else figure
