"""Checking a method's claim: the method and its baselines on the same problems, at equal tokens, over seeds."""

from selftaught.check.results import Compared, Result
from selftaught.check.runner import check

__all__ = ["Compared", "Result", "check"]
