"""Parse the answer that follows a marker, by the kind of the task.

- `number`: one number, in any usual notation, with its sign, scale word and power. Text next to it must be
  harmless (a unit, prose, an explanation); otherwise the answer is kept as text and marked doubtful. Of a calculation
  with `=` the result counts.
- `choice`: one letter, `B` from `(b) seven`, or yes / no / true / false; two different ones count as none.
- `math`: the formula, or formulas joined by "or", "and" or a comma; otherwise the line up to the end of the sentence.
- `text`: the line up to the end of the sentence, letter case and quotes ignored; `string`: the whole line, case kept.
- `block`: everything up to the end of the text (or of the code fence), line breaks kept.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NamedTuple

from selftaught.feedback.canonical import canonical, canonical_number, number_from_latex, strip_markup
from selftaught.feedback.expressions import normalize_math
from selftaught.feedback.numbers import NUMBER, Quantity, ambiguity_around, number_text, read_quantity, value_of

_MAX_NUMBERS = 50
_ABBREVIATION = (
    r"(?<!\b[A-Z])(?<!\bSt)(?<!\bMt)(?<!\bDr)(?<!\bMr)(?<!\bMs)(?<!\bMrs)(?<!\bJr)(?<!\bSr)(?<!\bFt)(?<!\bProf)(?<!\bGen)"
    r"(?<!\bSen)(?<!\bRep)(?<!\bGov)(?<!\bCapt)(?<!\bLt)(?<!\bCol)(?<!\bSgt)(?<!\bRev)(?<!\bHon)(?<!\bNo)(?<!\bvs)(?<!\bCo)"
)
_SENTENCE = re.compile(rf"{_ABBREVIATION}\.(?=\s+[A-Z(*]|\s*$)|(?<!\d)[!?](?=\s+[A-Z(*]\S*\s+\S+\s+\S|\s*$)")
_MATH = re.compile(
    r"\$\$?([^$]{1,900})\$\$?|\\\(((?:(?!\\\().){1,900}?)\\\)|\\\[((?:(?!\\\[).){1,900}?)\\\]", re.DOTALL
)
_JOINT = re.compile(r"\s*(?:,\s*)?(or|and|,|;)\s*", re.IGNORECASE)
_EQUALS = re.compile(r"=|\u2248|\u2245|\u2243|\\approx(?![a-z])")
_CUE = re.compile(
    r"(?:[,;(] ?| )?\b(?:because|since|as|so that|rather than|instead of|while|whereas|for)\b|[,;(] ?\bnot\b",
    re.IGNORECASE,
)
_FENCE = re.compile(r"```[a-zA-Z]*\n?")
_STARS = re.compile(r"\*\*(?!\d)|(?<!\d)\*\*|(?<![\w*)])[*_`]+(?=[\w$\\(+-])|(?<=[\w)%$}])[*_`]+(?![\w*({-])")
_LETTER_IN = re.compile(
    r"[(\[{<]\s?([A-Za-z])\s?[)\]}>]|\b(?i:option|choice|letter)\s+([A-Za-z])\b|(?<![\w'\u2019.+*^=])([A-Z])(?![\w'\u2019+*^=])"
)
_ALONE = re.compile(r"\W*([A-Za-z])\W*")
_YES_NO = re.compile(r"\b(yes|no|true|false)\b", re.IGNORECASE)
_STARTS = re.compile(r"(?:yes|no|true|false)\b(?=[,.;])", re.IGNORECASE)
_NEGATED = re.compile(
    r"\b(?:not|never|neither|nor|cannot|wrong|incorrect|except|but|other than|eliminate\w*|ruled? out|unlikely|hardly"
    r"|barely)\b|n['\u2019]t\b",
    re.IGNORECASE,
)
_SAID_FALSE = re.compile(r"\b(?:is|was|seems) false\b", re.IGNORECASE)
_LEADS = re.compile(
    r"(?:\b(?:is|be|option|choice|letter|answer|pick|choose|select|with|say|to|would|it's|and|or|nor|maybe|perhaps|possibly|then|vs)"
    r"|[:,\"'\u201c/&|?]|->|\u2192|\u21d2|-)\s*$",
    re.IGNORECASE,
)
_YES_FIRST = re.compile(
    r"(yes|no|true|false)\b(?=\s*(?:$|[,.;:!(\u2014\u2013-])|\s+(?:it|this|that|the|he|she|they|we|you)\b)",
    re.IGNORECASE,
)
_YES_LAST = re.compile(r"(?:\b(?:is|be|say|would be|answer)|:)\s+(yes|no|true|false)[.!]?\s*$", re.IGNORECASE)
_ARTICLE = re.compile(r"\s+[a-z]")
_VERB = re.compile(
    r"\s+(?:is|are|was|seems|because|since|as|would|must|looks|appears|fits|and|or|from|with|for|in|by)\b"
)


class Kind(StrEnum):
    """The kind of a task's answers; decides how they are parsed (see the module)."""

    NUMBER = "number"
    CHOICE = "choice"
    MATH = "math"
    TEXT = "text"
    STRING = "string"
    BLOCK = "block"
    CODE = "code"


