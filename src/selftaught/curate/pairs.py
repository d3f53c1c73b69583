"""Right answers paired with wrong answers to the same problem."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import chain, zip_longest

from selftaught.curate.keep import by_problem, finished
from selftaught.records import Attempt, Pair, Verdict


def right_and_wrong(attempts: Iterable[Attempt]) -> list[list[tuple[Attempt, Attempt]]]:
    """For each problem its (right, wrong) attempts: first with first, second with second.

    No attempt is used twice; truncated and failed attempts are omitted.
    """
    groups = by_problem(finished(attempts)).values()
    sides = [[[a for a in group if a.verdict is v] for v in (Verdict.RIGHT, Verdict.WRONG)] for group in groups]
    return [list(zip(right, wrong, strict=False)) for right, wrong in sides]


def pairs(attempts: Iterable[Attempt], *, per_problem: int | None = None, max_pairs: int | None = None) -> list[Pair]:
    """Preferences for right over wrong answers to the same problem, each answer in at most one pair.

    Args:
        attempts: judged attempts.
        per_problem: maximum pairs per problem; None for all.
        max_pairs: maximum pairs in all, taken round-robin from the problems; None for all, problem by problem.
    """
    groups = [[_pair(*two) for two in found[:per_problem]] for found in right_and_wrong(attempts)]
    if max_pairs is None:
        return list(chain.from_iterable(groups))
    in_turn = chain.from_iterable(zip_longest(*groups))
    return [pair for pair in in_turn if pair is not None][:max_pairs]


def _pair(right: Attempt, wrong: Attempt) -> Pair:
    return Pair(right.problem.prompt, right.text, wrong.text, attempts=(right.id, wrong.id))
