"""Canonical answers and numbers, against Python's own exact arithmetic."""

from __future__ import annotations

from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.feedback.canonical import canonical, canonical_number, same_number


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
        ("1/2", "0.5"),
        ("2/4", "0.5"),
        ("4/2", "2"),
        ("-6/4", "-1.5"),
        ("2/6", "1/3"),
        ("1 234 567", "1234567"),
        ("12,34,567", "1234567"),
        ("1'234'567.5", "1234567.5"),
        ("1_000", "1000"),
        ("10{,}080", "10080"),
        ("6.02 \\times 10^{23}", "602" + 21 * "0"),
        ("1.6×10⁻¹⁹", "0.00000000000000000016"),
        ("2½", "2.5"),
        ("٣٤", "34"),
        ("2^{10}", "1024"),
        ("3 1/2", "3.5"),
        ("\\frac{1}{2}", "0.5"),
        ("\\dfrac{-1}{2}", "-0.5"),
        ("3\\frac{1}{2}", "3.5"),
        ("\\frac12", "0.5"),
        ("1e3", "1000"),
        ("1.5e-3", "0.0015"),
        (".5", "0.5"),
        ("\\(\\frac{2}{4}\\)", "0.5"),
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


def as_number(text: str) -> Fraction:
    return Fraction(canonical_number(text) or "nan")


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


@pytest.mark.parametrize(
    ("reference", "answer", "same"),
    [
        ("7", "7.0", True),
        ("7", "7.0000001", False),
        ("1000", "1005", False),
        ("1/3", "0.333333", True),
        ("1/3", "0.33333", False),
        ("1/3", "0.333334", False),
        ("0.333333", "1/3", True),
        ("1/13983816", "0", False),
        ("1/13983816", "1/13983817", False),
        ("0.00000000022", "0.000000000022", False),
        ("0.30000000000000004", "0.3", True),
        ("123.44999694824219", "123.45", True),  # 32-bit floats, as a Parquet file hands them over
        ("16777.19921875", "16777.2", True),
        ("0.3333333432674408", "1/3", True),
        ("0.3333333432674408", "0.3334", False),
        ("1234567.5", "1234567.52", False),
    ],
)
def test_numbers_are_compared_relative_to_their_size(reference: str, answer: str, same: bool) -> None:
    assert same_number(reference, answer) is same
