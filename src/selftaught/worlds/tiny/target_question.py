"""Questions of `target`: `target 5 = 30 with +3 *4 -2`, which take as many operations as their level says."""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from selftaught.worlds.kit.language import number
from selftaught.worlds.tiny.strategy import STRENGTHS, TOOLS, policy
from selftaught.worlds.tiny.table import Fact, FactName, apply

SIZES = {1: (1, 2), 2: (2, 2), 3: (3, 3), 4: (2, 3), 5: (4, 4), 6: (3, 4)}
"""Level -> operations that it takes, and that are given."""
MOST = max(given for _, given in SIZES.values())
"""Most operations that a question gives."""
TOOL = re.compile(r" [-+*][2-8]")
_QUESTION = re.compile(r"target (\d{1,3}) = (\d{1,3}) with((?: [-+*][2-8])+)(?: by ([ABC]))?")
_TURNED = re.compile(r"target (\d{1,3}) of (\d{1,3}) with((?: [-+*][2-8])+)(?: by ([ABC]))?")


class Goal(NamedTuple):
    """A problem.

    Attributes:
        start: the number to start from.
        operations: that may be used, as tokens; no two are alike.
        goal: the number to reach.
        wording: 1 where the question names the goal first.
        way: the way that it asks for, or "".
    """

    start: int
    operations: tuple[str, ...]
    goal: int
    wording: int = 0
    way: str = ""

    def __str__(self) -> str:
        way = f" by {self.way}" if self.way else ""
        tools = f" with{''.join(self.operations)}{way}"
        if self.wording:
            return f"target{number(self.goal)} of{number(self.start)}{tools}"
        return f"target{number(self.start)} ={number(self.goal)}{tools}"

    def left(self, path: Sequence[str]) -> tuple[str, ...]:
        """Operations that are not yet used."""
        return tuple(operation for operation in self.operations if operation not in path)


@lru_cache(100_000)
def find_path(value: int, left: tuple[str, ...], goal: int, modulus: int) -> tuple[str, ...] | None:
    """The shortest sequence of some of these operations from a value to a goal; None if there is none."""
    if value == goal:
        return ()
    found: tuple[str, ...] | None = None
    for operation in left:
        others = tuple(other for other in left if other != operation)
        rest = find_path(apply(operation, value, modulus), others, goal, modulus)
        if rest is not None and (found is None or len(rest) + 1 < len(found)):
            found = (operation, *rest)
    return found


def read_goal(question: str, modulus: int) -> Goal | None:
    """The problem of a question; None if it is something else, or no sequence reaches the goal."""
    found, turned = _QUESTION.fullmatch(question), _TURNED.fullmatch(question)
    if found is not None:
        start, goal, given, way = found.groups()
    elif turned is not None:
        goal, start, given, way = turned.groups()
    else:
        return None
    tools = tuple(TOOL.findall(given))
    problem = Goal(int(start), tools, int(goal), int(turned is not None), way or "")
    fits = len(set(tools)) == len(tools) <= MOST and set(tools) <= set(TOOLS) and str(problem) == question
    if not fits or max(int(start), int(goal)) >= modulus or start == goal:
        return None
    return problem if find_path(int(start), tools, int(goal), modulus) is not None else None


def draw_goal(level: int, rng: random.Random, modulus: int) -> Goal:
    """A problem that takes as many operations as its level says, and in which at most half of all orders succeed."""
    needed, given = SIZES[level]
    known = dict(zip(TOOLS, STRENGTHS, strict=True))
    while True:
        tools, start = rng.sample(TOOLS, given), rng.randrange(modulus)
        path: list[str] = []
        for _ in range(needed):
            options = policy([tool for tool in tools if tool not in path], known)
            path += rng.choices(list(options), list(options.values()))
        problem = Goal(start, tuple(tools), follow_path(start, path, modulus))
        shortest = find_path(start, problem.operations, problem.goal, modulus)
        if shortest is not None and len(shortest) == needed and blind_success(problem, modulus) <= 0.5:
            return problem


def follow_path(value: int, path: Sequence[str], modulus: int) -> int:
    """The number that operations lead to."""
    for operation in path:
        value = apply(operation, value, modulus)
    return value


def blind_success(problem: Goal, modulus: int) -> float:
    """Probability of reaching the goal by operations taken evenly, until it is reached or none is left."""

    def chance(value: int, left: tuple[str, ...]) -> float:
        if value == problem.goal:
            return 1.0
        others = [(apply(o, value, modulus), tuple(x for x in left if x != o)) for o in left]
        return sum(chance(*one) for one in others) / len(others) if others else 0.0

    return chance(problem.start, problem.operations)


def leading(facts: Mapping[FactName, Fact], left: Sequence[str], value: int, goal: int) -> tuple[str, ...]:
    """Operations that a critic believes to lead from a value straight to the goal."""
    return tuple(operation for operation in left if facts[operation, value].believed == number(goal))
