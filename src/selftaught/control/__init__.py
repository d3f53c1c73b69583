"""Control: what decides whether a run goes on, and with which policy."""

from selftaught.control.budget import Budget
from selftaught.control.gate import Decision, Gate

__all__ = ["Budget", "Decision", "Gate"]
