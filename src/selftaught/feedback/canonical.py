"""Normalize answers to a canonical form, so that they can be compared and counted.

`canonical("007") == "7"`, `canonical("$1,234.50.") == "1234.5"`, `canonical("\\(\\frac{2}{4}\\)") == "0.5"`,
`canonical("(B)") == "B"`, `canonical("Yes.") == "yes"`. Everything here runs in process on untrusted text:
regular expressions in linear time over bounded input, nothing evaluated.
"""

from __future__ import annotations

import re
import struct
import unicodedata
from fractions import Fraction
from functools import lru_cache

from selftaught.feedback.numbers import NUMBER, number_text, value_of
from selftaught.feedback.plain import plain_characters

RULES_VERSION = "2"
"""Version of the extraction and comparison rules; part of every verifier's version and task's fingerprint."""

MAX_ANSWER = 2_000
"""Characters of an answer that are read; longer answers are truncated."""

_FRACTION = re.compile(r"(\d?)\s?\\[dt]?frac\s*(?:\{\s*+(-?)\s*+(\d+)\s*+\}\s*+\{\s*+(\d+)\s*+\}|()(\d)(\d))")
_THIN = re.compile(r"(?<!\\)\\!|\\(?:left|right|displaystyle|bigl?|bigr?|Bigl?|Bigr?)(?![a-zA-Z])")
_WIDE = re.compile(r"(?<!\\)\\[,;: ]|~|\\q?quad(?![a-zA-Z])")
_SET_TEXT = re.compile(r"\\(text|mathrm|mathbf|textbf|textit|mbox|operatorname|mathit|textrm)\s?\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|\\degrees?(?![a-zA-Z])")
_SIGNS = (("\\%", "%"), ("\\$", "$"), ("\\times", "\u00d7"), ("\\cdot", "\u00b7"), ("\\div", "\u00f7"))
_SPACES = re.compile(r"\s+")
_LETTER = re.compile(r"\(?([A-Za-z])\)")
_FLOAT32_DIGITS, _MACHINE_DIGITS = 12, 15
"""Numbers of digits from which a decimal is taken for machine output; the first applies to exact 32-bit floats."""

_QUOTES = str.maketrans(
    {"\u2018": "'", "\u2019": "'", "\u201a": "'", "\u201b": "'", "\u2032": "'", "`": "'", "\u00b4": "'"}
    | {"\u201c": '"', "\u201d": '"', "\u201e": '"', "\u00ab": '"', "\u00bb": '"', "\u2013": "-", "\u2014": "-"}
)
_WORDS = frozenset({"yes", "no", "true", "false"})
_WRAPPERS = (
    ("$$", "$$"),
    ("$", "$"),
    ("\\(", "\\)"),
    ("\\[", "\\]"),
    ("\\boxed{", "}"),
    ("\\text{", "}"),
    ("\\textbf{", "}"),
    ("\\mathrm{", "}"),
    ("\\mathbf{", "}"),
    ("`", "`"),
)


def _closes_last(text: str, opening: str) -> bool:
    """Whether the brace opened by `opening` at the start of `text` is its last character."""
    depth = 0
    for i, c in enumerate(text[len(opening) - 1 :], len(opening) - 1):
        depth += (c == "{") - (c == "}")
        if depth == 0:
            return i == len(text) - 1
    return False


def _unwrap(text: str) -> str:
    for left, right in _WRAPPERS:
        if len(text) > len(left) + len(right) and text.startswith(left) and text.endswith(right):
            inside = text[len(left) : -len(right)]
            if _closes_last(text, left) if right == "}" else left not in inside:
                return inside.strip()
    return text


def strip_markup(text: str, *, full_stop: bool = True) -> str:
    """Strip markup around an answer: markdown stars, `$`, `\\(`, `\\text{}`, code ticks, a full stop.

    Args:
        text: the answer as the model wrote it; only the first `MAX_ANSWER` characters count.
        full_stop: whether to strip a trailing full stop as well.
    """
    text = plain_characters(text[:MAX_ANSWER]).strip()
    for _ in range(8):
        before = text
        text = _unwrap(text.strip("* \t\r\n"))
        if full_stop and text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        if text == before:
            break
    return text