class Found(NamedTuple):
    """An answer extracted from a reply.

    Attributes:
        raw: as written, markup removed.
        answer: in canonical form.
        doubt: why it is ambiguous ("12 ± 1" for a number), so that it is not WRONG; "" if it is not.
        bare: another possible reading as a number, in canonical form: "1.2" for "1.2 million".
    """

    raw: str
    answer: str
    doubt: str = ""
    bare: str = ""


def canonical_answer(raw: str, kind: Kind) -> str:
    """The canonical form of an extracted answer, or of a reference."""
    if kind in (Kind.BLOCK, Kind.CODE):
        return "\n".join(line.rstrip() for line in raw.strip("\n").splitlines())
    if kind is Kind.MATH:
        number = canonical_number(raw)
        return number if number is not None else normalize_math(strip_markup(raw))
    if kind is Kind.NUMBER and (number := canonical_number(raw)) is None:
        return normalize_math(strip_markup(raw))
    return canonical(raw, fold=kind is not Kind.STRING)


def parse_answer(span: str, kind: Kind, *, prose: bool = False, formula: bool = False) -> Found | None:
    """The answer at the beginning of what follows a marker.

    Args:
        span: the text after the marker.
        kind: kind of the task.
        prose: whether the marker was prose ("the answer is"), so that the sentence ends the answer.
        formula: whether the span is mathematics as a whole (`\\boxed{}`, display mathematics).
    """
    if kind is Kind.BLOCK:
        raw = _unfence(span)
        return Found(raw, canonical_answer(raw, kind)) if raw.strip() else None
    if kind is Kind.STRING:
        raw = strip_markup(span, full_stop=False)
        return Found(raw, canonical_answer(raw, kind)) if raw else None
    if kind is Kind.NUMBER:
        return _number(span, formula)
    if kind is Kind.CHOICE:
        return _choice(span)
    doubt, line = "", span
    if kind is Kind.MATH and not formula:
        span, doubt = _formulas(span, prose)
    elif kind is Kind.TEXT and prose:
        span = _sentence(span)
    raw = strip_markup(span)
    if kind is Kind.MATH and doubt:  # kept as is, so that it equals no reference
        whole = strip_markup(_sentence(line)) + " ?"
        return Found(whole, normalize_math(whole), doubt)
    if kind is Kind.MATH and not formula and raw.endswith("!"):
        doubt = "either an exclamation or a factorial"
    return Found(raw, canonical_answer(raw, kind), doubt) if raw else None


def unmarked_answer(text: str, kind: Kind) -> Found | None:
    """The answer of a reply without a marker: a last line that is only a choice or a formula."""
    lines = text.strip().splitlines()
    line = strip_markup(lines[-1]) if lines and len(lines[-1]) < 80 and kind is not Kind.BLOCK else ""
    if line and (is_choice(line) or re.fullmatch(r"\(?[a-z]\)", line)):
        return Found(line, canonical(line))
    if kind is Kind.CHOICE and len(lines) == 1 and (m := _STARTS.match(line)):
        return _choice(m[0])
    formula = text.strip() if len(lines) < 4 else lines[-1].strip().rstrip(".")
    if kind is Kind.MATH and (m := _MATH.fullmatch(formula)):
        return parse_answer(m[1] or m[2] or m[3], kind, formula=True)
    return None


