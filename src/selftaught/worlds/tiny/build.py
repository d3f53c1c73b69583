"""Builds of the tiny world: which kin there are, and the text that each of them reads."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import replace

from selftaught.worlds.kit.build import BuildConfig, TrainingConfig
from selftaught.worlds.kit.draft import Encoded
from selftaught.worlds.kit.lessons import Mix
from selftaught.worlds.kit.lessons import lessons as lessons_by
from selftaught.worlds.kit.writer import Writer
from selftaught.worlds.tiny.skills import KIN
from selftaught.worlds.tiny.writer import paths_writer

WEIGHTS = (
    *((skill, 12.0) for skill in ("follow", "hint")),
    ("judge", 16.0),
    *((skill, 8.0) for skill in ("critique:result", "copy", "distractor", "way:shown", "redo")),
    *((skill, 6.0) for skill in ("result", "critique", "locate")),
    *((skill, 4.0) for skill in ("mark", "revise", "way:hint")),
    *((skill, 4.0) for skill in ("search", "infer", "invert", "stop")),
    *((skill, 3.0) for skill in ("way", "facts")),
    *((skill, 2.0) for skill in ("lines", "revise:copy")),
)  # fmt: skip
"""Rare decisions count more in the loss, and what tokens are certain of, less."""

MIX = Mix(family_weights=(("paths", 0.62), ("equation", 0.18), ("lists", 0.12), ("recall", 0.08)))
"""What the text is made of: mostly the family that claims are checked on, and those that read the same tables."""
WIDE = Mix(
    family_weights=(
        *(("paths", 0.25), ("equation", 0.1), ("target", 0.25)),
        *(("program", 0.25), ("lists", 0.1), ("recall", 0.05)),
    )
)
"""What the text of the model of all families is made of: mostly searches and programs, which take longest to learn."""
NO_WAIT = replace(MIX, waits=0.0)
"""What the text of the control is made of: no solution is interrupted."""
MIXES = {"wide": WIDE, "no-wait": NO_WAIT}

PRESETS: Mapping[str, BuildConfig] = {kin: BuildConfig(kin, training=TrainingConfig(weights=WEIGHTS)) for kin in KIN}
"""Kin -> its build. Each is held against its own writer; another seed gives another model of the same writer."""


def lessons(kin: str, seed: int) -> Iterator[Encoded]:
    """The text of one of the kin, without an end."""
    return (lesson.encoded() for lesson in lessons_by(writer_of(kin), seed, mix_of(kin)))


def mix_of(kin: str) -> Mix:
    """What the text of one of the kin is made of."""
    return MIXES.get(kin, MIX)


def writer_of(kin: str) -> Writer:
    """The writer of one of the kin, of the families in its text."""
    return paths_writer(KIN[kin], tuple(name for name, _ in mix_of(kin).family_weights))
