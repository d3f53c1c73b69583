"""Plurality votes among answers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from selftaught.records import Attempt


@dataclass(frozen=True, slots=True)
class Vote:
    """The outcome of a vote.

    Attributes:
        answer: the most frequent answer; the earliest given of equally frequent ones.
        share: its share of all attempts, those without an answer included: the vote's confidence.
        voters: the attempts that gave it.
    """

    answer: str
    share: float
    voters: tuple[Attempt, ...]


def vote(attempts: Sequence[Attempt]) -> Vote | None:
    """The plurality vote over the attempts' answers; None where none gave an answer.

    Self-consistency (2203.11171), section 2, unweighted.
    """
    counts = Counter(a.answer for a in attempts if a.answer is not None)
    if not counts:
        return None
    answer, votes = counts.most_common(1)[0]  # of equals, the first met: Counter keeps insertion order
    return Vote(answer, votes / len(attempts), tuple(a for a in attempts if a.answer == answer))
