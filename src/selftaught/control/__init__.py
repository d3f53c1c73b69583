"""Control: what decides whether a run goes on, and with which policy."""

from selftaught.control.budget import Budget
from selftaught.control.gate import Gate, GateDecision

__all__ = ["Budget", "Gate", "GateDecision"]
