"""Rates of what the families beside `paths` need besides look-ups: inverting, searching, inferring, remembering."""

from __future__ import annotations

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache

from selftaught.worlds.kit.language import WAYS
from selftaught.worlds.kit.process import Options
from selftaught.worlds.tiny.skills import TEACHER, WEAK, Skills
from selftaught.worlds.tiny.table import make_table

TOOLS: tuple[str, ...] = (" *2", " +3", " *5", " -2", " +7", " *3", " -5", " *6")
"""Operations of searches and programs, as tokens; few, so that each is met often. The order is that of `STRENGTHS`."""
STRENGTHS = (16.0, 8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125)
"""How soon a tool is used in the searches that are posed: each next one with a probability in proportion."""


@dataclass(frozen=True, slots=True)
class Strategy:
    """Rates of a writer.

    Attributes:
        slips: probability of doing an operation of an equation as it stands instead of inverted: most, and tempting
            ones.
        tempting: share of operations that tempt.
        sees: probability that a search takes an operation that, so the critic believes, leads straight to the goal.
        sharpness: exponent of the tools' strengths in the writer's choice; at 1 it knows how soon each is used.
        misjudged: number of tools whose strength it mistakes.
        elsewhere: probability that a search, after `wait`, takes another operation than the one it took back.
        forgets: probability that a list ends before each of its items.
    """

    slips: tuple[float, float] = (0.02, 0.22)
    tempting: float = 0.2
    sees: float = 0.85
    sharpness: float = 0.9
    misjudged: int = 3
    elsewhere: float = 0.6
    forgets: float = 0.03


STRATEGIES: Mapping[Skills, Strategy] = {
    TEACHER: Strategy(slips=(0.002, 0.01), sees=0.98, sharpness=1.0, misjudged=0, elsewhere=0.9, forgets=0.002),
    WEAK: replace(Strategy(), slips=(0.08, 0.5), sees=0.6, sharpness=0.6, misjudged=4, forgets=0.08),
}
"""Skills of kin -> their strategies; all others have the usual one."""


def strategy_of(skills: Skills) -> Strategy:
    """The strategy of a writer with these skills."""
    return STRATEGIES.get(skills, Strategy())


@cache
def strengths(skills: Skills) -> Mapping[str, float]:
    """Tool -> how soon the writer thinks it is used."""
    strategy, rng = strategy_of(skills), random.Random(f"strengths/{skills.seed}")
    true = dict(zip(TOOLS, STRENGTHS, strict=True))
    mistaken = rng.sample(TOOLS, len(TOOLS))[: strategy.misjudged]
    swapped = dict(zip(mistaken, [*mistaken[1:], *mistaken[:1]], strict=True))
    known = {tool: true[swapped.get(tool, tool)] for tool in TOOLS}
    return {tool: strength**strategy.sharpness for tool, strength in known.items()}


@cache
def slips(skills: Skills, operations: Sequence[str]) -> Mapping[str, float]:
    """Operation -> probability of doing it as it stands."""
    strategy = strategy_of(skills)
    tempting = random.Random(f"slips/{skills.seed}").sample(operations, round(strategy.tempting * len(operations)))
    return {operation: strategy.slips[operation in tempting] for operation in operations}


@cache
def usual_ways(skills: Skills) -> Options:
    """How often the ways are used where they are chosen before the tool: the best one least."""
    facts = make_table(skills).facts
    reliability = dict.fromkeys(WAYS, 0.0)
    for (operation, _), fact in facts.items():
        for way in WAYS if operation in TOOLS else ():
            reliability[way] += fact.results[way].get(fact.right, 0.0)
    ranked = sorted(WAYS, key=reliability.__getitem__)
    used = dict(zip(ranked, skills.prior, strict=True))
    return {way: used[way] for way in WAYS}


def policy(left: Sequence[str], strength: Mapping[str, float]) -> Options:
    """The next of some tools, with probabilities in proportion to their strengths."""
    total = sum(strength[tool] for tool in left)
    return {tool: strength[tool] / total for tool in left}
