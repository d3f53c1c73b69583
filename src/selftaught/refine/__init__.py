"""Refinement: conversations about an attempt, and how their replies are read."""

from selftaught.refine.turns import accepted, criticise, judge, located, mark_steps, marks, revise, satisfied

__all__ = ["accepted", "criticise", "judge", "located", "mark_steps", "marks", "revise", "satisfied"]
