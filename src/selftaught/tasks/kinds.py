"""Decide the kind of a task with mixed references: the majority decides, and a note counts the others.

A few `proof`, a letter or a line break among numbers do not change how the numbers are parsed and judged.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from selftaught.feedback.code import has_tests
from selftaught.feedback.verifiers import Exact, ExtractedAnswer, Verifier, unknown_verdict
from selftaught.records import Feedback, Problem
from selftaught.tasks.extract import Kind, kind_of, reference_text

PLACEHOLDERS = frozenset({
    "proof", "\\text{proof}", "hidden", "[hidden]", "missing", "[missing]", "n/a", "nan", "null", "notfound",
    "not found", "not available", "not provided", "not specified", "unspecified", "see solution", "answer",
    "final answer", "tbd", "todo", "?", "-",
})  # fmt: skip
"""Placeholders for a missing reference; recognized only if most of the others are numbers, formulas or choices."""

_COVERED = {
    Kind.NUMBER: (Kind.NUMBER,),
    Kind.CHOICE: (Kind.CHOICE,),
    Kind.MATH: (Kind.MATH, Kind.NUMBER, Kind.TEXT),
    Kind.TEXT: (Kind.TEXT, Kind.NUMBER, Kind.CHOICE),
    Kind.BLOCK: tuple(Kind),
}
_WORDS = {Kind.NUMBER: "numbers", Kind.CHOICE: "choices", Kind.MATH: "formulas", Kind.TEXT: "short texts"}


@dataclass(frozen=True, slots=True)
class KindAssignment:
    """The kind of a task, and of its problems of other kinds.

    Attributes:
        kind: kind of most references.
        own: problem id -> kind, for problems of another kind.
        unread: ids of the problems whose reference is a placeholder, or has several lines in a task of numbers,
            formulas or choices: their verdict is UNKNOWN.
        notes: a line about both, if there are any.
    """

    kind: Kind
    own: Mapping[str, Kind] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


def assign_kinds(problems: Sequence[Problem]) -> KindAssignment:
    """Decide by majority how a task's answers are parsed.

    Numbers and formulas together are one majority: more than half of the one-line references make a task of numbers
    (where at most 5 % are formulas) or of formulas. Otherwise more than half choices make a task of choices, more than
    half with several lines one of blocks, and all else one of texts.
    """
    if problems and all(has_tests(p.reference) for p in problems):
        return KindAssignment(Kind.CODE)
    known = [(p, _kind(p.reference)) for p in problems if isinstance(p.reference, (str, int, float))]
    if not known:
        return KindAssignment(Kind.TEXT)
    real = [kind for p, kind in known if not _placeholder(p)]
    kind = _majority(Counter(real or [kind for _, kind in known]))
    odd = [(p, k) for p, k in known if k not in _COVERED[kind] or (_placeholder(p) and kind in _STRICT)]
    unread = frozenset(p.id for p, k in odd if kind in _STRICT and (k is Kind.BLOCK or _placeholder(p)))
    own = {p.id: k for p, k in odd if p.id not in unread}
    others = {p.id for p, _ in odd}
    counts = Counter(k for p, k in known if p.id not in others)
    notes = (_note(kind, counts, [p for p, _ in odd], len(unread)),) if odd else ()
    if not odd and kind is Kind.MATH and counts[Kind.NUMBER] > counts[kind]:
        notes = (f"{_counted(counts)}; read as {_WORDS[kind]}",)
    return KindAssignment(kind, own, unread, notes)


_STRICT = (Kind.NUMBER, Kind.MATH, Kind.CHOICE)


def _kind(reference: str | float) -> Kind:
    """The kind of a reference on its own; a formula may have several lines."""
    kind = kind_of([reference])
    formula = kind is Kind.BLOCK and re.search(r"\\[a-zA-Z]{2,}", str(reference))
    return Kind.MATH if formula else kind


def _majority(counts: Counter[Kind]) -> Kind:
    line = counts.total() - counts[Kind.BLOCK]
    exact = counts[Kind.NUMBER] + counts[Kind.MATH]
    if 2 * counts[Kind.BLOCK] > counts.total():
        return Kind.BLOCK
    if 2 * exact > line:
        return Kind.MATH if counts[Kind.MATH] > 0.05 * exact else Kind.NUMBER
    return Kind.CHOICE if 2 * counts[Kind.CHOICE] > line else Kind.TEXT


def _placeholder(problem: Problem) -> bool:
    return isinstance(problem.reference, str) and problem.reference.strip().rstrip(".").casefold() in PLACEHOLDERS


def _counted(counts: Counter[Kind]) -> str:
    """Counts of each kind in words, the most frequent first."""
    words = (f"{n:,} {_WORDS[k] if n > 1 else _WORDS[k].removesuffix('s')}" for k, n in counts.most_common())
    *most, last = words
    return f"{', '.join(most)} and {last}" if most else last


def _note(kind: Kind, counts: Counter[Kind], odd: list[Problem], unread: int) -> str:
    count = counts.total() + len(odd)
    first = min(odd, key=lambda p: file_line(str(p.meta.get("where", ""))))
    line = f"{count - len(odd):,} of {count:,} references are {_WORDS[kind]}, and so the task's answers are read"
    if kind is Kind.MATH and counts[Kind.NUMBER] > counts[kind]:
        line = f"{_counted(counts)} among {count:,} references; read as {_WORDS[kind]}"
    line += f"; {len(odd):,} are not, the first {reference_text(first.reference)[:40]!r} at {first.meta.get('where')}"
    judged = f"{len(odd) - unread:,} of them judged by what each is" if len(odd) > unread else ""
    left = f"{unread:,} count as UNKNOWN" if unread else ""
    return f"{line}: {', '.join(filter(None, (judged, left)))}"


def file_line(where: str) -> tuple[str, int]:
    """`file:line` as a key to sort by."""
    file, _, line = where.rpartition(":")
    return (file, int(line)) if line.isdecimal() else (where, 0)


class ByKind:
    """A verifier for a task of mixed kinds: the task's verifier, except on problems of other kinds.

    Args:
        usual: judges the task's kind.
        formulas: judges numbers and formulas among problems of another kind; may be `usual`.
        sorting: names the problems of other kinds.
    """

    needs_reference = True

    def __init__(self, usual: Verifier, formulas: Verifier, sorting: KindAssignment) -> None:
        self.usual, self._formulas, self._exact, self.sorting = usual, formulas, Exact(), sorting
        self.version = "+".join(dict.fromkeys([usual.version, formulas.version, "kinds"]))

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Judge by the problem's own kind."""
        if (known := self._unread(problem)) is not None:
            return known
        return self._of(problem).judge(problem, answer, reference)

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback | None:
        """Same as `judge`, if possible immediately and in process."""
        if (known := self._unread(problem)) is not None:
            return known
        decide = getattr(self._of(problem), "decide", None)
        return decide(problem, answer, reference) if decide else None

    def _of(self, problem: Problem) -> Verifier:
        own = self.sorting.own.get(problem.id)
        if own is None:
            return self.usual
        return self._formulas if own in (Kind.NUMBER, Kind.MATH) else self._exact

    def _unread(self, problem: Problem) -> Feedback | None:
        if problem.id not in self.sorting.unread:
            return None
        return unknown_verdict(f"unusable reference {reference_text(problem.reference)[:40]!r}", self.version)

    def close(self) -> None:
        """Stop the workers."""
        self.usual.close()
        self._formulas.close()
