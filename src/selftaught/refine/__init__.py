"""Refinement: conversations about an attempt, how their replies are read, and what there is to learn from them."""

from selftaught.refine.flaws import derail, places, self_talk
from selftaught.refine.lessons import Lesson, critiques, distinct, revisions, teach, verified
from selftaught.refine.turns import accepted, criticise, judge, located, mark_steps, marks, mend, revise, satisfied

__all__ = [
    "Lesson",
    "accepted",
    "criticise",
    "critiques",
    "derail",
    "distinct",
    "judge",
    "located",
    "mark_steps",
    "marks",
    "mend",
    "places",
    "revise",
    "revisions",
    "satisfied",
    "self_talk",
    "teach",
    "verified",
]
