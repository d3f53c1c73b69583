"""Answers as text: markup removed, one spelling for each number, formulas in a form a parser reads."""

from __future__ import annotations

from fractions import Fraction

import pytest

from selftaught.feedback.canonical import canonical, canonical_number, number_from_latex, plain_fractions, same_number
from selftaught.feedback.canonical import strip_markup as strip
from selftaught.feedback.expressions import (
    alternatives,
    connectives,
    is_based,
    is_mathematics,
    is_words,
    normalize_math,
    to_parseable,
)
from selftaught.feedback.numbers import ambiguity_around, number_text, read_quantity, with_unit
from selftaught.feedback.plain import plain_characters
from selftaught.feedback.words import word_set


@pytest.mark.parametrize(
    ("written", "bare"),
    [
        ("**42**.", "42"),
        ("$\\frac{1}{2}$", "\\frac{1}{2}"),
        ("`x`", "x"),
        ("\\(3\\)", "3"),
        ("\\text{yes}", "yes"),
        ("\\boxed{7}", "7"),
        ("$$\\boxed{\\text{no}}$$", "no"),
        ("{1, 2} and {3}", "{1, 2} and {3}"),  # braces at both ends that are not a pair
    ],
)
def test_markup_around_an_answer_is_removed(written: str, bare: str) -> None:
    assert strip(written) == bare


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("３４", "34"),
        ("−5", "-5"),
        ("½", "1/2"),
        ("1½", "1 1/2"),
        ("x²", "x^{2}"),
        ("a₁₂", "a_{12}"),
        ("a\u200bb", "ab"),
        ("1\u202f000", "1 000"),
        ("٣", "3"),
    ],
)
def test_characters_have_one_plain_form(text: str, plain: str) -> None:
    assert plain_characters(text) == plain


@pytest.mark.parametrize(
    ("text", "number"),
    [("1{,}234", "1,234"), ("12\\%", "12%"), ("\\frac{3}{4}", "3/4"), ("3\\frac{1}{2}", "3 1/2"), ("\\text{7}", "7")],
)
def test_numbers_in_latex_become_plain(text: str, number: str) -> None:
    assert number_from_latex(text) == number


def test_only_fractions_of_whole_numbers_become_plain() -> None:
    assert plain_fractions("\\frac{3}{4} and 12\\%") == "3/4 and 12\\%"
    assert plain_fractions("\\frac{a}{b}") == "\\frac{a}{b}"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("1,234.50", "1234.5"),
        ("-0", "0"),
        ("3/6", "0.5"),
        ("1e3", "1000"),
        ("50%", "50"),
        ("007", "7"),
        ("3 1/2", "3.5"),
        ("1/3", "1/3"),
        ("abc", None),
        ("1/0", None),
        ("", None),
        ("12 apples", None),
    ],
)
def test_a_number_has_one_spelling(text: str, number: str | None) -> None:
    assert canonical_number(text) == number


@pytest.mark.parametrize(("text", "form"), [("(B)", "B"), ("Yes.", "yes"), ("The  Cat", "the cat"), ("1,234", "1234")])
def test_other_answers_have_one_spelling_too(text: str, form: str) -> None:
    assert canonical(text) == form


@pytest.mark.parametrize(
    ("reference", "answer", "equal"),
    [
        ("2", "2", True),
        ("1/3", "0.3333333333333333", True),  # what a machine prints for it
        ("1/3", "0.333", False),  # a rounding may be an error
        ("0.1", "0.10000000149011612", True),  # the float32 nearest to it
        ("0.1", "0.1000001", False),
        ("2", "-2", False),
    ],
)
def test_decimals_equal_fractions_only_to_machine_precision(reference: str, answer: str, equal: bool) -> None:
    assert same_number(reference, answer) is equal


@pytest.mark.parametrize(
    ("value", "text"),
    [(Fraction(1, 3), "1/3"), (Fraction(5, 2), "2.5"), (Fraction(-7), "-7"), (Fraction(1, 1024), "0.0009765625")],
)
def test_a_value_is_written_as_a_decimal_where_it_ends(value: Fraction, text: str) -> None:
    assert number_text(value) == text
    assert canonical_number(text) == text


