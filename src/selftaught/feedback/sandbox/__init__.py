"""Code that a model wrote, run where it can do no harm."""

from selftaught.feedback.sandbox.bubblewrap import Limits
from selftaught.feedback.sandbox.sandbox import Execution, Sandbox, SandboxBroken, TestResult

__all__ = ["Execution", "Limits", "Sandbox", "SandboxBroken", "TestResult"]