def number_from_latex(text: str) -> str:
    """Strip LaTeX that only typesets a number: `{,}`, thin spaces, `\\text{}`, `\\%`, `\\frac` of integers."""
    if "\\" in text or "{" in text:
        text = _THIN.sub("", text)
        text = _WIDE.sub(" ", text.replace("{,}", ","))
        text = _SET_TEXT.sub(r" \2 ", text).replace(" ^", "^")
        text = _DEGREES.sub(" degrees ", text)
        for command, sign in _SIGNS:
            text = text.replace(command, sign)
        text = plain_fractions(text)
    return text.strip()


def plain_fractions(text: str) -> str:
    """`\\frac{1}{2}` of whole numbers written as `1/2` (and `3\\frac{1}{2}` as `3 1/2`)."""

    def flat(m: re.Match[str]) -> str:
        top, bottom = (m[3], m[4]) if m[3] else (m[6], m[7])
        return f"{m[1] + ' ' if m[1] else ''}{m[2] or ''}{top}/{bottom}"

    return _FRACTION.sub(flat, text) if "frac" in text else text


@lru_cache(maxsize=4096)
def canonical_number(text: str) -> str | None:
    """The canonical form of `text` if it is a number in any usual notation and nothing else; otherwise None."""
    text = number_from_latex(strip_markup(text)).removesuffix("%").strip()
    match = NUMBER.fullmatch(text)
    value = value_of(match) if match else None
    return None if value is None else number_text(value)


def canonical(text: str, *, fold: bool = True) -> str:
    """The canonical form of any answer: a number, a choice letter, yes / no / true / false, or tidied text.

    Args:
        text: an answer extracted from the reply.
        fold: whether to ignore letter case, quotation marks around the whole and final punctuation (returns lower
            case).
    """
    text = strip_markup(unicodedata.normalize("NFC", text))
    number = canonical_number(text)
    if number is not None:
        return number
    if fold and (bare := _bare(text)) != text:
        return canonical(bare)
    if m := _LETTER.fullmatch(text):
        return m[1].upper()
    if len(text) == 1 and text.isalpha():
        return text.upper() if fold else text
    if text.lower() in _WORDS:
        return text.lower()
    text = _SPACES.sub(" ", text)
    return text.casefold() if fold else text


def _bare(text: str) -> str:
    """`text` with straight quotes and plain dashes, without enclosing quotes and final punctuation."""
    text = text.translate(_QUOTES)
    for _ in range(4):
        before = text
        text = text.rstrip(" .!?,;") or text
        if len(text) > 2 and text[0] == text[-1] and text[0] in "\"'" and text[0] not in text[1:-1]:
            text = text[1:-1].strip()
        if text == before:
            break
    return text


def same_number(reference: str, answer: str) -> bool:
    """Whether two numbers, in canonical form, are the same answer.

    Exact numbers (whole numbers, fractions, short decimals) must be equal. A non-terminating fraction equals a decimal
    that rounds it, and a decimal with as many digits as machine output equals what it rounds to, both within 5 parts in
    a million: 0.333333 is 1/3, and 123.45 is 123.44999694824219; 0.33 is not 1/3, and 0 equals no other number. A
    reference that only a 32-bit float can have produced equals every number that rounds to that float.
    """
    gold, found = Fraction(reference), Fraction(answer)
    if gold == found:
        return True
    if gold.denominator == 1 or abs(gold - found) * 200_000 > abs(gold):
        return False
    return _rounds_to(reference, answer) or _rounds_to(answer, reference) or _same_float32(reference, found)


def _rounds_to(value: str, decimal: str) -> bool:
    """Whether a non-terminating fraction or a machine's decimal rounds to `decimal` at its number of places."""
    if "/" in decimal:
        return False
    places, digits = len(decimal.partition(".")[2]), len(value.strip("-0.").replace(".", ""))
    rounded = places >= 2 if "/" in value else digits >= _MACHINE_DIGITS or (digits > 6 and places >= 4)
    return rounded and round(Fraction(value), places) == Fraction(decimal)


def _same_float32(reference: str, found: Fraction) -> bool:
    if "/" in reference or len(reference.strip("-0.").replace(".", "")) < _FLOAT32_DIGITS:
        return False
    try:
        gold, single, answer = float(reference), _float32(float(reference)), _float32(float(found))
    except OverflowError:
        return False
    return single == gold == answer


def _float32(value: float) -> float:
    return struct.unpack("f", struct.pack("f", value))[0]
