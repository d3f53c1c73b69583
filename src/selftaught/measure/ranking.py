"""How well scores rank right answers above wrong ones."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence


def auroc(scores: Sequence[float], right: Sequence[bool]) -> float:
    """Area under the ROC curve: how often a right answer is scored above a wrong one, ties counting half.

    Equal to the Mann-Whitney statistic divided by the number of pairs (Hanley & McNeil 1982). Scores that are NaN are
    left out; 0.5 where no pair is left.

    Args:
        scores: of the answers.
        right: whether each answer is right.

    Raises:
        ValueError: they differ in number.
    """
    known = [(score, good) for score, good in zip(scores, right, strict=True) if score == score]
    above, below = [score for score, good in known if good], sorted(score for score, good in known if not good)
    wins = sum(bisect_left(below, score) + bisect_right(below, score) for score in above) / 2
    return wins / (len(above) * len(below)) if above and below else 0.5
