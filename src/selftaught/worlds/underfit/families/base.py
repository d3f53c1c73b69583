"""The interface of families of problems."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from selftaught.records import Verdict
from selftaught.worlds.underfit.say import WriteStep

LEVELS = (1, 2, 3, 4, 5)
MARK = "Answer: "


class Written(NamedTuple):
    """A solution: its steps, one line each, and its final answer."""

    steps: tuple[str, ...]
    answer: str

    @property
    def text(self) -> str:
        """The solution in the model's format."""
        return "\n".join((*self.steps, MARK + self.answer))


class Checked(NamedTuple):
    """The true verdicts on a solution: on each step, given those before it, and on the answer."""

    steps: tuple[Verdict, ...]
    answer: Verdict

    @property
    def first_error(self) -> int | None:
        """Number of the first step that is not RIGHT, from 1; None if all are."""
        return next((i for i, verdict in enumerate(self.steps, 1) if verdict is not Verdict.RIGHT), None)


class Family(Protocol):
    """A family of problems. Stateless; `read` parses a question to a problem."""

    name: str

    def question(self, level: int, rng: random.Random) -> tuple[str, Any]:
        """A question of level 1..5, and its reference."""
        ...

    def read(self, question: str) -> Any | None:
        """The problem of a question; None if it is not a question of this family, or has no answer."""
        ...

    def write(self, problem: Any, reference: Any, say: WriteStep, rng: random.Random) -> Written:
        """A solution in which `say` decides on every possible error. Errors are propagated, not corrected."""
        ...

    def check(self, problem: Any, reference: Any, steps: Sequence[str], answer: str | None) -> Checked:
        """Judge a solution exactly, each step given those before it.

        `reference` None judges by the question alone, as for a problem that a model proposed.
        """
        ...

    def proceed(self, problem: Any, reference: Any, steps: Sequence[str]) -> str | None:
        """A right next step after `steps`, right or wrong; None if it requires a search or no step is left."""
        ...


def exactly(skill: str, right: str, slips: Sequence[str]) -> str:
    """A `WriteStep` without errors."""
    del skill, slips
    return right


def verdict(right: bool) -> Verdict:
    """RIGHT or WRONG."""
    return Verdict.RIGHT if right else Verdict.WRONG


def split_reply(text: str) -> tuple[tuple[str, ...], str | None]:
    """The steps of a reply, and its answer; None if it has none."""
    lines = text.strip().splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith(MARK)), None)
    if at is None:
        return tuple(lines), None
    return tuple(lines[:at]), lines[at].removeprefix(MARK)
