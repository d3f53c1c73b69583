"""Plurality votes among answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import fsum

from selftaught.feedback.equality import equality_key
from selftaught.records import Attempt, Feedback, Verdict


@dataclass(frozen=True, slots=True)
class Vote:
    """The result of a vote.

    Attributes:
        answer: the answer of most weight, without weights the most frequent, in its earliest spelling; ties go to the
            answer given first.
        share: its share of the weight of all attempts, including those without an answer, in 0..1: the vote's
            confidence.
        voters: the attempts that gave it.
    """

    answer: str
    share: float
    voters: tuple[Attempt, ...]


def ballots(attempts: Sequence[Attempt]) -> list[list[Attempt]]:
    """The attempts that have an answer, grouped by equal answers, in order of first appearance."""
    return [[attempt for attempt, _ in group] for group in _weighted_ballots(attempts, [1] * len(attempts))]


def _weighted_ballots(attempts: Sequence[Attempt], weights: Sequence[float]) -> list[list[tuple[Attempt, float]]]:
    groups: dict[str, list[tuple[Attempt, float]]] = {}
    for attempt, weight in zip(attempts, weights, strict=True):
        if attempt.answer is not None:
            groups.setdefault(equality_key(attempt.answer), []).append((attempt, weight))
    return list(groups.values())


def vote(attempts: Sequence[Attempt], weights: Sequence[float] | None = None) -> Vote | None:
    """The plurality vote over the attempts' answers; None if no attempt has an answer.

    Answers are grouped by equality, not by spelling: `x/2` and `\\frac{x}{2}` count as one.

    Self-consistency (2203.11171), section 2.

    Args:
        weights: of each attempt's vote, ≥ 0; by default 1.
    """
    weights = [1] * len(attempts) if weights is None else weights
    if not (groups := _weighted_ballots(attempts, weights)):
        return None
    totals = [fsum(weight for _, weight in group) for group in groups]
    won = totals.index(max(totals))  # ties go to the first
    voters = tuple(attempt for attempt, _ in groups[won])
    return Vote(voters[0].answer or "", totals[won] / (fsum(weights) or 1), voters)


def vote_shares(attempts: Sequence[Attempt]) -> list[float]:
    """The share of attempts that give each attempt's answer, 0..1; 0 for an attempt without an answer."""
    keys = [None if attempt.answer is None else equality_key(attempt.answer) for attempt in attempts]
    counts = Counter(keys)
    return [counts[key] / len(keys) if key is not None else 0.0 for key in keys]


def elect(attempts: Sequence[Attempt], weights: Sequence[float] | None = None) -> Attempt | None:
    """The first attempt that gave the answer that wins the vote (see `vote`), with its share as confidence.

    Returns:
        The attempt, its feedback replaced by the confidence; None if no attempt has an answer.
    """
    won = vote(attempts, weights)
    return won and with_confidence(won.voters[0], won.share, "vote", f"{len(won.voters)} of {len(attempts)} votes")


def with_confidence(attempt: Attempt, confidence: float | None, source: str, text: str = "") -> Attempt:
    """The attempt with a confidence in 0..1 as its only feedback, a judgment without a verdict.

    Args:
        source: what computed it, such as "vote".
        text: an explanation for the reader.
    """
    return replace(attempt, feedback=(Feedback(Verdict.UNKNOWN, confidence, text, source, "judge"),))
