"""Writers of `paths`, by their skills."""

from __future__ import annotations

from functools import cache

from selftaught.records import content_hash
from selftaught.worlds.kit.writer import Writer
from selftaught.worlds.paths.family import Paths
from selftaught.worlds.paths.skills import BASE, Skills


@cache
def paths_writer(skills: Skills = BASE) -> Writer:
    """The writer with these skills."""
    return Writer((Paths(skills),), skills, f"paths/{content_hash(repr(skills))}")
