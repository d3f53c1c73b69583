"""Extract the final answer from a model's reply.

The rule: thinking (`<think>...</think>` and variants) is ignored; a reply that ends while thinking has no answer.
Markers are `Answer: X` (also with a dash, an arrow, or as a table cell), `answer is X`, a heading line
`Final Answer`, `#### X`, `<answer>X</answer>`, `"answer": X` in JSON and `\\boxed{X}`, in any letter case and with
markdown around them. The marker that occurs *last* in the text and is followed by an answer wins. What follows a marker
is parsed by the kind of the task (see `selftaught.tasks.reading`).

- What the model writes after its answer as a next problem ("Question: ...") is ignored.
- Prose that denies an answer ("cannot be 12") states none. After another marker, neither does prose that quotes or
  discusses an answer ("the answer is rounded to 2 places").
- The reply has no answer if the last marker is a truncated `\\boxed{`, a numbered list or the list of choices,
  or if the text after it retracts the answer ("wait, ..."). A `number` task finds none after a marker
  whose text has no number and says that the answer is unknown.

Without a marker a `number` task takes the last number of the text, and the other kinds take a last line that
is only a choice letter, yes / no / true / false, or a formula. Otherwise there is no answer (None).

Only the last `MAX_TEXT` characters are examined and every pattern runs in linear time, so that no reply can
stall a run. Nothing is evaluated.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Any, NamedTuple

from selftaught.feedback.canonical import MAX_ANSWER, canonical_number
from selftaught.feedback.plain import plain_characters
from selftaught.tasks.code import find_code
from selftaught.tasks.reading import (
    Found,
    Kind,
    canonical_answer,
    is_choice,
    last_number,
    names_choices,
    parse_answer,
    unmarked_answer,
)
from selftaught.tasks.thinking import without_thinking

__all__ = ["MAX_TEXT", "Found", "Kind", "canonical_answer", "find_answer", "kind_of", "last_boxed", "reference_text"]

MAX_TEXT = 32_768
"""Characters examined, counted from the end of the text."""

_MAX_MARKERS = 16
_MAX_BLOCK = 16_384

_MARKER = re.compile(
    r"(?P<json>[\"'](?:final[_ ])?answer[\"']\s{0,4}:)"
    r"|(?P<colon>\b(?:answer|ans|respuesta|antwort|r[\u00e9e]ponse|risposta|resposta)\b[*_ ]{0,4}(?:is)?[*_ ]{0,4}"
    r"(?:[:=|\u2192\u21d2\u27f9]|-{1,2}>|=>)"
    r"|\u7b54\u6848\s?[:\u662f\u4e3a])"
    r"|(?P<dash>\banswer\b[*_]{0,4} {1,2}[-\u2013\u2014] )"
    r"|(?P<heading>(?:^|\n)[ #>*_]{0,10}(?:(?:the|my|your|final|correct|short) ){0,2}(?:answer|result)[*_ ]{0,6}"
    r"(?=\n|$))"
    r"|(?P<prose>\banswer\b[^.\n:=]{0,60}?\b(?:is|was|be|equals)(?:n't\b|n\u2019t\b|\b))"
    r"|(?P<letter>\banswer\b[*_]{0,4} (?=[*_]{0,4}\(?[A-Z]\b))"
    r"|(?P<hashes>####)"
    r"|(?P<tag><answer>)"
    r"|(?P<boxed>\\f?boxed\s?\{)"
    r"|(?P<bare>\\f?boxed ?(?=[\w\\-]))",
    re.IGNORECASE,
)
_BOXED = re.compile(r"\\f?boxed\s?\{")
_BARE = re.compile(r"-?(?:\w+|\\\w+(?:\{[^{}]*\})*)?")
_DISPLAY = (("$$", "$$"), ("\\[", "\\]"), ("\\(", "\\)"))
_MARKUP = "*_`:># \t\r\n"


_NEGATED = re.compile(r"\b(?:not|never|cannot)\b|n['\u2019]t\b", re.IGNORECASE)
_QUOTED = re.compile(
    r"\b(?:wrong|incorrect|common|might|may|could|some|first|previous|initial|earlier|student)\b[^.\n]{0,30}$",
    re.IGNORECASE,
)
_UNSURE = re.compile(r"\b(?:not sure|unsure|don['\u2019]t|do not|can['\u2019]t|cannot) [^.\n]{0,40}$", re.IGNORECASE)
_REMARK = re.compile(r"\s*(?:[a-z]{2,}\b|\d+\s?%\s(?:correct|sure|certain))")
_RETRACTED = re.compile(
    r"\b(?:wait|actually|hmm+|oops|correction|scratch that|let me re\w+|i made (?:a|an) (?:mistake|error)|"
    r"that['\u2019]?s? (?:is )?(?:wrong|incorrect|not right))\b",
    re.IGNORECASE,
)
_REFUSED = re.compile(
    r"\b(?:know|unclear|unknown|cannot|not|none|impossible|undetermined|unsure)\b|n['\u2019]t\b", re.IGNORECASE
)
_NEXT = re.compile(
    r"^[ #*>]{0,8}(?:Q|Question|Problem|Human|User|Instruction|Exercise|Example|Input)\b[ \d]{0,5}\**(?:[:.]|$)"
    r"|<\|im_start\|>\s?user|<\|start_header_id\|>\s?user|\[INST\]|<start_of_turn>\s?user",
    re.MULTILINE,
)
_CHATTER = re.compile(
    r"\b(?:let me know|i hope|hope (?:this|that)|feel free|if you have any|confidence)\b", re.IGNORECASE
)
_HEADING_NUMBER = re.compile(r"\s*(?:\d+[.)]\s+[A-Za-z]|(?:part|step|question|problem)\b)", re.IGNORECASE)
_BULLET = re.compile(r"(?<=\n)[ \t]*[-\u2022+][ \t]+")
_FENCE_NAME = re.compile(r"```[a-z]{1,12}(?=\n)")
_LATEX_IN_JSON = re.compile(
    r"(?<!\\)\\(?=(?:[dt]?frac|sqrt|text|times|cdot|pi|left|right|infty|boxed|begin|theta|beta|neq?|nu|tan)\b)"
)
_BOXES_JOINED = re.compile(r"\}(?:and|or|[a-z]\s?=|\([a-z]\)|[\s$,;])*$")


class Marked(NamedTuple):
    """What follows a marker, and how the marker was written."""

    text: str
    prose: bool = False
    formula: bool = False


def kind_of(references: Iterable[Any], *, fold: bool = True) -> Kind:
    """Infer the kind of a task from the references of all its problems.

    Args:
        references: the references; values other than text and numbers are skipped.
        fold: whether to ignore letter case in answers other than numbers and choices; False also requires that all
            references are of one kind.
    """
    texts = [reference_text(r) for r in references if isinstance(r, (str, int, float))]
    most = (0.95 if fold else 1.0) * len(texts)  # a data set of numbers may have a few errors
    if texts and sum(canonical_number(t) is not None for t in texts) >= most:
        return Kind.NUMBER
    if any("\n" in t.strip() for t in texts) or not (texts or fold):
        return Kind.BLOCK
    if texts and sum(is_choice(t) for t in texts) >= most:
        return Kind.CHOICE
    if fold and any(re.search(r"\\[a-zA-Z]+|\^|\$.+\$", t) for t in texts):
        return Kind.MATH
    return Kind.TEXT if fold else Kind.STRING


def reference_text(reference: Any) -> str:
    """A scalar reference as text, for comparison with answers (`True` as "true", `22.0` as "22")."""
    if isinstance(reference, bool):
        return "true" if reference else "false"
    if isinstance(reference, float) and reference.is_integer():
        return str(int(reference))
    return str(reference)


@lru_cache(maxsize=256)  # an answer is read where it is sampled, again where it is verified, and equal ones each time
def find_answer(text: str, kind: Kind) -> Found | None:
    """The final answer in `text`, or None if there is none."""
    if kind is Kind.CODE:
        code = find_code(without_thinking(text)[-MAX_TEXT:])
        return Found(code, canonical_answer(code, kind)) if code is not None else None
    text = _this_problem(plain_characters(without_thinking(text)[-MAX_TEXT:]))
    for marked in _marked(text, kind):
        if marked is None:
            return None
        if found := parse_answer(marked.text, kind, prose=marked.prose, formula=marked.formula):
            return found
        if kind is Kind.NUMBER and _REFUSED.search(marked.text[:80]):
            return None
        if kind is Kind.CHOICE and names_choices(marked.text[:MAX_ANSWER]):  # several of them, or none
            return None
    if kind is Kind.NUMBER:
        m = _CHATTER.search(text)
        return last_number(text[: m.start()] if m else text)
    return unmarked_answer(text, kind)


def _this_problem(text: str) -> str:
    """`text` up to where the model, after its answer, continues with an invented problem."""
    if not _NEXT.search(text) or (first := _MARKER.search(text)) is None:
        return text
    following = (m for m in _NEXT.finditer(text) if m.start() > first.end())
    return text[: end.start()] if (end := next(following, None)) else text


def last_boxed(text: str) -> str:
    """The content of the last `\\boxed{}` of `text`; "" if there is none."""
    ends = [m.end() for m in _BOXED.finditer(text)]
    return _braced(text, ends[-1]).strip() if ends else ""


def _marked(text: str, kind: Kind) -> Iterator[Marked | None]:
    """What follows each marker, the last marker first; None for a marker that means the reply has no answer."""
    found = list(_MARKER.finditer(text))[-_MAX_MARKERS:]
    strong = next((i for i, m in enumerate(found) if not m["prose"] and not m["letter"]), len(found))
    negated = False
    for number in reversed(range(len(found))):
        m = found[number]
        if (m["letter"] and kind is not Kind.CHOICE) or (m["hashes"] and _HEADING_NUMBER.match(text, m.end())):
            continue
        if m["prose"] and (negates := _aside(text, m, behind_strong=strong < number)) is not None:
            negated |= negates
            continue
        marked = _behind(text, m, kind)
        last = number == len(found) - 1
        if last and m["boxed"] and not marked.text and "}" not in text[m.end() :]:
            yield None
        if marked.text.strip("*_ \t\n:|"):
            if _lists_several(text, m, kind) or (last and _RETRACTED.search(text, m.end())):
                yield None
            yield marked
    if negated:
        yield None


def _aside(text: str, m: re.Match[str], *, behind_strong: bool) -> bool | None:
    """None if prose states an answer; otherwise whether it denies one, rather than quoting or discussing one."""
    before = text[max(0, m.start() - 80) : m.start()]
    if _NEGATED.search(m[0]) or _UNSURE.search(before):
        return True
    if behind_strong and (_QUOTED.search(before) or _REMARK.match(text, m.end())):
        return False
    return None


def _lists_several(text: str, m: re.Match[str], kind: Kind) -> bool:
    """Whether what follows a marker is a numbered list, or the list of choices."""
    rest = text[m.end() : m.end() + MAX_ANSWER].lstrip(_MARKUP)
    if kind is Kind.CHOICE:
        return bool(re.match(r"\(?A[).:]", rest) and re.search(r"\n\s*\(?B[).:]", rest))
    return kind is not Kind.BLOCK and bool(re.match(r"1[.)]\s", rest) and re.search(r"\n\s*2[.)]\s", rest))


def _behind(text: str, m: re.Match[str], kind: Kind) -> Marked:
    """The text that follows one marker."""
    if m["boxed"]:
        return Marked(_boxes(text, m), formula=True)
    if m["bare"]:
        bare = _BARE.match(text, m.end())
        return Marked(bare[0] if bare else "", formula=True)
    if m["json"]:
        marked = Marked(_json_value(text, m.end()))
    elif kind is Kind.BLOCK:
        marked = Marked(text[m.end() : m.end() + _MAX_BLOCK])
    else:
        marked = _line(text, m.end())._replace(prose=bool(m["prose"]))
    if m["tag"]:
        return marked._replace(text=re.split("</answer>", marked.text, maxsplit=1, flags=re.IGNORECASE)[0])
    return marked


def _boxes(text: str, m: re.Match[str]) -> str:
    """The content of a box, with preceding boxes joined to it by "and" or a comma."""
    inside = _braced(text, m.end())
    before = text[max(0, m.start() - 200) : m.start()]
    if not _BOXES_JOINED.search(before) or not (earlier := list(_BOXED.finditer(before))):
        return inside
    other = _braced(before, earlier[-1].end())
    return f"{other} , {inside}" if other and other != inside else inside


def _json_value(text: str, start: int) -> str:
    """The JSON value from `start`, as text; if invalid, up to the next comma, brace or line end."""
    rest = _LATEX_IN_JSON.sub(r"\\\\", text[start : start + 2 * MAX_ANSWER].lstrip())
    try:
        value, _ = json.JSONDecoder(parse_float=str, parse_int=str, parse_constant=str).raw_decode(rest)
    except (ValueError, RecursionError):
        return re.split(r"[,}\n]", rest, maxsplit=1)[0].strip(" \"'")
    if isinstance(value, bool):
        return str(value)
    return value if isinstance(value, str) else json.dumps(value) if value is not None else ""


def _line(text: str, start: int) -> Marked:
    """The rest of the line from `start`, or the next line with text if only markup remains.

    A display formula is taken whole.
    """
    rest = _FENCE_NAME.sub("```", text[start : start + 2 * MAX_ANSWER], count=1)
    rest = _BULLET.sub("", rest, count=1)
    head = len(rest) - len(rest.lstrip(_MARKUP))
    for opening, closing in _DISPLAY:
        if rest.startswith(opening, head):
            end = rest.find(closing, head + len(opening))
            inside = rest[head + len(opening) : end] if end >= 0 else ""
            if "\n" in rest[:end] and inside.strip():
                return Marked(inside.strip(), formula=True)
    end = rest.find("\n", len(rest) - len(rest.lstrip(_MARKUP + "$")))
    bare = len(rest) - len(rest.lstrip(_MARKUP.replace(">", "")))
    head = bare if "\n" in rest[:bare] else 0  # fences and stars before an answer on a line of its own
    return Marked(rest[head : end if end >= 0 else len(rest)].strip("\r\n"))


def _braced(text: str, start: int) -> str:
    """The text from `start` to the matching closing brace; "" if there is none."""
    depth = 1
    for i in range(start, min(len(text), start + MAX_ANSWER)):
        depth += (text[i] == "{") - (text[i] == "}")
        if depth == 0:
            return text[start:i]
    return ""
