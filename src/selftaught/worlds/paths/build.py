"""Builds of `paths`: which kin there are, and the text that each of them reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from selftaught.worlds.kit.build import BuildConfig, TrainingConfig
from selftaught.worlds.kit.lessons import Encoded
from selftaught.worlds.kit.lessons import lessons as lessons_by
from selftaught.worlds.paths.skills import KIN
from selftaught.worlds.paths.writer import paths_writer

WEIGHTS = (
    *((skill, 4.0) for skill in ("result", "follow", "hint", "copy", "critique", "redo", "direct", "mark")),
    *((skill, 3.0) for skill in ("distractor", "choose", "locate", "judge", "revise")),
    ("facts", 2.0),
    ("lines", 2.0),
    ("way", 1.5),
)  # fmt: skip
"""Rare decisions count more in the loss, and what tokens are certain of, less."""

PRESETS: Mapping[str, BuildConfig] = {kin: BuildConfig(kin, training=TrainingConfig(weights=WEIGHTS)) for kin in KIN}
"""Kin -> its build. Each is held against its own writer; another seed gives another model of the same writer."""


def lessons(kin: str, seed: int) -> Iterator[Encoded]:
    """The text of one of the kin, without an end."""
    return (lesson.encoded() for lesson in lessons_by(paths_writer(KIN[kin]), seed))
