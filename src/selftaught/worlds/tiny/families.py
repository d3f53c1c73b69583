"""The families of the tiny world."""

from __future__ import annotations

from selftaught.worlds.tiny.equation import Equation
from selftaught.worlds.tiny.family import Paths
from selftaught.worlds.tiny.lists import Lists
from selftaught.worlds.tiny.program import Program
from selftaught.worlds.tiny.recall import Recall
from selftaught.worlds.tiny.skills import BASE, Skills
from selftaught.worlds.tiny.target import Target

NAMES = ("paths", "equation", "target", "program", "lists", "recall")
"""Names of all families."""
CORE = ("paths",)
"""Names of the families of a task that names none."""


def make_families(skills: Skills = BASE) -> tuple[Paths, Equation, Target, Program, Lists, Recall]:
    """Every family, with the tables of a writer with these skills."""
    return Paths(skills), Equation(skills), Target(skills), Program(skills), Lists(skills), Recall(skills)
