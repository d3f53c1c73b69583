"""Feedback: verifiers that say RIGHT, WRONG or UNKNOWN, in processes that can be killed."""

from selftaught.feedback.user import UserFunction
from selftaught.feedback.verifiers import Exact, ExtractedAnswer, Math, ReasoningGym, Verifier
from selftaught.feedback.workers import Reply, Workers

__all__ = ["Exact", "ExtractedAnswer", "Math", "ReasoningGym", "Reply", "UserFunction", "Verifier", "Workers"]