@pytest.mark.parametrize(
    ("phrase", "value"),
    [
        ("about 12 apples", 12),
        ("$1,200", 1200),
        ("3 million", 3_000_000),
        ("minus 5", -5),
        ("-5", -5),
        ("2^3", 8),
        ("1 1/2 cups", Fraction(3, 2)),
    ],
)
def test_a_quantity_is_read_from_its_phrase(phrase: str, value: Fraction) -> None:
    found = read_quantity(phrase)
    assert not isinstance(found, str)
    assert found.value == value


@pytest.mark.parametrize(("phrase", "why"), [("12 or 13", "'or'"), ("12 dozen", "'dozen'"), ("none", ""), ("half", "")])
def test_a_phrase_without_one_certain_number_says_why(phrase: str, why: str) -> None:
    found = read_quantity(phrase)
    assert isinstance(found, str)
    assert found.startswith(why)
    assert bool(found) == bool(why)  # empty where there is no number at all


def test_a_point_that_may_group_digits_keeps_both_readings() -> None:
    found = read_quantity("1.200")
    assert not isinstance(found, str)
    assert (found.value, found.bare) == (Fraction(6, 5), Fraction(1200))


@pytest.mark.parametrize(
    ("text", "unit"), [("12 m^3", "m^3"), ("7.5 miles", "miles"), ("12", ""), ("5%", None), ("about 5 m", None)]
)
def test_a_unit_is_what_stands_behind_a_number(text: str, unit: str | None) -> None:
    found = with_unit(text)
    assert (found and found[1]) == unit


@pytest.mark.parametrize(
    ("before", "after", "unclear"),
    [("", "", False), ("It is ", ".", False), ("not ", "", True), ("minus ", "", True), ("", " + 3", True)],
)
def test_what_stands_around_a_formula_may_make_it_uncertain(before: str, after: str, unclear: bool) -> None:
    assert bool(ambiguity_around(before, after)) is unclear


@pytest.mark.parametrize(
    ("text", "parseable"),
    [("\\frac12", "\\frac{1}{2}"), ("√2", "\\sqrt{2}"), ("\\dfrac{a}{b}", "\\frac{a}{b}"), ("x ≤ 3", "x \\le 3")],
)
def test_formulas_are_spelled_for_a_parser(text: str, parseable: str) -> None:
    assert " ".join(to_parseable(text).split()) == parseable


@pytest.mark.parametrize(
    ("one", "other"),
    [("\\frac12", "\\frac{1}{2}"), ("x^{2}", "x^2"), ("a + b", "a+b"), ("\\dfrac{a}{b}", "\\frac{a}{b}")],
)
def test_formulas_that_differ_in_spelling_alone_are_one(one: str, other: str) -> None:
    assert normalize_math(to_parseable(one)) == normalize_math(to_parseable(other))


@pytest.mark.parametrize(("text", "based"), [("101_2", True), ("101_{10}", False), ("x_1", False), ("12", False)])
def test_a_base_other_than_ten_is_noticed(text: str, based: bool) -> None:
    assert is_based(text) is based


@pytest.mark.parametrize(
    ("text", "parts", "words"),
    [
        ("x=1 or x=2", ["x=1", "x=2"], {"or"}),
        ("x=\\pm 2", ["x=+ 2", "x=- 2"], set()),
        ("1 and 2", ["1", "2"], {"and"}),
        ("3", ["3"], set()),
    ],
)
def test_statements_are_told_apart(text: str, parts: list[str], words: set[str]) -> None:
    assert alternatives(to_parseable(text)) == parts
    assert connectives(to_parseable(text)) == words


@pytest.mark.parametrize(
    ("text", "mathematics", "in_words"),
    [
        ("x+1", True, False),
        ("\\frac{1}{2}", True, False),
        ("2 +", False, False),  # cut off
        ("\\text{Evelyn}", False, True),
        ("\\text{(C)}", False, True),
    ],
)
def test_mathematics_and_words_are_told_apart(text: str, mathematics: bool, in_words: bool) -> None:
    assert (is_mathematics(to_parseable(text)), is_words(to_parseable(text))) == (mathematics, in_words)


def test_a_list_of_words_is_a_set() -> None:
    assert word_set("mod and  mod") == {"mod", "and"}
