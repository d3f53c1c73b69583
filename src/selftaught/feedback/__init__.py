"""Feedback: verifiers that return RIGHT, WRONG or UNKNOWN, in killable processes."""

from selftaught.feedback.user import UserFunction
from selftaught.feedback.verifiers import Exact, ExtractedAnswer, Math, ReasoningGym, Verifier
from selftaught.feedback.workers import Reply, Workers

__all__ = ["Exact", "ExtractedAnswer", "Math", "ReasoningGym", "Reply", "UserFunction", "Verifier", "Workers"]
