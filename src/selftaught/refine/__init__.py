"""Refinement: conversations about an attempt, and how their replies are read."""

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

__all__ = [
    "accepted",
    "again",
    "criticise",
    "derail",
    "doubted",
    "judge",
    "located",
    "mark_steps",
    "marks",
    "mend",
    "places",
    "revise",
    "satisfied",
    "self_talk",
    "two_turns",
]
