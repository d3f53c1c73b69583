"""Laws of numbers, characters and symbolic equality."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from selftaught.feedback.equality import equality_key, same_answer
from selftaught.feedback.numbers import NUMBER, Quantity, as_written, number_text, read_quantity, value_of, with_unit
from selftaught.feedback.plain import plain_characters
from selftaught.feedback.symbolic import close_in_ratio, equal_as_complex, identical_on_reals, is_rounding

WHOLE = st.integers(-(10**12), 10**12)


@given(WHOLE, st.integers(1, 10**6))
def test_a_number_is_read_back_from_its_one_spelling(top: int, bottom: int) -> None:
    value = Fraction(top, bottom)
    text = number_text(value)
    assert Fraction(text) == value
    match = NUMBER.fullmatch(text)
    assert match is not None
    assert value_of(match) == value


@given(st.integers(0, 10**15), st.sampled_from([",", "_", "'"]))
def test_grouping_changes_no_value(number: int, mark: str) -> None:
    match = NUMBER.fullmatch(f"{number:,}".replace(",", mark))
    assert match is not None
    assert value_of(match) == number
    assert as_written(match) == str(number)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("$1.2 million per year", 1_200_000),
        ("negative 3 apples", -3),
        ("2 1/2 hours", Fraction(5, 2)),
        ("6.02 x 10^23", Fraction("6.02e23")),
        ("-$5", -5),
        ("2^10", 1024),
        ("3 dozen", None),
        ("at least 3", None),
        ("half of 12", None),
        ("3 or 4", None),
        ("1/0", None),
        ("5!", None),
        ("minus -3", None),
        ("no number", None),
    ],
)
def test_a_phrase_states_a_number_or_says_why_not(text: str, value: Fraction | int | None) -> None:
    found = read_quantity(text)
    assert isinstance(found, Quantity) is (value is not None)
    if isinstance(found, Quantity):
        assert found.value == value


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("12", ""),
        ("12 m^{3}", "m^3"),
        ("7.5 miles.", "miles"),
        ("60 km/h", None),
        ("12 apples and 3", None),
        ("x", None),
    ],
)
def test_a_unit_is_read_only_where_nothing_else_stands(text: str, unit: str | None) -> None:
    found = with_unit(text)
    assert (found and found[1]) == unit


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("１２３", "123"),
        ("٣٫٥", "3.5"),
        ("\u22125", "-5"),
        ("10⁻⁵", "10^{-5}"),
        ("x₁₂", "x_{12}"),
        ("2½", "2 1/2"),
        ("¾", "3/4"),
        ("1\u202f000", "1 000"),
        ("4\u200b2", "42"),
        ("— 5 – 7", "— 5 – 7"),
        ("\u20135", "-5"),
        ("3\u20135", "3\u20135"),  # a range
        ("42 ✅", "42  "),
    ],
)
def test_characters_are_replaced_by_plain_ones(text: str, plain: str) -> None:
    assert plain_characters(text) == plain


@given(st.text("0123456789abc ½²₂−–１٣\u200b\u2009", max_size=30))
def test_plain_text_stays_as_it_is(text: str) -> None:
    once = plain_characters(text)
    assert plain_characters(once) == once


@settings(max_examples=50, deadline=None)
@given(st.integers(-9, 9), st.integers(-9, 9), st.integers(1, 9))
def test_equal_expressions_share_a_key_and_unequal_ones_do_not(a: int, b: int, c: int) -> None:
    assert same_answer(f"(x+{a})*(x+{b})", f"x^2+{a + b}*x+{a * b}")
    assert same_answer(f"\\frac{{x}}{{{c}}}", f"x/{c}")
    assert not same_answer(f"x+{a}", f"x+{a + c}")
    assert equality_key(f"x^{c}") != equality_key(f"x^{c + 1}")


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [("(1+i)^2", "2*i", True), ("(1+i)^2", "2", False), ("x+i", "x-i", False), ("x", "y", None), ("i*x", "x", None)],
)
def test_i_is_the_imaginary_unit(gold: str, answer: str, equal: bool | None) -> None:
    from sympy import sympify

    one, two = (sympify(text.replace("^", "**")) for text in (gold, answer))
    assert equal_as_complex(one, two) is equal


@pytest.mark.parametrize(
    ("one", "two", "rounding", "close"),
    [
        ("pi", "3.14", True, False),
        ("1/3", "0.3333", True, False),
        ("1/3", "0.3333333", True, True),
        ("1/3", "0.34", False, False),
        ("0.5", "0.5000001", False, True),
        ("1/2", "50", False, True),  # a percentage
        ("0", "0", False, True),
        ("0", "0.001", False, False),
        ("x", "3.14", False, True),
    ],
)
def test_a_rounded_number_is_near_and_close_is_relative(one: str, two: str, rounding: bool, close: bool) -> None:
    from sympy import sympify

    gold, answer = sympify(one), sympify(two)
    assert is_rounding(gold, answer) is rounding
    assert close_in_ratio(gold, answer) is close


@pytest.mark.parametrize(
    ("one", "two", "same"),
    [
        ("sqrt(1/n)", "1/sqrt(n)", True),
        ("log(x**2)", "2*log(x)", False),  # real below 0, too
        ("sqrt(x**2)", "x", False),
        ("x + y", "x", False),
        ("2", "2", False),  # no symbol to try
        ("sin(x)**2", "1 - cos(x)**2", True),
    ],
)
def test_identities_hold_wherever_either_side_is_real(one: Any, two: Any, same: bool) -> None:
    from sympy import sympify

    assert identical_on_reals(sympify(one), sympify(two)) is same
