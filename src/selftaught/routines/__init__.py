"""Procedures over a run that several methods share."""

from selftaught.routines.critiques import Lesson, critiques, distinct, revisions, right_revisions, teach, verified
from selftaught.routines.repair import critic_lessons, repair

__all__ = [
    "Lesson",
    "critic_lessons",
    "critiques",
    "distinct",
    "repair",
    "revisions",
    "right_revisions",
    "teach",
    "verified",
]
