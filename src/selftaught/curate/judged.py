"""Select attempts by what judges say of them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from itertools import combinations
from statistics import fmean

from selftaught.curate.keep import Truncated, by_problem, demos_of
from selftaught.errors import BadInput
from selftaught.records import Attempt, Demo, Feedback, Verdict


def keep_judged(
    attempts: Iterable[Attempt],
    *,
    min_score: float = 0.5,
    per_problem: int | None = None,
    truncated: Truncated = "drop",
) -> list[Demo]:
    """Turn the attempts with at least a judge's `min_score` into demonstrations; those without a score are left out.

    Args:
        attempts: judged attempts, see `Run.judge`.
        min_score: the smallest score, 0..1.
        per_problem: maximum demonstrations per problem, those with the highest scores; None for all.
        truncated: see `keep_right`.

    Raises:
        BadInput: `min_score` is not in 0..1, or `truncated` has another value.
    """
    if not 0 <= min_score <= 1:
        raise BadInput(f"must be in 0..1, got {min_score}", where="min_score", fix="scores are normalized to 0..1")
    scored = by_problem(one for one in attempts if one.score is not None and one.score >= min_score)
    best = [one for group in scored.values() for one in sorted(group, key=lambda a: a.score or 0.0, reverse=True)]
    return demos_of(best, lambda _: True, per_problem, truncated)


def all_pairs(attempts: Iterable[Attempt]) -> list[tuple[Attempt, Attempt]]:
    """Every two attempts at the same problem, for a judge of pairs; failed ones are left out."""
    groups = by_problem(attempt for attempt in attempts if not attempt.failed).values()
    return [pair for group in groups for pair in combinations(group, 2)]


def win_rates(attempts: Iterable[Attempt], judged: Iterable[tuple[Attempt, ...]]) -> list[Attempt]:
    """The attempts, each with its mean score over all groups it was judged in as one judgment.

    Args:
        attempts: as they were before; one that is in no group with a score gets no judgment.
        judged: groups of them, such as `all_pairs`, with feedback (see `Run.judge`).
    """
    found: dict[str, list[Feedback]] = {}
    for one in (one for group in judged for one in group):
        found.setdefault(one.id, []).extend(one.judgments[-1:])
    return [_with_mean(attempt, found.get(attempt.id, [])) for attempt in attempts]


def _with_mean(attempt: Attempt, given: list[Feedback]) -> Attempt:
    scores = [one.score for one in given if one.score is not None]
    if not scores:
        return attempt
    text = f"mean of {len(scores)} comparisons"
    mean = Feedback(Verdict.UNKNOWN, fmean(scores), text, f"win rate, {given[-1].source}", "judge")
    return replace(attempt, feedback=(*attempt.feedback, mean))
