"""Read numbers as people and models write them, exactly or not at all.

`NUMBER` finds one literal: an integer in any usual grouping, a decimal, a fraction, a mixed fraction, scientific
notation or a small power. `read_quantity` reads a whole phrase ("about $1.2 million per year") and rejects it, with
the reason, if anything next to the literal could change its value: another number, an operator, a
relation, a symbol, a word such as "half" or "at least". Expects text normalized by `plain`; patterns run in linear
time.
"""

from __future__ import annotations

import re
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import NamedTuple

from selftaught.feedback.words import ATTACHED_UNITS, CUES, NOT_AFTER, NOT_BEFORE, SINGLE_UNITS, UNIT_CONTINUATIONS

_MAX_NUMBER = 400
_MAX_DECIMALS = 40

_GROUPED = (
    r"\d{1,3}(?:,\d{3}){1,40}(?![\d,])"  # 1,234,567
    r"|\d{1,2}(?:,\d{2}){1,40},\d{3}(?![\d,])"  # 12,34,567 (India)
    r"|\d{1,3}(?:[ ]\d{3}){1,40}(?![\d/]|\s?/)"  # 1 234 567
    r"|\d{1,3}(?:['\u2019]\d{3}){1,40}(?!\d)"  # 1'234'567 (Switzerland)
    r"|\d{1,3}(?:_\d{3}){1,40}(?![\d_])"  # 1_234_567
    r"|\d{1,3}(?:\.\d{3}){2,40}(?![\d.])"  # 1.234.567
)
_DECIMAL = rf"(?:(?:{_GROUPED}|\d++)(?:\.\d++)?|\.\d++)(?!\.\d)"
_TIMES_TEN = r"\s?(?:[x*\u00d7\u00b7]|\\times|\\cdot)\s?10\s?(?:\^|\*\*)\s?"
_EXPONENT = r"(?:\{{\s?(?P<{0}braced>[-+]?\d{{1,4}})\s?\}}|\(?(?P<{0}bare>[-+]?\d{{1,4}})\)?)(?![\w.]\d)"
_SIGN = r"(?:(?<![\w)\]}])[-+]\s?)?"
_MONEY = r"(?:(?:US|[ACH]K?)?[$€£¥₹]\s?(?P<minus>-?))?"
NUMBER = re.compile(
    rf"(?P<sign>{_SIGN}){_MONEY}(?<![\d.])"
    rf"(?:(?P<whole>\d+)\s+(?:and\s+)?(?P<mixed>\d+\s?/\s?\d+)(?!\d|/|\.\d)"
    rf"|(?P<over>\d+\s?/\s?\d+)(?!\d|/|\.\d)"
    rf"|(?P<decimal>{_DECIMAL})"
    rf"(?:(?P<e>[eE][-+]?\d{{1,4}})(?![\w.])|{_TIMES_TEN}{_EXPONENT.format('ten')}"
    rf"|\s?(?:\^|\*\*)\s?{_EXPONENT.format('power')})?)"
)
"""One number, in any usual notation; a currency sign before it is skipped."""

_SCALES = {
    "hundred": 10**2, "thousand": 10**3, "million": 10**6, "mln": 10**6, "billion": 10**9, "bn": 10**9,
    "trillion": 10**12, "quadrillion": 10**15, "lakh": 10**5, "lakhs": 10**5, "crore": 10**7, "crores": 10**7,
}  # fmt: skip
_MONEY_SCALES = {"k": 10**3, "m": 10**6, "b": 10**9, "t": 10**12}
_SCALE = re.compile(r"[\s-]?([A-Za-z]+)(?![A-Za-z^])")
_WORD = r"[^\W\d_]+(?:['\u2019-][^\W\d_]+)*"
_TAIL = re.compile(
    rf"\s+|(?P<word>{_WORD})|(?P<power>\^\s?\{{?\s?-?\d{{1,2}}\s?\}}?)|(?P<dots>\.\.+|\u2026)|(?P<other>.)", re.S
)
_UNIT_WORD = (
    r"(?:[a-zA-Z]{3,}|[kcmn]?m|mi|[km]?g|lbs?|oz|ft|in|yd|[ms]?s|hrs?|mins?|secs?|m?[lL]|[KMG]B|k?[WVAJN]|[kM]?Hz|"
    r"[CFK])"
)
_UNIT = re.compile(
    rf"|\s?%|\s+{_UNIT_WORD}(?:\^\{{?-?\d\}}?)?(?:\s?(?:/|per)?\s?{_UNIT_WORD}(?:\^\{{?-?\d\}}?)?){{0,2}}\.?"
)
_SIGN_WORD = re.compile(r"\b(?:minus|negative)\s*$", re.IGNORECASE)
_BESIDE_PROSE = re.compile(r"[\s\"'\u201c\u201d\u2018\u2019(\[{:,.~\u2013\u2014*_]*+")
_WORDS = re.compile(_WORD)
_PAREN_FUNCTION = re.compile(r"[\w)]\($")


