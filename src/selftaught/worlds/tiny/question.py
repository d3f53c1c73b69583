"""Questions of `paths`: `paths 2: 27 1) *4 2) +3`; operations in parentheses do not count, ` by B` asks for a way."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from selftaught.worlds.kit.language import UNSURE, WAIT, count, number, of_place, place
from selftaught.worlds.tiny.table import apply, operations

LONGEST = 10
WORDINGS = (("paths", "", ""), ("start", " then", ""), ("from", "", " do"))
"""First word, word before the number of each operation, and word before the first one's."""
_OPERATION = re.compile(r" (\([-+*][2-8]\)|[-+*][2-8])")
_QUESTION = re.compile(
    r"(\w+) \d{1,2}: (\d{1,3})((?: (?:then|do|\d{1,2}\)|\([-+*][2-8]\)|[-+*][2-8]))+)(?: by ([ABC]))?"
)
_LINE = re.compile(r"\d{1,2}\) ([ABC]) (\d{1,3})( [-+*][2-8])( \d{1,3})")


class Chain(NamedTuple):
    """A problem: a number and the operations on it, from left to right.

    Attributes:
        start: the number.
        operations: operations with their operands, as tokens such as " *4".
        asides: for each operation, one in parentheses before it, or "".
        wording: number of its wording in `WORDINGS`.
        way: the way that it asks for, or "".
    """

    start: int
    operations: tuple[str, ...]
    asides: tuple[str, ...] = ()
    wording: int = 0
    way: str = ""

    def aside(self, i: int) -> str:
        """The operation in parentheses before operation `i`, or ""."""
        return self.asides[i] if i < len(self.asides) else ""

    def __str__(self) -> str:
        first, each, once = WORDINGS[self.wording]
        parts = [first, count(len(self.operations)), number(self.start), once]
        for i, operation in enumerate(self.operations):
            aside = self.aside(i)
            parts += [f" ({aside[1:]})" if aside else "", each, of_place(i + 1), operation]
        return "".join([*parts, f" by {self.way}" if self.way else ""])

    def value(self, modulus: int) -> int:
        """The result."""
        return reached(self, len(self.operations), modulus)


def reached(chain: Chain, done: int, modulus: int) -> int:
    """The value after the first `done` operations."""
    value = chain.start
    for operation in chain.operations[:done]:
        value = apply(operation, value, modulus)
    return value


def read_chain(question: str, modulus: int) -> Chain | None:
    """The problem of a question; None if it is something else."""
    found = _QUESTION.fullmatch(question)
    first = {words[0]: i for i, words in enumerate(WORDINGS)}
    if found is None or found[1] not in first or int(found[2]) >= modulus:
        return None
    own: list[str] = []
    asides: list[str] = []
    waiting = ""
    for name in _OPERATION.findall(found[3]):
        if name[0] == "(":
            waiting = f" {name[1:-1]}"
        else:
            own.append(f" {name}")
            asides.append(waiting)
            waiting = ""
    shown = tuple(asides) if any(asides) else ()
    chain = Chain(int(found[2]), tuple(own), shown, first[found[1]], found[4] or "")
    return chain if 1 <= len(own) <= LONGEST and str(chain) == question else None


def draw_chain(level: int, rng: random.Random, modulus: int) -> Chain:
    """A problem with `level` operations in the usual wording."""
    every = operations()
    return Chain(rng.randrange(modulus), tuple(rng.choice(every) for _ in range(level)))


def disturbed(chain: Chain, rng: random.Random) -> Chain:
    """The same problem with an operation in parentheses somewhere, which does not count."""
    at, aside = rng.randrange(len(chain.operations)), rng.choice(operations())
    return chain._replace(asides=tuple(aside if i == at else "" for i in range(len(chain.operations))))


class Line(NamedTuple):
    """A step as written, without its number: way, value, operation and result; value and result are numbers."""

    way: str
    value: int
    operation: str
    result: str


def read_line(line: str) -> Line | None:
    """`1) A 27 *4 47` as a `Line`; None if it is none."""
    found = _LINE.fullmatch(line)
    return Line(found[1], int(found[2]), found[3], found[4]) if found else None


class Place(NamedTuple):
    """Where a solution stands before a line.

    Attributes:
        value: the number reached.
        path: operations done.
    """

    value: int
    path: tuple[str, ...] = ()

    @property
    def done(self) -> int:
        """Number of operations done."""
        return len(self.path)

    def after(self, operation: str, value: int) -> Place:
        """The place after a step that comes to `value`."""
        return Place(value, (*self.path, operation))


class Move(NamedTuple):
    """A line of a reply with its place.

    Attributes:
        before: where the solution stood.
        line: the line, if it is a step.
        text: the line as it is.
        withdrawn: whether a later line replaces it.
    """

    before: Place
    line: Line | None
    text: str
    withdrawn: bool = False


def track(start: int, lines: Sequence[str]) -> tuple[list[Move], Place]:
    """Each line before the answer with the place it starts from, and the place after the last one.

    `wait` goes back to before the line that precedes it, which it withdraws; a line that is no step moves nothing.
    """
    moves: list[Move] = []
    place = Place(start)
    for text in lines:
        if text == WAIT and moves and moves[-1].text != WAIT:
            place = moves[-1].before
            moves[-1] = moves[-1]._replace(withdrawn=True)
        line = read_line(text)
        moves.append(Move(place, line, text))
        if line is not None:
            place = place.after(line.operation, int(line.result))
    return moves, place


def withdrawn(moves: Sequence[Move]) -> frozenset[int]:
    """Numbers, from 1, of lines that a later one replaces."""
    return frozenset(i for i, move in enumerate(moves, 1) if move.withdrawn)


def in_place(chain: Chain, move: Move) -> bool:
    """Whether a step takes the value reached and the operation due."""
    line, before = move.line, move.before
    due = before.done < len(chain.operations)
    return line is not None and due and (line.value, line.operation) == (before.value, chain.operations[before.done])


def true_result(line: str, modulus: int) -> str:
    """What a line rightly comes to, from its own value and operation; `UNSURE` where it is no step."""
    found = read_line(line)
    return UNSURE if found is None else number(apply(found.operation, found.value, modulus))


def write_line(step: int, way: str, value: int, operation: str, result: str) -> str:
    """A step as text."""
    return f"{place(step)}{way}{number(value)}{operation}{result}"
