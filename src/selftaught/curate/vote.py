"""Plurality votes among answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from selftaught.feedback.equality import equality_key
from selftaught.records import Attempt


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a vote.

    Attributes:
        answer: the most frequent answer, in its earliest spelling; the earliest given of equally frequent ones.
        share: its share of all attempts, those without an answer included: the vote's confidence.
        voters: the attempts that gave it.
    """

    answer: str
    share: float
    voters: tuple[Attempt, ...]


def vote(attempts: Sequence[Attempt]) -> Vote | None:
    """The plurality vote over the attempts' answers; None where none gave an answer.

    Answers are counted by equality, not by spelling: `x/2` and `\\frac{x}{2}` are one.

    Self-consistency (2203.11171), section 2, unweighted.
    """
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        if attempt.answer is not None:
            groups.setdefault(equality_key(attempt.answer), []).append(attempt)
    if not groups:
        return None
    voters = max(groups.values(), key=len)  # of equals, the first met
    return Vote(voters[0].answer or "", len(voters) / len(attempts), tuple(voters))
