"""Builds of `paths`: which kin there are, and the text that each of them reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from selftaught.worlds.kit.build import BuildConfig
from selftaught.worlds.kit.lessons import Encoded
from selftaught.worlds.kit.lessons import lessons as lessons_by
from selftaught.worlds.paths.skills import KIN
from selftaught.worlds.paths.writer import paths_writer

PRESETS: Mapping[str, BuildConfig] = {kin: BuildConfig(kin) for kin in KIN}
"""Kin -> its build. Each is held against its own writer; another seed gives another model of the same writer."""


def lessons(kin: str, seed: int) -> Iterator[Encoded]:
    """The text of one of the kin, without an end."""
    return (lesson.encoded() for lesson in lessons_by(paths_writer(KIN[kin]), seed))
