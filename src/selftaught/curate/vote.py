"""Plurality votes among answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from selftaught.feedback.equality import equality_key
from selftaught.records import Attempt, Feedback, Verdict


@dataclass(frozen=True, slots=True)
class Vote:
    """The result of a vote.

    Attributes:
        answer: the most frequent answer, in its earliest spelling; ties go to the answer given first.
        share: its share of all attempts, including those without an answer, in 0..1: the vote's confidence.
        voters: the attempts that gave it.
    """

    answer: str
    share: float
    voters: tuple[Attempt, ...]


def ballots(attempts: Sequence[Attempt]) -> list[list[Attempt]]:
    """The attempts that have an answer, grouped by equal answers, in order of first appearance."""
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.answer is not None:
            groups.setdefault(equality_key(attempt.answer), []).append(attempt)
    return list(groups.values())


def vote(attempts: Sequence[Attempt]) -> Vote | None:
    """The plurality vote over the attempts' answers; None if no attempt has an answer.

    Answers are grouped by equality, not by spelling: `x/2` and `\\frac{x}{2}` count as one.

    Self-consistency (2203.11171), section 2, unweighted.
    """
    if not (groups := ballots(attempts)):
        return None
    voters = max(groups, key=len)  # ties go to the first
    return Vote(voters[0].answer or "", len(voters) / len(attempts), tuple(voters))


def elect(attempts: Sequence[Attempt]) -> Attempt | None:
    """The first attempt that gave the most frequent answer, with the vote's share as its confidence.

    Returns:
        The attempt, its feedback replaced by the confidence; None if no attempt has an answer.
    """
    won = vote(attempts)
    return won and with_confidence(won.voters[0], won.share, "vote", f"{len(won.voters)} of {len(attempts)} votes")


def with_confidence(attempt: Attempt, confidence: float | None, source: str, text: str = "") -> Attempt:
    """The attempt with a confidence in 0..1 as its only feedback, a judgment without a verdict.

    Args:
        source: what computed it, such as "vote".
        text: an explanation for the reader.
    """
    return replace(attempt, feedback=(Feedback(Verdict.UNKNOWN, confidence, text, source, "judge"),))
