"""What the families of problems have in common."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from selftaught.records import Verdict
from selftaught.worlds.tiny.say import WriteStep

LEVELS = (1, 2, 3, 4, 5)
MARK = "Answer: "


class Written(NamedTuple):
    """A solution: its steps, a line each, and its final answer."""

    steps: tuple[str, ...]
    answer: str

    @property
    def text(self) -> str:
        """As the model writes it."""
        return "\n".join((*self.steps, MARK + self.answer))


class Checked(NamedTuple):
    """The truth about a solution: a verdict for each step, given those before it, and one for the answer."""

    steps: tuple[Verdict, ...]
    answer: Verdict

    @property
    def first_error(self) -> int | None:
        """Number of the first step that is not RIGHT, from 1; None where all are."""
        return next((i for i, verdict in enumerate(self.steps, 1) if verdict is not Verdict.RIGHT), None)


class Family(Protocol):
    """A kind of problem. Stateless; a problem is whatever `read` makes of a question."""

    name: str

    def question(self, level: int, rng: random.Random) -> tuple[str, Any]:
        """A question of a level 1..5, and its reference."""
        ...

    def read(self, question: str) -> Any | None:
        """The problem a question poses; None where it is not a question of this family, or has no answer."""
        ...

    def write(self, problem: Any, reference: Any, say: WriteStep, rng: random.Random) -> Written:
        """A solution, with everything that can go wrong put through `say`. A slip is carried on, not mended."""
        ...

    def check(self, problem: Any, reference: Any, steps: Sequence[str], answer: str | None) -> Checked:
        """Judge a solution exactly, each step given what was written before it.

        `reference` None judges by the question alone, as for a problem that a model proposed.
        """
        ...

    def proceed(self, problem: Any, reference: Any, steps: Sequence[str]) -> str | None:
        """A right step to follow `steps`, whatever is wrong with those; None where it takes a search or none is due."""
        ...


def exactly(skill: str, right: str, slips: Sequence[str]) -> str:
    """A `Say` that makes no mistakes."""
    del skill, slips
    return right


def verdict(right: bool) -> Verdict:
    """RIGHT or WRONG."""
    return Verdict.RIGHT if right else Verdict.WRONG


def split_reply(text: str) -> tuple[tuple[str, ...], str | None]:
    """The steps of a reply, and its answer; None where it ends without one."""
    lines = text.strip().splitlines()
    at = next((i for i, line in enumerate(lines) if line.startswith(MARK)), None)
    if at is None:
        return tuple(lines), None
    return tuple(lines[:at]), lines[at].removeprefix(MARK)