class Quantity(NamedTuple):
    """A number read from a phrase.

    Attributes:
        value: its exact value, signs, scale words and powers included.
        raw: the number as written, without grouping, currency and unit.
        bare: another possible value: without its scale word ("1.2 million" may count millions), as a share
            ("50%"), with a point that groups digits ("1.200").
    """

    value: Fraction
    raw: str
    bare: Fraction | None = None


def value_of(match: re.Match[str]) -> Fraction | None:
    """The exact value of a `NUMBER` match; None if it has none (1/0), or is too large or long."""
    if match.end() - match.start() > _MAX_NUMBER:
        return None
    try:
        value = _unsigned(match)
    except (ZeroDivisionError, InvalidOperation, ValueError):
        return None
    return -value if value is not None and _negative(match) else value


def _unsigned(match: re.Match[str]) -> Fraction | None:
    if over := match["over"] or match["mixed"]:
        top, bottom = over.split("/")
        return Fraction(int(top), int(bottom)) + int(match["whole"] or 0)
    digits = _ungrouped(match["decimal"])
    number = Decimal(digits + (match["e"] or ""))
    ten, power = (match[f"{kind}braced"] or match[f"{kind}bare"] for kind in ("ten", "power"))
    if abs(number.adjusted()) > _MAX_NUMBER or abs(int(ten or 0)) > _MAX_NUMBER:
        return None
    if power:
        size = abs(int(power)) * max(1, abs(number.adjusted()) + 1)
        return Fraction(number) ** int(power) if size <= _MAX_NUMBER else None
    return Fraction(number) * (Fraction(10) ** int(ten) if ten else 1)


def _ungrouped(digits: str) -> str:
    if digits.count(".") > 1:
        digits = digits.replace(".", "")
    return re.sub(r"[,\s'\u2019_]", "", digits)


def _negative(match: re.Match[str]) -> bool:
    return (match["sign"].strip() == "-") != bool(match["minus"])


def number_text(value: Fraction) -> str:
    """The canonical form of a number: a short decimal ("1234.5", "-7") if there is one, else a fraction ("1/3")."""
    bottom, places = value.denominator, 0
    while bottom > 1 and places <= _MAX_DECIMALS and (bottom % 2 == 0 or bottom % 5 == 0):
        bottom //= 10 if bottom % 10 == 0 else 5 if bottom % 5 == 0 else 2
        places += 1
    if bottom > 1:
        return f"{value.numerator}/{value.denominator}"
    if not places:
        return str(value.numerator)
    whole = abs(value.numerator) * 10**places // value.denominator
    digits = str(whole).rjust(places + 1, "0")
    text = f"{digits[:-places]}.{digits[-places:]}".rstrip("0").rstrip(".")
    return f"-{text}" if value < 0 else text


def as_written(match: re.Match[str]) -> str:
    """A number as written, without grouping and currency sign."""
    if match["over"] or match["mixed"]:
        digits = match["over"] or f"{match['whole']} {match['mixed']}"
    else:
        digits = _ungrouped(match["decimal"]) + match[0][match.end("decimal") - match.start() :]
    return ("-" if _negative(match) else "") + digits


def read_quantity(text: str) -> Quantity | str:
    """The number that a phrase states, or the reason why it is uncertain ("" if the phrase has no number)."""
    match = NUMBER.search(text)
    if match is None:
        return ""
    value = value_of(match)
    if value is None:
        return "not a readable number"
    before, negative = text[: match.start()], False
    if m := _SIGN_WORD.search(before):
        before, negative = before[: m.start()], True
        if _negative(match):
            return "two signs"
    if why := _unclear_before(before, match):
        return why
    scale, at = _scale(text, match)
    if why := _unclear_after(text[at:], at > match.end()):
        return why
    value, raw = (-value if negative else value), ("-" if negative else "") + as_written(match)
    if scale == 1:
        percent = re.match(r"\s?(?:%|percent)", text[at:])
        return Quantity(value, raw, value / 100 if percent else _grouped_by_point(raw))
    return Quantity(value * scale, text[match.start() : at].strip(), value)


