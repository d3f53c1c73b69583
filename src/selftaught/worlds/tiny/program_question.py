"""Questions of `program`: `program 2: 5 1) 8 2) 24 with 7 1) 10 2) 30`, two runs with all numbers that they pass."""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import NamedTuple

from selftaught.worlds.kit.language import WAYS, count, number, of_place
from selftaught.worlds.kit.process import Options
from selftaught.worlds.tiny.skills import Skills
from selftaught.worlds.tiny.strategy import TOOLS
from selftaught.worlds.tiny.table import apply, make_table

LONGEST = 6
_WORDS = ("program", "test")
_RUN = r" (\d{1,3}(?: \d{1,2}\) \d{1,3})+)"
_QUESTION = re.compile(rf"(program|test) \d{{1,2}}:{_RUN}(?: with{_RUN})?(?: by ([ABC]))?")


class Runs(NamedTuple):
    """A problem.

    Attributes:
        shown: numbers that the program passes, the input first and the output last.
        tested: the same for another input; empty if there is none.
        wording: number of its wording.
        way: the way that it asks for, or "".
    """

    shown: tuple[int, ...]
    tested: tuple[int, ...] = ()
    wording: int = 0
    way: str = ""

    def __str__(self) -> str:
        tested = f" with{numbered(self.tested)}" if self.tested else ""
        way = f" by {self.way}" if self.way else ""
        return f"{_WORDS[self.wording]}{count(self.length)}{numbered(self.shown)}{tested}{way}"

    @property
    def length(self) -> int:
        """Number of operations."""
        return len(self.shown) - 1

    def pairs(self, i: int) -> Iterator[tuple[int, int]]:
        """What goes into operation `i` and what comes out, in each run."""
        for run in filter(None, (self.shown, self.tested)):
            yield run[i], run[i + 1]

    def tools(self, i: int, modulus: int) -> tuple[str, ...]:
        """The operations that do in all runs what operation `i` does."""
        return tuple(tool for tool in TOOLS if all(apply(tool, a, modulus) == b for a, b in self.pairs(i)))

    def does(self, path: Sequence[str], modulus: int) -> bool:
        """Whether a program gives the output of each run."""
        runs = filter(None, (self.shown, self.tested))
        return all(traced(run[0], path, modulus)[-1] == run[-1] for run in runs)


def numbered(run: Sequence[int]) -> str:
    """The numbers of a run, each with the step that it comes out of."""
    return "".join([number(run[0]), *(f"{of_place(i)}{number(value)}" for i, value in enumerate(run[1:], 1))])


def traced(value: int, path: Sequence[str], modulus: int) -> tuple[int, ...]:
    """All numbers that a program passes."""
    found = [value]
    for operation in path:
        found.append(apply(operation, found[-1], modulus))
    return tuple(found)


def read_runs(question: str, modulus: int) -> Runs | None:
    """The problem of a question; None if it is something else, or no program does what it shows."""
    found = _QUESTION.fullmatch(question)
    if found is None:
        return None
    shown, tested = (tuple(int(x) for x in (found[i] or "").split() if x.isdigit()) for i in (2, 3))
    problem = Runs(shown, tested, _WORDS.index(found[1]), found[4] or "")
    if not 1 <= problem.length <= LONGEST or (tested and len(tested) != len(shown)) or str(problem) != question:
        return None
    known = max(*shown, *tested) < modulus and all(problem.tools(i, modulus) for i in range(problem.length))
    return problem if known else None


def draw_runs(level: int, rng: random.Random, modulus: int) -> Runs:
    """Two runs of a program of `level` operations, each of which changes both numbers."""
    while True:
        path = [rng.choice(TOOLS) for _ in range(level)]
        shown, tested = (traced(value, path, modulus) for value in rng.sample(range(modulus), 2))
        if all(a != b for run in (shown, tested) for a, b in pairwise(run)):
            return Runs(shown, tested)


@lru_cache(20_000)
def inferred(skills: Skills, value: int, result: int, way: str) -> Options:
    """A writer's distribution over the operation that leads from a value to a result, by a way.

    It is as reliable as the way is for the fact itself: who knows what 5 * 4 is knows what was done to 5.
    """
    right = [tool for tool in TOOLS if apply(tool, value, skills.modulus) == result]
    if not right:
        return dict.fromkeys(TOOLS, 1 / len(TOOLS))
    kind = make_table(skills).facts[right[0], value].kinds[way]
    rates = skills.rate(kind)
    shared = "" if kind == "misconceived" else way  # a misconception is the same in all ways
    wrong = [tool for tool in TOOLS if tool not in right]
    favorite = random.Random(f"infer/{skills.seed}/{value}/{result}/{shared}").choice(wrong)
    found = dict.fromkeys(wrong, (1 - rates.right - rates.favorite) / len(wrong))
    found[favorite] += rates.favorite
    return found | dict.fromkeys(right, rates.right / len(right))


def inferred_anyhow(skills: Skills, value: int, result: int, ways: Mapping[str, float]) -> dict[str, float]:
    """The same whatever the way."""
    found = dict.fromkeys(TOOLS, 0.0)
    for way in WAYS:
        for tool, p in inferred(skills, value, result, way).items():
            found[tool] += ways[way] * p
    return found
