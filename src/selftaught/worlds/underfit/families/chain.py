"""Chains: `chain 27 +38 *2 -5`, evaluated from left to right."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from selftaught.records import Verdict
from selftaught.worlds.underfit.arithmetic import MAX_NUMBER, apply, read_line, turned, work
from selftaught.worlds.underfit.families.base import Checked, WriteStep, Written, verdict

TERMS = re.compile(r"(\d{1,3})((?: [-+*]\d{1,3}){1,8})")
_TERM = re.compile(r" ([-+*])(\d{1,3})")


class Terms(NamedTuple):
    """A first number, and the operations on it."""

    first: int
    rest: tuple[tuple[str, int], ...]

    def __str__(self) -> str:
        return f"{self.first}" + "".join(f" {op}{n}" for op, n in self.rest)

    @property
    def value(self) -> int:
        """The result."""
        value = self.first
        for op, n in self.rest:
            value = apply(value, op, n)
        return value


def make_terms(count: int, rng: random.Random) -> Terms:
    """`count` operations that stay within 0..99; sums are the most frequent."""
    first = value = rng.randint(3, 30)
    rest: list[tuple[str, int]] = []
    while len(rest) < count:
        op = rng.choices("+-*", (5, 3, 2))[0]
        n = rng.randint(2, 5) if op == "*" else rng.randint(2, 29)
        if 0 <= apply(value, op, n) <= 99 and (op != "*" or value <= 20):
            rest.append((op, n))
            value = apply(value, op, n)
    return Terms(first, tuple(rest))


def read_terms(text: str) -> Terms | None:
    """`27 +38 *2` as terms; None if it is something else or leaves 0..`MOST`."""
    m = TERMS.fullmatch(text)
    if m is None:
        return None
    terms = Terms(int(m[1]), tuple((op, int(n)) for op, n in _TERM.findall(m[2])))
    value = terms.first
    for op, n in terms.rest:
        value = apply(value, op, n)
        if not 0 <= value <= MAX_NUMBER:
            return None
    return terms


def write_terms(terms: Terms, say: WriteStep) -> tuple[list[str], int]:
    """The steps of a chain, and the result they reach."""
    value, steps = terms.first, []
    for op, n in terms.rest:
        a, b = turned(value, op, n, say)
        result = work(a, op, b, say)
        steps.append(f"{a}{op}{b}={result}")
        value = result
    return steps, value


def check_terms(terms: Terms, steps: Sequence[str]) -> tuple[list[Verdict], int]:
    """A verdict for each step of a chain, and its final number; a step out of order is WRONG."""
    value, found = terms.first, []
    for i, line in enumerate(steps):
        said = read_line(line)
        in_place = said is not None and i < len(terms.rest) and _is(said[:3], value, *terms.rest[i])
        found.append(verdict(in_place and said is not None and apply(*said[:3]) == said[3]))
        if said is not None:
            value = said[3]
    return found, value


def _is(said: tuple[int, str, int], value: int, op: str, n: int) -> bool:
    """Whether a step is the expected one; operands in either order if commutative."""
    return said == (value, op, n) or (op != "-" and said == (n, op, value))


def proceed_terms(terms: Terms, steps: Sequence[str]) -> str | None:
    """The next step of a chain."""
    if len(steps) >= len(terms.rest):
        return None
    value, (op, n) = check_terms(terms, steps)[1], terms.rest[len(steps)]
    return f"{value}{op}{n}={apply(value, op, n)}"


class Chain:
    """Level L has L operations."""

    name = "chain"

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        terms = make_terms(level, rng)
        return f"chain {terms}", str(terms.value)

    def read(self, question: str) -> Terms | None:
        """See `Family.read`."""
        return read_terms(question.removeprefix("chain ")) if question.startswith("chain ") else None

    def write(self, problem: Terms, reference: str, say: WriteStep, rng: random.Random) -> Written:  # noqa: ARG002
        """See `Family.write`."""
        steps, value = write_terms(problem, say)
        return Written(tuple(steps), str(value))

    def check(self, problem: Terms, reference: str | None, steps: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`."""
        return Checked(tuple(check_terms(problem, steps)[0]), verdict(answer == str(problem.value)))

    def proceed(self, problem: Terms, reference: str | None, steps: Sequence[str]) -> str | None:  # noqa: ARG002
        """See `Family.proceed`."""
        return proceed_terms(problem, steps)
