"""Numbers in every notation, with known values, beside everything that may stand at a number."""

from __future__ import annotations

import random
from fractions import Fraction

import pytest

from selftaught.feedback.verifiers import ExtractedAnswer, Math
from selftaught.records import Verdict, make_problem
from selftaught.tasks.extract import Kind, canonical_answer, find_answer

ANSWERS = 20_000
DIGITS = ["0123456789", "０１２３４５６７８９", "٠١٢٣٤٥٦٧٨٩", "०१२३४५६७८९"]
MINUS = ["-", "−", "–", "﹣", "－", "minus ", "negative "]
RAISED = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
MARKERS = [
    "Answer: {}",
    "The answer is {}.",
    "**Answer:** {}",
    "\\boxed{{{}}}",
    "### Final Answer\n\n{}",
    "#### {}",
    "Answer: ${}$",
]
HARMLESS = [
    "{}",
    "{} apples",
    "{} km",
    "x = {}",
    "{} (see above)",
    "{}, because of that",
    "about {}",
    "{} cm^2",
    "{} per day",
]
HARMFUL = [
    "{} ± 1",
    "{}π",
    "{} mod 5",
    "{} million",
    "{}²",
    "{}^3",
    "at least {}",
    "≥ {}",
    "not {}",
    "{} or 9",
    "{} to 77",
    "{} plus 4",
    "{}x",
    "{} + 1",
    "√{}",
    "twice {}",
    "{}_7",
    "{} and a half",
    "half of {}",
    "{} feet 6 inches",
    "{}:30",
    "{}..99",
    "> {}",
    "{} / 7",
    "{} hundred",
    "more than {}",
    "{} squared",
    "{} × 10^3",
    "{}e5",
    "{},5",
    "5 = {}3",
    "\\sqrt{{{}}}",
    "{}\\pi",
    "{} - 3",
]


def grouped(source: random.Random, digits: str) -> str:
    """A whole number with its digits grouped in one of the usual ways."""
    if len(digits) < 4:
        return digits
    separator = source.choice([",", " ", "\u202f", "\u00a0", "'", "’", "_", "{,}", ",\\!", "\\,", ""])
    head = len(digits) % 3 or 3
    return separator.join([digits[:head], *(digits[i : i + 3] for i in range(head, len(digits), 3))])


def notation(source: random.Random) -> tuple[str, Fraction]:
    """A number in some notation, and its value."""
    form = source.randrange(7)
    whole = source.randint(0, 10 ** source.randint(1, 9))
    if form == 0:
        text, value = str(whole).translate(str.maketrans("0123456789", source.choice(DIGITS))), Fraction(whole)
    elif form == 1:
        text, value = grouped(source, str(whole)), Fraction(whole)
    elif form == 2:
        places = source.randint(1, 6)
        part = f"{source.randrange(10**places):0{places}}"
        text, value = f"{whole % 1000}.{part}", Fraction(f"{whole % 1000}.{part}")
    elif form == 3:
        top, bottom = source.randint(1, 99), source.randint(2, 99)
        text = source.choice(["{}/{}", "\\frac{{{}}}{{{}}}", "\\dfrac{{{}}}{{{}}}", "{} / {}"]).format(top, bottom)
        value = Fraction(top, bottom)
    elif form == 4:
        exponent, digits = source.randint(-12, 12), f"{source.randint(1, 9)}.{source.randint(0, 99):02}"
        text = source.choice(
            ["{}e{}", "{} × 10^{{{}}}", "{} \\times 10^{{{}}}", "{} x 10^{}", "{} \\cdot 10^{{{}}}", "raised"]
        )
        text = f"{digits}×10{str(exponent).translate(RAISED)}" if text == "raised" else text.format(digits, exponent)
        value = Fraction(digits) * Fraction(10) ** exponent
    elif form == 5:
        text, value = f"{whole % 100}½", whole % 100 + Fraction(1, 2)
    else:
        text, value = f"{whole % 1000} {source.choice(['1/3', '2/5'])}", Fraction(0)
        value = whole % 1000 + Fraction(text.split()[1])
    if source.random() < 0.3 and value:
        return source.choice(MINUS) + text, -value
    return text, value


@pytest.fixture(scope="module")
def math() -> Math:
    return Math()


def verdict(math: Math, reference: str, text: str) -> Verdict | None:
    found = find_answer(text, Kind.NUMBER)
    answer = ExtractedAnswer(text, *(found or (None, None)))
    known = math.decide(make_problem("q", reference), answer, canonical_answer(reference, Kind.NUMBER))
    return known.verdict if known else None


def test_thousands_of_generated_answers_are_never_wrongly_right(math: Math) -> None:
    source = random.Random(0)
    right = 0
    for i in range(ANSWERS):
        text, value = notation(source)
        reply = source.choice(MARKERS).format(source.choice(HARMLESS).format(text))
        other = value + source.choice([1, -1, Fraction(1, 2)]) if i % 2 else value * 10
        if other != value:
            assert verdict(math, str(other), reply) is not Verdict.RIGHT, (reply, other)
        right += verdict(math, str(value), reply) is Verdict.RIGHT
    assert right > 0.98 * ANSWERS


def test_what_changes_a_number_is_never_ignored(math: Math) -> None:
    source = random.Random(1)
    for _ in range(2_000):
        n = source.randint(2, 999)
        marker, harm = source.choice(MARKERS), source.choice(HARMFUL)
        reply = marker.format(harm.format(n))
        assert verdict(math, str(n), reply) is not Verdict.RIGHT, reply
