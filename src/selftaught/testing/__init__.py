"""Test your own methods: conformance checks, and a scripted model that adds numbers, without torch or pytest.

from selftaught import find_method
from selftaught.testing import conformance

conformance(find_method("my_method.py:my_method"))
"""

from selftaught.testing.checks import checks_of, conformance
from selftaught.testing.narrow import NarrowEngine
from selftaught.testing.sums import Inverted, Learner, SumAnnotator, make_run, make_task, solve_sum, sums
from selftaught.testing.survival import assert_survives

__all__ = [
    "Inverted",
    "Learner",
    "NarrowEngine",
    "SumAnnotator",
    "assert_survives",
    "checks_of",
    "conformance",
    "make_run",
    "make_task",
    "solve_sum",
    "sums",
]
