"""Verifiers: they compare an answer with what is known and say RIGHT, WRONG or UNKNOWN, with their version.

A verifier never raises for anything an answer contains. What it cannot decide (time ran out, an answer that
does not parse, a verifier that raised) is UNKNOWN, and the feedback's text says why.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, NamedTuple, Protocol

from selftaught.feedback.canonical import MAX_ANSWER, RULES, as_number, same_number
from selftaught.feedback.workers import Reply, Workers
from selftaught.records import Feedback, Problem, Verdict


class Answer(NamedTuple):
    """What was found in a reply: the whole text, the answer as written and in canonical form (None: none)."""

    text: str
    raw: str | None
    canonical: str | None


class Verifier(Protocol):
    """What a task asks of its verifier.

    One that may take long offers a second method of the same arguments, `decide`, for what it knows at once and
    in process: a feedback, or None where it must be asked to `judge`. Spared a thread, that is ten times as fast.
    """

    version: str
    needs_reference: bool

    def judge(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback:
        """Judge an answer; `reference` is the problem's reference in canonical form, where it is scalar."""
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


def unknown(why: str, by: str) -> Feedback:
    """An UNKNOWN verdict that says why."""
    return Feedback(Verdict.UNKNOWN, None, why, by)


def _by_number(reference: str, answer: str) -> bool | None:
    """Whether two answers are the same plain number; None unless both are plain numbers."""
    gold = as_number(reference)
    found = as_number(answer) if gold is not None else None
    return None if gold is None or found is None else same_number(gold, found)


def unknown_reply(reply: Reply, by: str) -> Feedback:
    """UNKNOWN, in the words users look for: "timeout", "verifier raised: ...", "verifier died: ..."."""
    if reply.status == "timeout":
        return unknown(f"timeout: {reply.value}", by)
    words = {"raised": "verifier raised", "died": "verifier died", "failed": "verifier could not start"}
    return unknown(f"{words[reply.status]}: {reply.value}", by)


class Exact:
    """The canonical forms are equal, or are the same number. In process."""

    needs_reference = True

    def __init__(self) -> None:
        self.version = f"exact/{RULES}"

    def judge(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback:
        """Compare canonical forms."""
        return self.decide(problem, answer, reference)

    def decide(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback:  # noqa: ARG002
        """As `judge`: it never takes long."""
        if reference is None:
            return unknown("no reference", self.version)
        if answer.canonical is None:
            return unknown("no answer", self.version)
        same = reference == answer.canonical or _by_number(reference, answer.canonical) is True
        return right_or_wrong(same, self.version)

    def close(self) -> None:
        """Nothing to stop."""


class Math:
    """Mathematical equality: exact for plain numbers, in process; otherwise math-verify in a worker.

    Differs from math-verify alone in that a whole reference must be met exactly (math-verify rounds floats to six
    places) and that a sum left undone ("60 + 93") is no answer to a question for a number.

    Source: https://github.com/huggingface/Math-Verify
    """

    needs_reference = True

    def __init__(self, *, timeout: float = 10.0) -> None:
        self.version = f"math/{RULES}+math-verify-{package_version('math-verify')}"
        self.workers = Workers(("math",), timeout=timeout)

    def judge(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback:
        """Compare as numbers, as text, then by algebra."""
        if (known := self.decide(problem, answer, reference)) is not None:
            return known
        gold = str(problem.reference)[:MAX_ANSWER]
        reply = self.workers.call((gold.strip().strip("$"), (answer.raw or "")[:MAX_ANSWER].strip("$")))
        if reply.status != "ok":
            return unknown_reply(reply, self.version)
        if reply.value is None:
            return unknown("unparseable answer", self.version)
        return right_or_wrong(bool(reply.value), self.version)

    def decide(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback | None:  # noqa: ARG002
        """Compare as text and as plain numbers; None where that does not settle it."""
        if reference is None:
            return unknown("no reference", self.version)
        if answer.canonical is None:
            return unknown("no answer", self.version)
        if answer.canonical == reference:
            return right_or_wrong(True, self.version)
        same = _by_number(reference, answer.canonical)
        if same is None and _is_plain(answer.canonical) and as_number(reference) is not None:
            same = False  # arithmetic left undone, or a list of guesses
        return None if same is None else right_or_wrong(same, self.version)

    def close(self) -> None:
        """Stop the workers."""
        self.workers.close()


def _is_plain(text: str) -> bool:
    """Digits, spaces and operators only (and the words of a list), no LaTeX and no letters."""
    return not any(c.isalpha() or c in "\\^√" for c in re.sub("or|and|to", "", text))


class ReasoningGym:
    """The score of a reasoning-gym dataset's own scorer; a full score is RIGHT and nothing else is.

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
        self.version = f"rg/{RULES}+reasoning-gym-{package_version('reasoning-gym')}"
        self.entries, self.base_scorer = entries, base_scorer
        self.workers = Workers(job, timeout=timeout)

    def judge(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback:
        """Compare exactly where that decides, else ask the dataset's scorer."""
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

    def decide(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback | None:
        """Compare exactly; None where only the dataset's scorer can tell."""
        if answer.canonical is None or answer.raw is None:
            return unknown("no answer", self.version)
        if reference is not None:
            if _is_whole(reference):
                return right_or_wrong(_by_number(reference, answer.canonical) is True, self.version)
            if answer.raw == problem.reference:
                return right_or_wrong(True, self.version)
            if self.base_scorer:
                return right_or_wrong(answer.canonical == reference, self.version)
        return None if problem.id in self.entries else unknown("this problem is not of this task", self.version)

    def close(self) -> None:
        """Stop the workers."""
        self.workers.close()


def _is_whole(text: str) -> bool:
    return text.removeprefix("-").isdecimal()