def _grouped_by_point(raw: str) -> Fraction | None:
    """The value of "1.200" if the point groups digits."""
    return Fraction(raw.replace(".", "")) if re.fullmatch(r"-?[1-9]\d{0,2}\.\d{3}", raw) else None


def with_unit(text: str) -> tuple[Quantity, str] | None:
    """The number and the unit of "12 m^3", "7.5 miles" or "12"; None if the text has anything else."""
    match = NUMBER.match(text)
    if match is None or not _UNIT.fullmatch(text, match.end()):
        return None
    quantity = read_quantity(text)
    unit = re.sub(r"[\s.{}]", "", text[match.end() :]).lower()
    return (quantity, unit) if isinstance(quantity, Quantity) and quantity.bare is None else None


def ambiguity_around(before: str, after: str) -> str:
    """Why the text around a formula makes it uncertain; "" if it does not."""
    for word in _WORDS.findall(before.lower()):
        if word in NOT_BEFORE or word.endswith("n't"):
            return f"{word!r} before the formula"
    if not _BESIDE_PROSE.fullmatch(_WORDS.sub("", before)):
        return f"{before.strip()[-20:]!r} before the formula"
    if (m := _SCALE.match(after)) and m[1].lower() in _SCALES:
        return f"{m[1]!r} after the formula"
    return _unclear_after(after if after[:1].isspace() else f" {after}" if after[:1] in ",.;:)" else after, True)


def _scale(text: str, match: re.Match[str]) -> tuple[int, int]:
    """The scale factor named by the word after the number, and where that word ends."""
    m = _SCALE.match(text, match.end())
    word = m[1].lower() if m else ""
    money = bool(re.search(r"[$€£¥₹]", match[0]))
    factor = _SCALES.get(word) or (_MONEY_SCALES.get(word) if money else None)
    return (factor, m.end()) if m and factor else (1, match.end())


def _unclear_before(before: str, match: re.Match[str]) -> str:
    """Why the text before a number makes it uncertain; "" if it does not."""
    if not _BESIDE_PROSE.fullmatch(_WORDS.sub("", before)) or _PAREN_FUNCTION.search(before):
        return f"{before.strip()[-20:]!r} before the number"
    words = _WORDS.findall(before.lower())
    if before.rstrip().endswith(("\u2013", "\u2014")):
        return "a dash or a sign before the number"
    for word in words:
        if word in NOT_BEFORE or word.endswith("n't") or (len(word) == 1 and word not in "ai"):
            return f"{word!r} before the number"
    if words and match["sign"] and match["sign"].endswith(" "):
        return "a dash or a sign before the number"
    return ""


def _unclear_after(after: str, scaled: bool) -> str:
    """Why the text after a number makes it uncertain; "" if it does not.

    Units and prose without numbers are harmless, and so is an explanation of the answer: in parentheses, or from a
    word such as "because" on.
    """
    named = paused = False  # whether a unit, and a comma or semicolon, was seen
    place = 0
    for m in _TAIL.finditer(after):
        first, place = place == 0, place + 1
        if word := m["word"]:
            low = word.lower()
            if low in CUES and (named or paused):
                return ""
            if low in NOT_AFTER or (
                low in UNIT_CONTINUATIONS and not named and re.match(r"\s*[\d(\\]", after[m.end() :])
            ):
                return f"{word!r} after the number"
            if low in ("squared", "cubed") and not named:
                return f"{word!r} after the number"
            if first and not scaled and word not in ATTACHED_UNITS:
                return f"{word!r} attached to the number"
            if len(word) == 1 and word not in SINGLE_UNITS:
                return f"{word!r} after the number"
            named = True
        elif m["power"]:
            if not named:
                return "a power after the number"
        elif m["dots"]:
            return "dots after the number"
        elif other := m["other"]:
            rest = after[m.end() :]
            if other == "(" and not first and not re.match(r"\s?\\?(?:p?mod|base|or|maybe|perhaps|possibly)\b", rest):
                return ""
            if other in ",;":
                paused = True
                if re.match(r"\S*\d", rest):
                    return "another number after it"
            elif other == "!" and first:
                return "either an exclamation or a factorial"
            elif other == "/":
                if not re.match(r"\s?[^\W\d_]", rest):
                    return "a division after the number"
                named = True
            elif other in ".:-" and not re.match(r"\s?[\d(\\$]", rest):
                continue
            elif other not in "%°€£¥₹)]}\"'\u201c\u201d\u2018\u2019!?`*_$\u2013\u2014" or re.match(r"\s?[\d(\\]", rest):
                return f"{(other + rest)[:12].strip()!r} after the number"
    return ""
