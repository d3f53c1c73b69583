"""The exact annotator of a world of the kit: right critiques, mended drafts and solutions, in the world's words."""

from __future__ import annotations

from collections.abc import Sequence

from selftaught.records import Problem
from selftaught.worlds.kit.family import Family
from selftaught.worlds.kit.lessons import right_critique


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
