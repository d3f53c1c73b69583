"""The families of problems of the tiny world, by name."""

from selftaught.worlds.tiny.families.add import Add
from selftaught.worlds.tiny.families.base import LEVELS, MARK, Checked, Family, WriteStep, Written, exactly, split_reply
from selftaught.worlds.tiny.families.chain import Chain
from selftaught.worlds.tiny.families.choice import ChoiceFamily
from selftaught.worlds.tiny.families.claim import ClaimFamily
from selftaught.worlds.tiny.families.equation import Equation
from selftaught.worlds.tiny.families.program import Program
from selftaught.worlds.tiny.families.target import Target

FAMILIES: dict[str, Family] = {
    family.name: family for family in (Chain(), Add(), Target(), Equation(), Program(), ChoiceFamily(), ClaimFamily())
}

__all__ = ["FAMILIES", "LEVELS", "MARK", "Checked", "Family", "WriteStep", "Written", "exactly", "split_reply"]
