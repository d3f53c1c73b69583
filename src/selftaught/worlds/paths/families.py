"""The families of the world `paths`."""

from __future__ import annotations

from selftaught.worlds.paths.equation import Equation
from selftaught.worlds.paths.family import Paths
from selftaught.worlds.paths.lists import Lists
from selftaught.worlds.paths.program import Program
from selftaught.worlds.paths.recall import Recall
from selftaught.worlds.paths.skills import BASE, Skills
from selftaught.worlds.paths.target import Target

NAMES = ("paths", "equation", "target", "program", "lists", "recall")
"""Names of all families."""
CORE = ("paths",)
"""Names of the families of a task that names none."""


def make_families(skills: Skills = BASE) -> tuple[Paths, Equation, Target, Program, Lists, Recall]:
    """Every family, with the tables of a writer with these skills."""
    return Paths(skills), Equation(skills), Target(skills), Program(skills), Lists(skills), Recall(skills)
