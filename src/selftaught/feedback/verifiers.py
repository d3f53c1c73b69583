"""Verifiers: compare an answer with the reference and return RIGHT, WRONG or UNKNOWN, with the verifier's version.

A verifier never raises because of an answer. Undecided cases (timeout, an unparseable answer, a verifier that
raised) are UNKNOWN, and the feedback's text gives the reason.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from fractions import Fraction
from typing import Any, NamedTuple, Protocol

from selftaught.feedback.canonical import (
    MAX_ANSWER,
    RULES_VERSION,
    canonical_number,
    number_from_latex,
    same_number,
    strip_markup,
)
from selftaught.feedback.numbers import number_text, with_unit
from selftaught.feedback.workers import Reply, Workers
from selftaught.records import Feedback, Problem, Verdict


class ExtractedAnswer(NamedTuple):
    """The answer extracted from a reply.

    Attributes:
        text: the whole reply.
        raw: the answer as written; None if there is none.
        canonical: the answer in canonical form; None if there is none.
        doubt: why the answer is ambiguous; "" if it is not.
        bare: another possible reading as a number, in canonical form.
    """

    text: str
    raw: str | None
    canonical: str | None
    doubt: str = ""
    bare: str = ""


class Verifier(Protocol):
    """The interface of a task's verifier.

    A slow one may have a second method with the same arguments, `decide`, for immediate verdicts in process: a
    feedback, or None if `judge` must be called. Saving the thread makes it ten times as fast.
    """

    version: str
    needs_reference: bool

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Judge an answer; `reference` is the problem's reference in canonical form, if it is scalar."""
        ...

    def close(self) -> None:
        """Stop worker processes; idempotent."""
        ...


def package_version(name: str) -> str:
    """The installed version of a package."""
    from importlib.metadata import version

    return version(name)


def right_or_wrong(right: bool, by: str) -> Feedback:
    """A certain verdict, with score 1 or 0."""
    return Feedback(Verdict.RIGHT, 1.0, "", by) if right else Feedback(Verdict.WRONG, 0.0, "", by)


def unknown_verdict(why: str, by: str) -> Feedback:
    """An UNKNOWN verdict with the reason."""
    return Feedback(Verdict.UNKNOWN, None, why, by)


def _same_text(reference: str, answer: ExtractedAnswer) -> bool:
    return answer.canonical == reference and not (answer.doubt and canonical_number(reference) is not None)


def _by_number(reference: str, answer: ExtractedAnswer) -> bool | None:
    """Whether an answer and the reference are the same number; None unless both are certainly plain numbers."""
    gold, found = canonical_number(reference), canonical_number(answer.canonical or "")
    if gold is None or found is None or answer.doubt:
        return None
    if same_number(gold, found):
        return True
    return None if answer.bare and same_number(gold, answer.bare) else False


def _as_share(reference: str, answer: str) -> bool:
    """Whether one of two numbers is the other in percent."""
    gold, found = Fraction(canonical_number(reference) or "0"), Fraction(canonical_number(answer) or "0")
    return gold in (found * 100, found / 100)


def _by_quantity(reference: str, answer: str) -> bool | None:
    """Whether two numbers with units are the same; None unless both are numbers and their units are not in conflict."""
    gold, found = (with_unit(number_from_latex(strip_markup(text))) for text in (reference, answer))
    if gold is None or found is None or (gold[1] and found[1] and gold[1] != found[1]):
        return None
    return same_number(number_text(gold[0].value), number_text(found[0].value))


def _left_undone(text: str) -> bool:
    """Whether an answer is arithmetic or a list of guesses: digits, operators and "or" only, no LaTeX, no letters."""
    bare = re.sub(r"\s*(?:\b(?:or|and)\b|,\s)\s*", ";", text)
    bare = re.sub(r"\s", "", bare)
    if re.fullmatch(r"\d+[-;]\d+/\d+|\d{1,3};\d{3}|[\d.]+,\d+", bare):  # "3-1/2", "1, 234", "1.000,50"
        return False
    undone = re.fullmatch(r"[\d.()]+(?:(?:[-+*/\u00d7\u00f7\u00b7x]|,|;)-?[\d.()]+)+", bare)
    return bool(undone) and not re.fullmatch(r"\d+,\d+|[\d.]+-[\d.-]+|[\d/]+", bare)


def unknown_reply(reply: Reply, by: str) -> Feedback:
    """UNKNOWN, with a searchable reason: "timeout", "verifier raised: ...", "verifier died: ..."."""
    if reply.status == "timeout":
        return unknown_verdict(f"timeout: {reply.value}", by)
    words = {"raised": "verifier raised", "died": "verifier died", "failed": "verifier could not start"}
    return unknown_verdict(f"{words[reply.status]}: {reply.value}", by)


