"""Refinement: conversations about an attempt, how their replies are read, and what there is to learn from them."""

from selftaught.refine.flaws import derail, places, self_talk
from selftaught.refine.turns import (
    accepted,
    again,
    criticise,
    doubted,
    judge,
    located,
    mark_steps,
    marks,
    mend,
    revise,
    satisfied,
    two_turns,
)
from selftaught.routines.critiques import Lesson, critiques, distinct, revisions, right_revisions, teach, verified
from selftaught.routines.repair import critic_lessons, repair

__all__ = [
    "Lesson",
    "accepted",
    "again",
    "critic_lessons",
    "criticise",
    "critiques",
    "derail",
    "distinct",
    "doubted",
    "judge",
    "located",
    "mark_steps",
    "marks",
    "mend",
    "places",
    "repair",
    "revise",
    "revisions",
    "right_revisions",
    "satisfied",
    "self_talk",
    "teach",
    "two_turns",
    "verified",
]
