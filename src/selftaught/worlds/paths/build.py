"""What the models of `paths` are trained on: one writer for each of its kin."""

from __future__ import annotations

from collections.abc import Iterator

from selftaught.worlds.kit.lessons import Encoded
from selftaught.worlds.kit.lessons import lessons as lessons_by
from selftaught.worlds.paths.skills import KIN
from selftaught.worlds.paths.writer import paths_writer


def lessons(kin: str, seed: int) -> Iterator[Encoded]:
    """The text of one of the kin, without an end."""
    return (lesson.encoded() for lesson in lessons_by(paths_writer(KIN[kin]), seed))
