"""Objectives: how a record becomes tokens, and the pure function from log-probabilities to a loss."""

from selftaught.learn.objectives.base import Objective, Row
from selftaught.learn.objectives.sft import Sft, sft

__all__ = ["Objective", "Row", "Sft", "sft"]
