"""Control of a run: budget, promotion gate and health alarms."""

from selftaught.control.budget import Budget
from selftaught.control.gate import Gate, GateDecision

__all__ = ["Budget", "Gate", "GateDecision"]
