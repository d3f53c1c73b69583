"""The exact annotator of a world of the kit: right critiques, mended drafts and solutions, in the world's words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from selftaught.records import Problem
from selftaught.worlds.kit.conversation import parse_critique
from selftaught.worlds.kit.family import Family, split_reply
from selftaught.worlds.kit.language import NEWLINE, NO_MISTAKES, SOUND, STEP, UNSOUND, of_place, place


class KitAnnotator:
    """Annotates any reply to any problem of the world. Pure functions.

    Args:
        families: of the world.
        version: of its annotations.
    """

    def __init__(self, families: Sequence[Family], version: str) -> None:
        self._families, self.version = tuple(families), version

    def critique(self, problem: Problem, text: str) -> str:
        """Marks up to the first wrong step, its number and right result; or marks and `no mistakes`."""
        return "".join(right_critique(f, f.read(problem.question), problem.reference, text) for f in self._of(problem))

    def revision(self, problem: Problem, text: str) -> str:
        """The draft up to its first wrong step, and a right solution from there; a right draft as it is."""
        return "".join(f.mended(f.read(problem.question), problem.reference, text) for f in self._of(problem))

    def solution(self, problem: Problem) -> str:
        """A right solution."""
        return "".join(f.solution(f.read(problem.question), problem.reference) for f in self._of(problem))

    def _of(self, problem: Problem) -> Sequence[Family]:
        """The problem's family; none for a problem of another world, whose annotations are empty."""
        return [family for family in self._families if family.read(problem.question) is not None][:1]


def right_critique(family: Family, problem: Any, reference: Any, text: str) -> str:
    """The right critique of a reply, in the words of the world's critics."""
    found, lines = family.locate(problem, reference, text), split_reply(text)[0]
    restated = family.restated(problem, lines)
    if found is None:
        return f"{_marks(restated, len(lines))}{NEWLINE}{NO_MISTAKES}"
    marks = _marks(restated[: found.step], found.step - 1)
    critique = f"{marks}{NEWLINE}{STEP}{of_place(found.step)}{found.given}{found.result}"
    assert parse_critique(critique) == found
    return critique


def _marks(restated: Sequence[str], right: int) -> str:
    """Marks of lines, of which so many are right."""
    return "".join(f"{place(i)}{token}{SOUND if i <= right else UNSOUND}" for i, token in enumerate(restated, 1))