class Exact:
    """RIGHT if the canonical forms are equal or are the same number. In process."""

    needs_reference = True

    def __init__(self) -> None:
        self.version = f"exact/{RULES_VERSION}"

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Compare canonical forms."""
        return self.decide(problem, answer, reference)

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:  # noqa: ARG002
        """Same as `judge`, which is fast."""
        if reference is None:
            return unknown_verdict("no reference", self.version)
        if answer.canonical is None:
            return unknown_verdict("no answer", self.version)
        if _same_text(reference, answer):
            return right_or_wrong(True, self.version)
        same = _by_number(reference, answer)
        if same is None and (answer.doubt or answer.bare) and not _left_undone(answer.raw or ""):
            return _unclear(answer, self.version)
        return right_or_wrong(bool(same), self.version)

    def close(self) -> None:
        """Nothing to stop."""


class Math:
    """Mathematical equality: exact for plain numbers, in process; otherwise math-verify in a worker.

    Differs from math-verify alone: whole-number references require an exact match (math-verify rounds floats to six
    places), an unevaluated sum ("60 + 93") does not answer a question for a number, and answers that cannot be parsed
    with certainty as a whole are UNKNOWN (see `selftaught.feedback.algebra`).

    Source: https://github.com/huggingface/Math-Verify
    """

    needs_reference = True

    def __init__(self, *, timeout: float = 10.0) -> None:
        self.version = f"math/{RULES_VERSION}+math-verify-{package_version('math-verify')}"
        self.workers = Workers(("math",), timeout=timeout)

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Compare as numbers, as text, then by algebra."""
        if (known := self.decide(problem, answer, reference)) is not None:
            return known
        gold = str(problem.reference)[:MAX_ANSWER]
        reply = self.workers.call((gold, (answer.raw or "")[:MAX_ANSWER]))
        if reply.status != "ok":
            return unknown_reply(reply, self.version)
        if reply.value is None or (answer.doubt and reply.value is False):
            return _unclear(answer, self.version)
        return right_or_wrong(bool(reply.value), self.version)

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback | None:
        """Compare as text and as plain numbers; None if that does not decide."""
        if reference is None:
            return unknown_verdict("no reference", self.version)
        if answer.canonical is None:
            return unknown_verdict("no answer", self.version)
        if _same_text(reference, answer):
            return right_or_wrong(True, self.version)
        same = _by_number(reference, answer)
        if same is None and canonical_number(reference) is not None:
            if answer.bare or (answer.doubt and "=" in (answer.raw or "")):
                return _unclear(answer, self.version)
            if _left_undone(answer.raw or ""):
                same = False
        percent = ("%" in str(problem.reference)) != ("%" in (answer.raw or ""))
        if same is False and percent and _as_share(reference, answer.canonical):
            return _unclear(answer, self.version)
        if same is None:
            same = _by_quantity(str(problem.reference), answer.raw or "")
        return None if same is None else right_or_wrong(same, self.version)

    def close(self) -> None:
        """Stop the workers."""
        self.workers.close()


def _unclear(answer: ExtractedAnswer, by: str) -> Feedback:
    return unknown_verdict(f"unparseable answer{f': {answer.doubt}' if answer.doubt else ''}", by)


class ReasoningGym:
    """The score of a reasoning-gym dataset's scorer; only a full score is RIGHT.

    Whole-number references are compared exactly, in process, because some scorers accept a near miss or part
    of the answer; so are the datasets without a scorer of their own, whose base scorer is text equality.

    Source: https://github.com/open-thought/reasoning-gym
    """

    needs_reference = False

    def __init__(
        self,
        job: tuple[Any, ...],
        entries: Mapping[str, bytes],
        *,
        base_scorer: bool,
        timeout: float = 20.0,
    ) -> None:
        self.version = f"rg/{RULES_VERSION}+reasoning-gym-{package_version('reasoning-gym')}"
        self.entries, self.base_scorer = entries, base_scorer
        self.workers = Workers(job, timeout=timeout)

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Compare exactly if that decides; otherwise call the dataset's scorer."""
        if (known := self.decide(problem, answer, reference)) is not None:
            return known
        entry, raw = self.entries[problem.id], answer.raw or ""
        tries = list(dict.fromkeys([raw, raw.removesuffix(".").rstrip()]))
        reply = self.workers.call((entry, tries))
        if reply.status != "ok":
            return unknown_reply(reply, self.version)
        score = float(reply.value)
        if not score >= 1.0:
            return Feedback(Verdict.WRONG, max(score, 0.0), "", self.version)
        return right_or_wrong(True, self.version)

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback | None:
        """Compare exactly; None if the dataset's scorer must decide."""
        if answer.canonical is None or answer.raw is None:
            return unknown_verdict("no answer", self.version)
        if reference is not None:
            if _is_whole(reference):
                same = _by_number(reference, answer)
                return right_or_wrong(bool(same), self.version) if same is not None else self._not_whole(answer)
            if answer.raw == problem.reference:
                return right_or_wrong(True, self.version)
            if self.base_scorer:
                return right_or_wrong(answer.canonical == reference, self.version)
        return (
            None
            if problem.id in self.entries
            else unknown_verdict("the problem does not belong to this task", self.version)
        )

    def _not_whole(self, answer: ExtractedAnswer) -> Feedback:
        if answer.bare or (answer.doubt and not _left_undone(answer.raw or "")):
            return _unclear(answer, self.version)
        return right_or_wrong(False, self.version)

    def close(self) -> None:
        """Stop the workers."""
        self.workers.close()


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
