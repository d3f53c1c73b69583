"""One spelling per answer, so that answers can be compared and counted.

`canonical("007") == "7"`, `canonical("$1,234.50.") == "1234.5"`, `canonical("\\(\\frac{2}{4}\\)") == "1/2"`,
`canonical("(B)") == "B"`, `canonical("Yes.") == "yes"`. Everything here runs in process on untrusted text:
regular expressions in linear time over bounded input, nothing evaluated.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction

RULES = "1"
"""Version of the extraction and comparison rules; part of every verifier's version and task's fingerprint."""

MAX_ANSWER = 2_000
"""Characters of an answer that are looked at; a longer one is cut."""

_MAX_NUMBER = 400

_DIGITS = r"(?:\d{1,3}(?:,\d{3}){1,40}(?![\d,])|\d+)"
_DECIMAL = rf"(?:{_DIGITS}(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d{{1,4}}(?![\w.]))?"
_SIGN = r"(?:(?<![\w)\]}])[-+]\s?)?"
_MONEY = r"(?:[$€£¥]\s?(?P<minus>-?))?"
NUMBER = re.compile(
    rf"(?P<sign>{_SIGN}){_MONEY}"
    rf"(?:(?P<whole>\d+)\s+(?P<mixed>\d+\s*/\s*\d+)(?!\d|/|\.\d)"
    rf"|(?P<over>\d+\s*/\s*\d+)(?!\d|/|\.\d)"
    rf"|(?P<decimal>{_DECIMAL}))"
)
"""A plain number: integer with or without thousands commas, decimal, exponent, fraction, mixed fraction."""

_FRACTION = re.compile(r"(\d?)\s?\\[dt]?frac\s*(?:\{\s*(-?)\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|()(\d)(\d))")
_SPACES = re.compile(r"\s+")
_LETTER = re.compile(r"\(?([A-Za-z])\)")
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
_CHARACTERS = str.maketrans(
    {"\u2212": "-", "\u2010": "-", "\u2011": "-", "\uff0d": "-", "\u00a0": " ", "\u202f": " ", "\u2009": " "}
)


def plain(text: str) -> str:
    """`text` with unicode minus signs and hard spaces replaced by the plain ones."""
    return text.translate(_CHARACTERS)


def _closes_last(text: str, opening: str) -> bool:
    """Whether the brace opened by `opening` at the start of `text` is the one that ends it."""
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


def clean(text: str, *, full_stop: bool = True) -> str:
    """`text` without what surrounds an answer: markdown stars, `$`, `\\(`, `\\text{}`, code ticks, a full stop.

    Args:
        text: the answer as the model wrote it; only the first `MAX_ANSWER` characters count.
        full_stop: whether to strip a trailing full stop as well.
    """
    text = plain(text[:MAX_ANSWER]).strip()
    for _ in range(8):
        before = text
        text = _unwrap(text.strip("* \t\r\n"))
        if full_stop and text.endswith(".") and not text.endswith(".."):
            text = text[:-1].rstrip()
        if text == before:
            break
    return text


def fractions_plain(text: str) -> str:
    """`\\frac{1}{2}` of whole numbers written as `1/2` (and `3\\frac{1}{2}` as `3 1/2`)."""

    def flat(m: re.Match[str]) -> str:
        top, bottom = (m[3], m[4]) if m[3] else (m[6], m[7])
        return f"{m[1] + ' ' if m[1] else ''}{m[2] or ''}{top}/{bottom}"

    return _FRACTION.sub(flat, text) if "frac" in text else text


def _decimal_text(value: Decimal) -> str:
    text = f"{value:f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def number_text(match: re.Match[str]) -> str | None:
    """The canonical text of a `NUMBER` match: "1234.5", "-7", "1/2"; None when it is no number (1/0) or absurd."""
    if match.end() - match.start() > _MAX_NUMBER:
        return None
    negative = (match["sign"].strip() == "-") != bool(match["minus"])
    try:
        if over := match["over"] or match["mixed"]:
            top, bottom = over.split("/")
            value = Fraction(int(top), int(bottom)) + int(match["whole"] or 0)
            text = str(value)
        else:
            number = Decimal(match["decimal"].replace(",", ""))
            if abs(number.adjusted()) > _MAX_NUMBER:
                return None
            text = _decimal_text(number)
    except (ZeroDivisionError, InvalidOperation):
        return None
    return f"-{text}" if negative and text.strip("0.") else text.lstrip("-")


def canonical_number(text: str) -> str | None:
    """The canonical spelling of `text` when it is a plain number and nothing else, or None."""
    text = fractions_plain(clean(text)).removesuffix("%").removesuffix("\\").strip()
    match = NUMBER.fullmatch(text)
    return number_text(match) if match else None


def as_number(text: str) -> Fraction | None:
    """The exact value of a plain number (see `NUMBER`), or None."""
    number = canonical_number(text)
    return Fraction(number) if number is not None else None


def canonical(text: str, *, fold: bool = True) -> str:
    """The canonical spelling of any answer: a number, a choice letter, yes / no / true / false, or tidied text.

    Args:
        text: an answer, already found in the reply.
        fold: whether letter case is ignored (the text comes back in lower case).
    """
    text = clean(text)
    number = canonical_number(text)
    if number is not None:
        return number
    if m := _LETTER.fullmatch(text):
        return m[1].upper()
    if len(text) == 1 and text.isalpha():
        return text.upper() if fold else text
    if text.lower() in _WORDS:
        return text.lower()
    text = _SPACES.sub(" ", text)
    return text.casefold() if fold else text


def same_number(reference: Fraction, answer: Fraction) -> bool:
    """Whether two plain numbers are the same answer.

    A whole reference must be met exactly. Where the reference is not whole, both are compared after rounding
    to six decimal places, as `math_verify.verify` does (`float_rounding=6`), so that 0.333333 is 1/3.
    """
    if reference == answer:
        return True
    if reference.denominator == 1:
        return False
    return round(reference, 6) == round(answer, 6)