def is_choice(text: str) -> bool:
    """Whether `text` is only a capital choice letter or yes / no / true / false."""
    text = text.strip().rstrip(".")
    return bool(re.fullmatch(r"\(?[A-Z]\)?", text)) or text.lower() in ("yes", "no", "true", "false")


def _sentence(span: str) -> str:
    m = _SENTENCE.search(span)
    return span[: m.start()] if m else span


# --- numbers ---


def _number(span: str, formula: bool) -> Found | None:
    """The number that a span states; an expression or a doubtful phrase as text; None if there is no number."""
    text = _plain_line(span if formula else _sentence(span))
    if formula and re.search(r"\d\s*!", text):
        return Found(text, normalize_math(text), "a factorial")
    if isinstance(head := read_quantity(_CUE.split(text, maxsplit=1)[0]), Quantity) and _CUE.search(text):
        return _stated(head)
    parts = [part.strip() for part in _EQUALS.split(text)[-8:]]
    readings = [read_quantity(part) for part in parts]
    stated = [r for r in readings if isinstance(r, Quantity)]
    if stated and (isinstance(readings[-1], Quantity) or not readings[-1]):
        if any(re.search(r"[,;]|\b(?:or|and)\b", part) for part in parts[1:-1]):
            return Found(text, normalize_math(text), "several statements")
        if len({r.value for r in stated}) > 1 and len(stated) == len(parts):
            return Found(text, normalize_math(text), "numbers that are not equal")
        return _stated(stated[-1])
    if stated and not any(c.isalpha() for c in parts[-1]):  # 5 = 2 + 3
        return _stated(stated[-1])
    doubts = [r for r in readings if isinstance(r, str) and r]
    return Found(text, normalize_math(text), doubts[-1]) if doubts else None


def _plain_line(span: str) -> str:
    """A line of prose and mathematics without typesetting commands."""
    text = _MATH.sub(lambda m: f" {m[1] or m[2] or m[3]} " if _is_formula(m) else m[0], span[:2_000])
    text = number_from_latex(strip_markup(text))
    return _STARS.sub("", strip_markup(text)).strip().strip("|").rstrip(" ,;:").strip()


def _is_formula(m: re.Match[str]) -> bool:
    """Whether dollars enclose a formula rather than stand before two prices."""
    if m[1] is None:
        return True
    after = m.string[m.end() : m.end() + 1]
    return not (after.isdigit() or m[1].endswith(" ")) or m[0].startswith("$$")


def _stated(quantity: Quantity) -> Found:
    bare = number_text(quantity.bare) if quantity.bare is not None else ""
    return Found(quantity.raw, number_text(quantity.value), bare=bare)


def last_number(text: str) -> Found | None:
    """The last number of a text without a marker, doubtful if the text next to it may change its value."""
    for m in reversed(list(NUMBER.finditer(text))[-_MAX_NUMBERS:]):
        before = text[max(0, m.start() - 24) : m.start()]
        if re.search(r"[\^_]\s?\{?\s?-?$|[^\W\d_]$", before):  # an exponent, an index, part of a name
            continue
        if value_of(m) is not None:
            end = re.search(r"[.,;:?]?(?=\s|$)", text[m.end() :])
            near = text[m.end() : m.end() + (end.start() if end else 0)]
            return _near(before, m, near, text[m.end() + len(near) :])
    return None


_SIGN_OR_RELATION = re.compile(
    r"(?:[\u00b1<>\u2264\u2265\u2260\u221a|]|[a-z]\(|\\(?:pm|neq?|leq?|geq?|lt|gt|sqrt)\s?\{?"
    r"|\b(?:least|most|than|not|half of|twice|double|question|step|part|section|figure|equation|line|see))\s*$",
    re.IGNORECASE,
)


