"""Questions of `lists`: `list 2: 1) 5 *4 2) 7 +3 not 12`, a list that holds some results and lacks some numbers."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from selftaught.worlds.kit.language import count, number, of_place
from selftaught.worlds.tiny.table import FactName, apply, operations

LONGEST = 8
_ITEM = re.compile(r"\d{1,2}\) (\d{1,3})( [-+*][2-8])")
_BANNED = re.compile(r" not (\d{1,3})")
_QUESTION = re.compile(r"list \d{1,2}:( with)?((?: \d{1,2}\) \d{1,3} [-+*][2-8])+)((?: not \d{1,3})*)(?: by ([ABC]))?")
_LIST = re.compile(r"\d{1,3}(?: \d{1,3})*")


class Wanted(NamedTuple):
    """A problem.

    Attributes:
        items: operations and the values they are applied to; the list is to hold what each comes to.
        banned: numbers that it is not to hold.
        wording: number of its wording.
        way: the way that it asks for, or "".
    """

    items: tuple[FactName, ...]
    banned: tuple[int, ...] = ()
    wording: int = 0
    way: str = ""

    def __str__(self) -> str:
        items = "".join(f"{of_place(i)}{number(v)}{operation}" for i, (operation, v) in enumerate(self.items, 1))
        way = f" by {self.way}" if self.way else ""
        first = f"list{count(len(self.items))}{' with' * self.wording}"
        return f"{first}{items}{''.join(f' not{number(n)}' for n in self.banned)}{way}"

    def results(self, modulus: int) -> tuple[int, ...]:
        """What each item comes to."""
        return tuple(apply(operation, value, modulus) for operation, value in self.items)

    def met(self, answer: str | None, modulus: int) -> tuple[bool, ...]:
        """Whether a list meets each constraint; none by one that is no list, or longer than the items are many."""
        constraints = len(self.items) + len(self.banned)
        if answer is None or _LIST.fullmatch(answer) is None:
            return (False,) * constraints
        held = list(map(int, answer.split()))
        if len(held) > len(self.items):
            return (False,) * constraints
        return (*(x in held for x in self.results(modulus)), *(x not in held for x in self.banned))


def read_wanted(question: str, modulus: int) -> Wanted | None:
    """The problem of a question; None if it is something else, or no list meets it."""
    found = _QUESTION.fullmatch(question)
    if found is None:
        return None
    items = tuple((operation, int(value)) for value, operation in _ITEM.findall(found[2]))
    banned = tuple(map(int, _BANNED.findall(found[3])))
    problem = Wanted(items, banned, int(found[1] is not None), found[4] or "")
    fits = len(items) <= LONGEST and str(problem) == question and max([*(v for _, v in items), *banned]) < modulus
    return problem if fits and not set(banned) & set(problem.results(modulus)) else None


def draw_wanted(level: int, rng: random.Random, modulus: int) -> Wanted:
    """A problem of `level` + 1 items that come to different numbers, and one banned number close to one of them."""
    every = operations()
    while True:
        items = tuple((rng.choice(every), rng.randrange(modulus)) for _ in range(level + 1))
        problem = Wanted(items)
        results: Sequence[int] = problem.results(modulus)
        banned = (rng.choice(results) + rng.choice((-2, -1, 1, 2))) % modulus
        if len(set(results)) == len(results) and banned not in results:
            return problem._replace(banned=(banned,))
