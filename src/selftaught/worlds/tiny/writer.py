"""Writers of `paths`, by their skills."""

from __future__ import annotations

from functools import cache

from selftaught.records import content_hash
from selftaught.worlds.kit.writer import Writer
from selftaught.worlds.tiny.families import CORE, make_families
from selftaught.worlds.tiny.skills import BASE, Skills


@cache
def paths_writer(skills: Skills = BASE, families: tuple[str, ...] = CORE) -> Writer:
    """The writer with these skills, of the families with these names."""
    chosen = [family for family in make_families(skills) if family.name in families]
    named = "" if families == CORE else f"/{'+'.join(families)}"
    return Writer(chosen, skills, f"paths/{content_hash(repr(skills))}{named}")
