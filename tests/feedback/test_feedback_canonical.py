"""Canonical answers and numbers, against Python's own exact arithmetic."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.feedback.canonical import as_number, canonical, canonical_number, same_number


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("7", "7"),
        ("007", "7"),
        ("3.0", "3"),
        ("3.50", "3.5"),
        ("-0", "0"),
        ("-0.0", "0"),
        ("+5", "5"),
        ("1,234", "1234"),
        ("1,234,567.80", "1234567.8"),
        ("$1,234.50.", "1234.5"),
        ("-$3", "-3"),
        ("$-3$", "-3"),
        ("−3", "-3"),
        ("50%", "50"),
        ("50\\%", "50"),
        ("1/2", "1/2"),
        ("2/4", "1/2"),
        ("4/2", "2"),
        ("-6/4", "-3/2"),
        ("3 1/2", "7/2"),
        ("\\frac{1}{2}", "1/2"),
        ("\\dfrac{-1}{2}", "-1/2"),
        ("3\\frac{1}{2}", "7/2"),
        ("\\frac12", "1/2"),
        ("1e3", "1000"),
        ("1.5e-3", "0.0015"),
        (".5", "0.5"),
        ("\\(\\frac{2}{4}\\)", "1/2"),
        ("\\boxed{12}", "12"),
        ("**12**", "12"),
    ],
)
def test_a_number_has_one_spelling(text: str, expected: str) -> None:
    assert canonical(text) == expected
    assert canonical_number(text) == expected


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "12 apples",
        "1/0",
        "1,23",
        "1.2.3",
        "--5",
        "1e99999",
        "9" * 5000,
        "1/2/3",
        "nan",
        "inf",
        "0x10",
        "1_000",
    ],
)
def test_what_is_no_number(text: str) -> None:
    assert canonical_number(text) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("(B)", "B"),
        ("b)", "B"),
        ("B.", "B"),
        ("Yes.", "yes"),
        ("TRUE", "true"),
        ("  Barn   damp ", "barn damp"),
        ("\\text{Evelyn}", "evelyn"),
        ("`code`", "code"),
        ("", ""),
    ],
)
def test_other_answers(text: str, expected: str) -> None:
    assert canonical(text) == expected


@given(st.integers(-(10**30), 10**30))
def test_integers_keep_their_value_in_every_spelling(n: int) -> None:
    for text in (str(n), f"{n:,}", f"{n}.00", f"${n}$", f"{n}%", f"**{n}**", f"\\boxed{{{n}}}", f" {n}. "):
        assert canonical(text) == str(n)


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**12), max_value=10**12, places=6))
def test_decimals_keep_their_value(d: Decimal) -> None:
    assert as_number(f"{d:f}") == Fraction(d)
    assert as_number(f"{d:e}") == Fraction(d)


@given(st.integers(-(10**6), 10**6), st.integers(1, 10**6))
def test_fractions_keep_their_value(top: int, bottom: int) -> None:
    expected = Fraction(top, bottom)
    assert as_number(f"{top}/{bottom}") == expected
    assert as_number(f"\\frac{{{top}}}{{{bottom}}}") == expected


@settings(max_examples=300)
@given(st.text(alphabet="0123456789.,-+/$%*(){}\\ eEfracboxedyn", max_size=60))
def test_canonical_is_a_fixed_point(text: str) -> None:
    once = canonical(text)
    assert canonical(once) == once


def test_whole_numbers_must_be_met_exactly_and_others_to_six_places() -> None:
    assert same_number(Fraction(7), Fraction("7.0"))
    assert not same_number(Fraction(7), Fraction("7.0000001"))
    assert not same_number(Fraction(1000), Fraction(1005))
    assert same_number(Fraction(1, 3), Fraction("0.333333"))
    assert not same_number(Fraction(1, 3), Fraction("0.33333"))