def _near(before: str, m: re.Match[str], attached: str, after: str) -> Found | None:
    """A number with its closest neighbors: a sign word before it, a unit, power or scale word after it."""
    sign = re.search(r"\b(?:minus|negative)\s+$", before, re.IGNORECASE)
    scale = (
        re.match(r"\s(?:hundred|thousand|million|billion|trillion|[^\W\d_]+\s?\^)\b", after) if not attached else None
    )
    phrase = ("negative " if sign else "") + m[0] + attached + (after[: scale.end()] if scale else "")
    quantity = read_quantity(re.sub(r"(\^\s?\{?\d+\}?|\s?\^)$", "", _STARS.sub("", phrase)))
    if isinstance(quantity, Quantity) and not _SIGN_OR_RELATION.search(before):
        return _stated(quantity)
    if (attached := attached.lstrip(".,")) and attached[0] in ")]}\"'*_$\\|" and not _SIGN_OR_RELATION.search(before):
        value = value_of(m)
        return Found(m[0].strip(), number_text(value)) if value is not None else None
    around = f"{before}{m[0]}{attached}{after[:12]}".strip()
    return Found(around, normalize_math(around), "it is not clear what belongs to the number")


# --- choices ---


def _choice(span: str) -> Found | None:
    """The one letter or word that a span chooses; None if it chooses none or several."""
    text = strip_markup(number_from_latex(_sentence(strip_markup(span)))).strip(" \"'\u201c\u201d\u2018\u2019*_")
    head = _CUE.split(text, maxsplit=1)[0] or text
    if m := _ALONE.fullmatch(head):
        return Found(m[1], m[1].upper())
    denied = bool(_NEGATED.search(head))
    letters = _letters(head)
    if letters:
        alone = len(letters) == 1 and not denied and not _SAID_FALSE.search(head)
        return Found(letters[0], letters[0]) if alone else None
    words = {
        m[1].lower() in ("yes", "true") for m in _YES_NO.finditer(re.split(r"[,;:.(]", head, maxsplit=1)[0] or head)
    }
    m = _YES_FIRST.match(head) or _YES_LAST.search(head)
    if m is None or len(words) > 1 or _NEGATED.search(re.split(r"[,.;]", head, maxsplit=1)[0]):
        return None
    return Found(m[1], m[1].lower())


def names_choices(span: str) -> bool:
    """Whether a span names any choice, even if it chooses none or several."""
    return bool(_letters(strip_markup(number_from_latex(_sentence(strip_markup(span))))))


def _letters(head: str) -> list[str]:
    """The distinct choice letters of a phrase; articles, pronouns and letters within an option's text do not count."""
    found: dict[str, None] = {}
    for m in _LETTER_IN.finditer(head):
        letter = (m[1] or m[2] or m[3]).upper()
        before, after = head[: m.start()], head[m.end() :]
        if m[3] == "I" or (m[3] == "A" and _ARTICLE.match(after) and not _VERB.match(after)):
            continue
        near = before[-24:]
        if m[3] and before.strip() and not _LEADS.search(near) and not re.search(r"(?:^|\W)[A-Z]\W*$", near):
            continue
        found[letter] = None
    return list(found)


# --- formulas, text ---


def _formulas(span: str, prose: bool) -> tuple[str, str]:
    """The formula of a line, or several joined by "or", "and" or a comma; otherwise the line, or its first sentence.

    The second value says why the text around the formula makes it uncertain; "" if it does not.
    """
    first = _MATH.search(span)
    if first is None or not _is_formula(first):
        return (_sentence(span) if prose else span), ""
    text, end = first[1] or first[2] or first[3], first.end()
    for m in _MATH.finditer(span, end):
        joint = _JOINT.fullmatch(span[end : m.start()])
        if joint is None:
            break
        word = joint[1].lower()
        text += f" \\text{{ {word} }} " if word.isalpha() else f"{word} "
        text, end = text + (m[1] or m[2] or m[3]), m.end()
    rest = _CUE.split(span[end:], maxsplit=1)[0]
    if "$" in rest or "\\(" in rest:
        return text, "several formulas"
    return text, ambiguity_around(_STARS.sub("", span[: first.start()]), _STARS.sub("", _sentence(rest)))


def _unfence(span: str) -> str:
    """`span` without the stars or code fence around it; line breaks and inner white space kept."""
    parts = _FENCE.split(span, maxsplit=2)
    if len(parts) > 1 and not parts[0].strip("* \t\n"):
        span = parts[1]
    first, _, rest = span.partition("\n")
    first = first.strip("* \t\r")
    return (f"{first}\n{rest}" if first else rest).strip("\n").rstrip("* \t\r\n")
