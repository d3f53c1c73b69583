"""The interface of a family of problems: questions, exact writers of solutions, exact verdicts."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, runtime_checkable

from selftaught.records import Verdict
from selftaught.worlds.kit.language import ANSWER
from selftaught.worlds.kit.process import Choice, Options, View, Writing, as_written


class Checked(NamedTuple):
    """The true verdicts on a reply.

    Attributes:
        steps: a verdict on each line before the answer, given those before it.
        answer: the verdict on the answer.
        withdrawn: numbers, from 1, of lines that a later one replaces.
        degree: how far an answer meets what was asked, 0..1; None where it is right or wrong.
    """

    steps: tuple[Verdict, ...]
    answer: Verdict
    withdrawn: frozenset[int] = frozenset()
    degree: float | None = None

    @property
    def score(self) -> float:
        """The degree, or 1 for a right answer and 0 for any other."""
        return float(self.answer is Verdict.RIGHT) if self.degree is None else self.degree

    @property
    def first_error(self) -> int | None:
        """Number of the first line, from 1, that is not right and is not replaced later; None if there is none."""
        lines = enumerate(self.steps, 1)
        return next((i for i, v in lines if v is not Verdict.RIGHT and i not in self.withdrawn), None)


class Correction(NamedTuple):
    """Where a draft first goes wrong, and what its result should be there.

    Attributes:
        step: number of the line, from 1.
        result: its right result, as a token.
        given: what the result is of, as the line should have it: value and operation; "" for the answer.
    """

    step: int
    result: str
    given: str = ""


@dataclass(frozen=True)
class Context:
    """What a writer of solutions sees beside the question.

    Attributes:
        demonstrations: solved problems shown before: (problem, reply).
        hint: the answer, given away; as tokens.
        correction: a critique to follow.
        kept: lines of a draft that are copied before anything new is written.
        view: entries of tables, as they are or as a twin has learned them.
    """

    demonstrations: tuple[tuple[Any, str], ...] = ()
    hint: str | None = None
    correction: Correction | None = None
    kept: tuple[str, ...] = ()
    view: View = field(default=as_written)


Steps = Sequence["Choice | str | None"]
"""What a writer had in the place of each token of a text: a choice, a certain token, or nothing that is learned."""


@runtime_checkable
class Drilled(Protocol):
    """A family whose critic's beliefs, and copying, can be practiced apart from problems."""

    def nonsense(self, rng: random.Random) -> str:
        """Lines that look like steps of a solution, drawn evenly."""
        ...

    def drill(self, rng: random.Random) -> tuple[str, Steps]:
        """Facts with results, each with the critic's own, its mark and, where it is wrong, its correction."""
        ...

    def line_drill(self, rng: random.Random) -> tuple[str, Steps]:
        """Steps, each with the mark of one who looks at its way alone."""
        ...


class Family(Protocol):
    """A family of problems, with the skills of its writer. Immutable; `read` parses a question to a problem."""

    name: str
    levels: tuple[int, ...]

    def question(self, level: int, rng: random.Random) -> tuple[str, Any]:
        """A question of a level, and its reference."""
        ...

    def read(self, question: str) -> Any | None:
        """The problem of a question; None if it is none of this family, or has no answer."""
        ...

    def answer(self, problem: Any) -> str:
        """A right answer."""
        ...

    def plain(self, question: str) -> str:
        """The question in its usual wording, without anything that `reworded` adds."""
        ...

    def reworded(self, question: str, rng: random.Random, *, wording: float, aside: float, way: float) -> str:
        """The question, with these probabilities in other words, with an aside, and asking for a way."""
        ...

    def demonstrations(self, question: str, rng: random.Random) -> list[str]:
        """Short questions that may be solved before this one to show how."""
        ...

    def solve(self, problem: Any, context: Context) -> Writing:
        """Write a solution: steps, one a line, and the answer."""
        ...

    def direct(self, problem: Any, view: View) -> Writing:
        """Write the answer without steps."""
        ...

    def propose(self, problem: Any, easier: bool, view: View) -> Writing:
        """Write another question like `problem`, or an easier one."""
        ...

    def beliefs(self, problem: Any, lines: Sequence[str], view: View) -> list[Belief]:
        """What a critic thinks of each line of a draft, given those before it."""
        ...

    def overall(self, glances: Sequence[float]) -> float:
        """A judge's probability that a reply is right, given that of each of its lines at a glance."""
        ...

    def correction(self, problem: Any, lines: Sequence[str], step: int, view: View) -> tuple[str, Options]:
        """What a line should have before its result, and a critic's distribution over the result.

        Args:
            step: number of the line, from 1; at most one past the last.
        """
        ...

    def restated(self, problem: Any, lines: Sequence[str]) -> list[str]:
        """What a right critic writes before the mark of each line; `UNSURE` where it is no step."""
        ...

    def concludes(self, problem: Any, lines: Sequence[str], answer: str | None) -> bool:
        """Whether the lines lead to this answer, right or wrong."""
        ...

    def check(self, problem: Any, reference: Any, lines: Sequence[str], answer: str | None) -> Checked:
        """Judge a reply exactly.

        `reference` None judges by the question alone, as for a problem that a model proposed.
        """
        ...

    def locate(self, problem: Any, reference: Any, text: str) -> Correction | None:
        """The first error of a reply with its right result; None if the reply is right."""
        ...

    def mended(self, problem: Any, reference: Any, text: str) -> str:
        """The reply with its first error corrected and everything after it right; a right one as it is."""
        ...

    def solution(self, problem: Any, reference: Any) -> str:
        """A right solution."""
        ...


class Belief(NamedTuple):
    """A critic's opinion on a line.

    A critic that marks lines one by one first does each step itself, and compares; a small model can compare two
    numbers of its context, but not one that it reads with one that it has in mind. A judge that answers in one word
    goes by how reliable the way of each step is.

    Attributes:
        right: probability that the line is right.
        key: name of the table entry with the opinion; None where the line needs none.
        truly: whether the line is right.
        provoked: whether the critic cannot tell and, asked for a critique, is inclined to find fault.
        restated: what the critic writes before its mark: what it thinks that the line comes to, or that another look-up
            which checks it does; "" to write the mark alone.
        felt: probability that the line is right at a glance, without that, and without a look at what was asked; None
            if it is the same.
    """

    right: float
    key: Any = None
    truly: bool = True
    provoked: bool = False
    restated: str = ""
    felt: float | None = None

    @property
    def glance(self) -> float:
        """Probability that the line is right, at a glance."""
        return self.right if self.felt is None else self.felt


def split_reply(text: str) -> tuple[tuple[str, ...], str | None]:
    """The lines of a reply before its answer, and the answer; None if it has none."""
    lines = text.strip("\n").split("\n") if text.strip("\n") else []
    at = next((i for i, line in enumerate(lines) if line.startswith(ANSWER)), None)
    if at is None:
        return tuple(lines), None
    return tuple(lines[:at]), lines[at].removeprefix(ANSWER).strip()


def verdict(right: bool) -> Verdict:
    """RIGHT or WRONG."""
    return Verdict.RIGHT if right else Verdict.WRONG
