"""Scripted sums for methods that criticize, revise and judge: a model mostly, not always, right in each role."""

from __future__ import annotations

import re
from typing import NamedTuple

from selftaught.engines import Request
from selftaught.models import Policy
from selftaught.refine.turns import CRITIQUE, JUDGE, REVISE, SELF_CORRECT
from selftaught.testing.sums import depth, draw

DRAFTS, NOTICES, MENDS, JUDGES = 0.4, 0.8, 0.8, 0.85  # how often right in each role


class Talk(NamedTuple):
    """What a request is about."""

    role: str
    a: int
    b: int
    answer: int | None
    luck: float


def heard(request: Request) -> Talk:
    """A request, read."""
    last = request.prompt[-1].content
    role = {CRITIQUE: "critique", REVISE: "revise", JUDGE: "judge"}.get(last, "solve")
    a, b = map(int, re.findall(r"(\d+) \+ (\d+)", request.prompt[0].content)[0])
    answers = [m[1] for m in (re.search(r"Answer: (\d+)", x.content) for x in request.prompt) if m]
    chance = draw([m.content for m in request.prompt], request.prefix, request.seed)
    return Talk(role, a, b, int(answers[-1]) if answers else None, chance)


def talk(policy: Policy, request: Request) -> str:
    """An answer in two steps, a critique, a revision that goes by it, or a verdict."""
    role, a, b, answer, luck = heard(request)
    if role == "critique":
        noticed = luck < NOTICES
        return f"step 1: {a}+{b}={a + b}" if (answer != a + b) == noticed else "no mistakes"
    if role == "judge":
        return "right" if (answer == a + b) == (luck < JUDGES) else "wrong"
    skill = MENDS if role == "revise" else min(0.95, DRAFTS + 0.3 * depth(policy))
    said = a + b + (0 if luck < skill else 1 + int(8 * luck))
    lines = [f"{a}+{b}={said} ({int(1000 * luck) % 7})", f"Answer: {said}"]
    return "\n".join(lines[request.prefix.count("\n") :])


def twice(policy: Policy, request: Request) -> str:
    """Sums, half of them right at first; training mends the second answer and leaves the first as it was."""
    _, a, b, _, luck = heard(request)
    second = request.prompt[-1].content == SELF_CORRECT
    fixed = draw(a, b) if not request.sampling.temperature else luck
    said = a + b + (0 if fixed < 0.5 + (0.45 if second and depth(policy) else 0) else 1 + int(8 * luck))
    return f"{a}+{b}={said}\nAnswer: {said}"
