"""Votes count by value: equal expressions share a key, others do not."""

from __future__ import annotations

import time

import pytest

from selftaught.feedback.equality import equality_key


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x/2", "\\frac{x}{2}"),
        ("(x+1)^2", "x^2+2x+1"),
        ("\\sqrt{45}", "3\\sqrt{5}"),
        ("2\\pi", "\\pi \\cdot 2"),
        ("1-x", "-x+1"),
        ("1/2", "0.5"),
        ("2^10", "1024"),
        ("e^{2}", "e \\cdot e"),
        ("-x^2", "-(x^2)"),
        ("3√2", "\\sqrt{18}"),
    ],
)
def test_equal_expressions_share_a_key(one: str, other: str) -> None:
    assert equality_key(one) == equality_key(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("x-1", "1-x"),
        ("x/2", "2/x"),
        ("-x^2", "(-x)^2"),
        ("x", "y"),
        ("\\pi", "3.14159"),
        ("paris", "rome"),
        ("(1,2)", "(2,1)"),
        ("B", "b+0"),
    ],
)
def test_others_do_not(one: str, other: str) -> None:
    assert equality_key(one) != equality_key(other)


@pytest.mark.parametrize(
    "text", ["(" * 5_000, "9^" * 900, "1/0x", "x^" * 90 + "x", "\\frac" * 50, "-" * 1_900, "x" * 1_999, "+*/"]
)
def test_anything_is_survived_in_a_moment(text: str) -> None:
    start = time.process_time()
    assert equality_key(text)
    assert time.process_time() - start < 0.5
