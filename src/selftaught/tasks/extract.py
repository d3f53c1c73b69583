"""Finding the final answer in what a model wrote.

The rule. Markers are `Answer: X`, `answer is X`, `#### X`, `<answer>X</answer>` and `\\boxed{X}`, in any
letter case and with markdown stars around them. The marker that occurs *last* in the text and is followed by
an answer wins. What follows it is read according to the kind of the task:

- `number`: the number after the last `=` of the line, else the first number of the line. Thousands commas,
  currency signs, `%` and units fall away; whole-number `\\frac{1}{2}` is `1/2`. A sum left undone (`60 + 93`),
  a list of guesses (`3 or 4`) and LaTeX that is more than a number are returned as they stand, as text.
- `choice`: a letter, `B` from `(B) seven`, or yes / no / true / false.
- `math`: the first `$...$` or `\\(...\\)` of the line, else the line up to the end of the sentence.
- `text`: the line up to the end of the sentence, letter case ignored; `string`: the whole line, case kept.
- `block`: everything up to the end of the text (or of the code fence), line breaks kept.

Without a marker a `number` task takes the last number of the text, and the other kinds take a reply that
consists of nothing but a choice letter or yes / no / true / false. Otherwise there is no answer (None).

Only the last `MAX_TEXT` characters are examined and every pattern runs in linear time, so that no reply can
hold up a run. Nothing is evaluated here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from enum import StrEnum
from typing import Any, NamedTuple

from selftaught.feedback.canonical import (
    MAX_ANSWER,
    NUMBER,
    canonical,
    canonical_number,
    clean,
    fractions_plain,
    number_text,
    plain,
)

MAX_TEXT = 32_768
"""Characters examined, counted from the end of the text."""

_MAX_MARKERS = 50
_MAX_BLOCK = 16_384

_MARKER = re.compile(
    r"(?P<colon>\banswer\b[*_ ]{0,4}(?:is)?[*_ ]{0,4}[:=])"
    r"|(?P<prose>\banswer\b[^.\n:=]{0,60}?\b(?:is|was|be|equals)\b)"
    r"|(?P<hashes>####)"
    r"|(?P<tag><answer>)"
    r"|(?P<boxed>\\f?boxed\s?\{)",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\f?boxed\s?\{")
_SENTENCE = re.compile(r"[.!?](?=\s+[A-Z(*]|\s*$)")
_MATH = re.compile(r"\$\$?([^$]{1,900})\$\$?|\\\((.{1,900}?)\\\)|\\\[(.{1,900}?)\\\]")
_UNFINISHED = re.compile(
    r"[xyzn]\b|[a-z]?\s*(?:(?:\*\*|[*×÷+/^:·x]|\\times|\\cdot|\\div)\s*[\d($\\]|[-,;]\s?[\d(]|(?:or|and|to)\s+[-$]?\d)"
)
_COMMAND = re.compile(
    r"\\(?!text|mathrm|mathbf|textbf|boxed|left|right|quad|circ|times|cdot|div|approx)[a-zA-Z]{2,}|\^|√"
)
_DEGREES = re.compile(r"\^\s*\{?\s*\\circ\s*\}?|°|\\%|\\!|\\,|\\;")
_OPTION = re.compile(r"\(([A-Z])\)|^([A-Z])(?=$|[).:,]|\s+[-–])|\b(?i:option|choice)\s+([A-Z])\b")
_WORD = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_FENCE = re.compile(r"```[a-zA-Z]*\n?")


class Kind(StrEnum):
    """How the answers of a task look; decides how they are read (see the module)."""

    NUMBER = "number"
    CHOICE = "choice"
    MATH = "math"
    TEXT = "text"
    STRING = "string"
    BLOCK = "block"


class Found(NamedTuple):
    """An answer found in a reply: as written (`raw`, markup removed) and in canonical form (`answer`)."""

    raw: str
    answer: str


def kind_of(references: Iterable[Any], *, fold: bool = True) -> Kind:
    """The kind of a task, told from the known answers of all its problems.

    Args:
        references: the references; those that are neither text nor number are skipped.
        fold: whether letter case is to be ignored in answers that are neither numbers nor choices; False also
            means that not a single reference may be of another kind.
    """
    texts = [reference_text(r) for r in references if isinstance(r, (str, int, float))]
    most = (0.95 if fold else 1.0) * len(texts)  # a data set of numbers may hold a few slips
    if texts and sum(canonical_number(t) is not None for t in texts) >= most:
        return Kind.NUMBER
    if any("\n" in t.strip() for t in texts) or not (texts or fold):
        return Kind.BLOCK
    if texts and sum(_is_choice(t) for t in texts) >= most:
        return Kind.CHOICE
    if fold and any(re.search(r"\\[a-zA-Z]+|\^|\$.+\$", t) for t in texts):
        return Kind.MATH
    return Kind.TEXT if fold else Kind.STRING


def reference_text(reference: Any) -> str:
    """A scalar reference as the text an answer is compared with (`True` as "true", `22.0` as "22")."""
    if isinstance(reference, bool):
        return "true" if reference else "false"
    if isinstance(reference, float) and reference.is_integer():
        return str(int(reference))
    return str(reference)


def find(text: str, kind: Kind) -> Found | None:
    """The final answer in `text`, or None when there is none."""
    text = plain(text[-MAX_TEXT:])
    for span, prose in _spans(text, kind):
        if found := _read(span, kind, prose=prose):
            return found
    if kind is Kind.NUMBER:
        return _last_number(text)
    whole = clean(text) if len(text) < 80 else ""
    return Found(whole, canonical(whole)) if kind is not Kind.BLOCK and _is_choice(whole) else None


def canonical_answer(raw: str, kind: Kind) -> str:
    """The canonical form of an answer already found, e.g. of a reference."""
    if kind is Kind.BLOCK:
        return "\n".join(line.rstrip() for line in raw.strip("\n").splitlines())
    if kind is Kind.MATH:
        number = canonical_number(raw)
        return number if number is not None else re.sub(r"\s+|\\[!,;]", "", fractions_plain(clean(raw)))
    return canonical(raw, fold=kind is not Kind.STRING)


def boxed(text: str) -> str:
    """What stands in the last `\\boxed{}` of `text`; "" if there is none."""
    ends = [m.end() for m in _BOXED.finditer(text)]
    return _braced(text, ends[-1]).strip() if ends else ""


def _is_choice(text: str) -> bool:
    text = text.strip().rstrip(".")
    return bool(re.fullmatch(r"\(?[A-Z]\)?", text)) or text.lower() in ("yes", "no", "true", "false")


def _spans(text: str, kind: Kind) -> Iterator[tuple[str, bool]]:
    """What follows each marker, the last marker first, and whether the marker was prose ("the answer is")."""
    for m in list(_MARKER.finditer(text))[-_MAX_MARKERS:][::-1]:
        if m["boxed"]:
            span = _braced(text, m.end())
        elif kind is Kind.BLOCK:
            span = text[m.end() : m.end() + _MAX_BLOCK]
        else:
            span = _line(text, m.end())
        if m["tag"]:
            span = re.split("</answer>", span, maxsplit=1, flags=re.IGNORECASE)[0]
        if span.strip("* \t\n:"):
            yield span, bool(m["prose"])


def _line(text: str, start: int) -> str:
    """The rest of the line from `start`, or the next line with text when nothing but markup is left of it."""
    rest = text[start : start + 2 * MAX_ANSWER]
    head = len(rest) - len(rest.lstrip("*_`:$ \t\r\n"))
    end = rest.find("\n", head)
    return rest[: end if end >= 0 else len(rest)].strip("\r\n")


def _braced(text: str, start: int) -> str:
    """What stands between the brace that opened before `start` and the brace that closes it; "" if none does."""
    depth = 1
    for i in range(start, min(len(text), start + MAX_ANSWER)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i]
    return ""


def _read(span: str, kind: Kind, *, prose: bool) -> Found | None:
    """The answer at the beginning of what follows a marker."""
    if kind is Kind.BLOCK:
        raw = _unfence(span)
        return Found(raw, canonical_answer(raw, kind)) if raw.strip() else None
    if kind is Kind.STRING:
        raw = clean(span, full_stop=False)
        return Found(raw, canonical_answer(raw, kind)) if raw else None
    if kind is Kind.NUMBER:
        return _number(span)
    if kind is Kind.CHOICE:
        return _choice(span)
    if prose and (m := _SENTENCE.search(span)):
        span = span[: m.start()]
    if kind is Kind.MATH and (m := _MATH.search(span)):
        span = m[1] or m[2] or m[3]
    raw = clean(span)
    return Found(raw, canonical_answer(raw, kind)) if raw else None


def _number(span: str) -> Found | None:
    """A number, or the unfinished expression that stands where a number should."""
    if m := _SENTENCE.search(span):
        span = span[: m.start()]
    span = fractions_plain(_DEGREES.sub("", clean(span)))
    span = re.sub(r"^([-+])\s+(?=[\d$.])", r"\1", span)
    parts = re.split(r"=|\\approx|≈", span)[-8:]
    expression = False
    for part in [parts[-1], *parts[:-1]]:
        m = NUMBER.search(part)
        if m is None:
            continue
        if _COMMAND.search(part) or _UNFINISHED.match(part, m.end()):
            expression = True
        elif (number := number_text(m)) is not None:
            return Found(_written(m), number)
    return Found(span, canonical_answer(span, Kind.MATH)) if expression else None


def _written(m: re.Match[str]) -> str:
    """A number as written, without commas and currency sign."""
    sign = "-" if (m["sign"].strip() == "-") != bool(m["minus"]) else ""
    digits = m["decimal"] or m["over"] or f"{m['whole']} {m['mixed']}"
    return sign + digits.replace(",", "")


def _last_number(text: str) -> Found | None:
    for m in reversed(list(NUMBER.finditer(text))[-_MAX_MARKERS:]):
        if (number := number_text(m)) is not None:
            return Found(_written(m), number)
    return None


def _choice(span: str) -> Found | None:
    span = clean(span)
    if m := _OPTION.search(span):
        letter = m[1] or m[2] or m[3]
        return Found(letter, letter)
    if m := _WORD.search(span):
        return Found(m[1], m[1].lower())
    return None


def _unfence(span: str) -> str:
    """`span` without the stars or code fence around it; line breaks and inner white space kept."""
    parts = _FENCE.split(span, maxsplit=2)
    if len(parts) > 1 and not parts[0].strip("* \t\n"):
        span = parts[1]
    first, _, rest = span.partition("\n")
    first = first.strip("* \t\r")
    return (f"{first}\n{rest}" if first else rest).strip("\n").rstrip("* \t\r\n")
