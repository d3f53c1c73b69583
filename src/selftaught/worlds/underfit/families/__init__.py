"""The families of problems of the underfit world, by name."""

from selftaught.worlds.underfit.families.add import Add
from selftaught.worlds.underfit.families.base import (
    LEVELS,
    MARK,
    Checked,
    Family,
    WriteStep,
    Written,
    exactly,
    split_reply,
)
from selftaught.worlds.underfit.families.chain import Chain
from selftaught.worlds.underfit.families.choice import ChoiceFamily
from selftaught.worlds.underfit.families.claim import ClaimFamily
from selftaught.worlds.underfit.families.equation import Equation
from selftaught.worlds.underfit.families.program import Program
from selftaught.worlds.underfit.families.target import Target

FAMILIES: dict[str, Family] = {
    family.name: family for family in (Chain(), Add(), Target(), Equation(), Program(), ChoiceFamily(), ClaimFamily())
}

__all__ = ["FAMILIES", "LEVELS", "MARK", "Checked", "Family", "WriteStep", "Written", "exactly", "split_reply"]
