"""Preference pairs from judged attempts at the same problem: right over wrong, best over worst, by votes, by length.

A selection takes attempts and returns, for each problem in order, its (chosen, rejected) attempts; all omit truncated
and failed attempts. `pairs` makes records of what a selection chose.
"""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from itertools import chain, takewhile, zip_longest
from math import lcm

from selftaught.curate.keep import by_problem, finished
from selftaught.curate.vote import ballots, vote_shares
from selftaught.errors import BadInput
from selftaught.records import Attempt, Pair, Problem, Verdict

Match = tuple[Attempt, Attempt]
"""A chosen and a rejected attempt at the same problem."""

Selection = Callable[[Iterable[Attempt]], list[list[Match]]]


def right_and_wrong(attempts: Iterable[Attempt]) -> list[list[Match]]:
    """For each problem its (right, wrong) attempts: first with first, second with second.

    No attempt is used twice; truncated and failed attempts are omitted.
    """
    return [list(zip(right, wrong, strict=False)) for right, wrong in _sides(attempts)]


def right_times_wrong(attempts: Iterable[Attempt]) -> list[list[Match]]:
    """For each problem every right attempt with every wrong one, in an order that uses all as evenly as possible.

    Right and wrong attempts are gone through side by side, each starting over at its end, as in 2404.19733, section 2;
    so the first m matches of a problem repeat no attempt before the others of its side had their turn.
    """
    return [list(_product(right, wrong)) for right, wrong in _sides(attempts)]


def right_and_nearest_wrong(attempts: Iterable[Attempt]) -> list[list[Match]]:
    """For each problem every right attempt with the wrong one that shares the longest beginning with it.

    The matches that share most come first. What a pair shares, its preference says nothing about, so that credit falls
    on where the two part (per-step negatives of Setlur et al., 2406.14532, without their estimate of a step's value).
    """
    return [
        sorted(((one, max(wrong, key=partial(_shared, one))) for one in right if wrong), key=lambda m: -_shared(*m))
        for right, wrong in _sides(attempts)
    ]


def best_and_worst(
    attempts: Iterable[Attempt],
    *,
    score: Callable[[Attempt], float | None] | None = None,
    min_gap: float = 0.0,
    length_tolerance: float = 0.0,
) -> list[list[Match]]:
    """For each problem the attempt with the highest score over that with the lowest, if they differ.

    Args:
        attempts: judged attempts.
        score: of an attempt, None to omit it; by default the latest judgment's score, or its verdict as 1 or 0.
        min_gap: scores that differ by less make no match.
        length_tolerance: share of the range of scores, 0..1, within which length decides: the shortest of the best is
            chosen, the longest of the worst rejected, so that length is not rewarded (Meta-Rewarding, 2407.19594).
    """
    rate, found = score or latest_score, []
    for group in by_problem(finished(attempts)).values():
        rated = [(value, one) for one in group if (value := rate(one)) is not None]
        low, high = min((v for v, _ in rated), default=0.0), max((v for v, _ in rated), default=0.0)
        slack = length_tolerance * (high - low)
        best = [one for value, one in rated if value >= high - slack]
        worst = [one for value, one in rated if value <= low + slack]
        if length_tolerance:
            best, worst = sorted(best, key=_length), sorted(worst, key=_length, reverse=True)
        found.append([(best[0], worst[0])] if high > low and high - low >= min_gap else [])
    return found


def most_and_least_voted(attempts: Iterable[Attempt], *, min_share: float = 0.0) -> list[list[Match]]:
    """For each problem an attempt with its most frequent answer over one with its least frequent; reads no verdict.

    Source: ScPO (Prasad et al., 2411.04109), which weights each pair by the difference of the two shares; see
    `vote_gap`.

    Args:
        attempts: several at each problem.
        min_share: share of the attempts that the most frequent answer must have, 0..1.
    """
    found = []
    for group in by_problem(finished(attempts)).values():
        sides = sorted(ballots(group), key=len, reverse=True)  # stable: ties stay in order of appearance
        enough = len(sides) > 1 and len(sides[0]) > len(sides[-1]) and len(sides[0]) >= min_share * len(group)
        found.append([(sides[0][0], sides[-1][0])] if enough else [])
    return found


def vote_gap(attempts: Iterable[Attempt]) -> Callable[[Attempt, Attempt], float]:
    """A weight for `pairs`: by how much of the attempts' votes the chosen answer leads the rejected one, 0..1."""
    groups = by_problem(finished(attempts)).values()
    shares = {one.id: share for group in groups for one, share in zip(group, vote_shares(group), strict=True)}
    return lambda chosen, rejected: shares.get(chosen.id, 0.0) - shares.get(rejected.id, 0.0)


def similar_length(matches: Sequence[Sequence[Match]], *, max_ratio: float = 2.0) -> list[list[Match]]:
    """The matches in which neither text is more than `max_ratio` times as long as the other, in characters."""

    def alike(match: Match) -> bool:
        short, long = sorted(map(_length, match))
        return long <= max_ratio * short

    return [list(filter(alike, group)) for group in matches]


def pairs(
    attempts: Iterable[Attempt],
    *,
    per_problem: int | None = None,
    max_pairs: int | None = None,
    select: Selection = right_and_wrong,
    weight: Callable[[Attempt, Attempt], float] | None = None,
    margin: Callable[[Attempt, Attempt], float] | None = None,
) -> list[Pair]:
    """Preference records of attempts at the same problem; by default right over wrong, each attempt used once.

    Args:
        attempts: judged attempts.
        per_problem: maximum pairs per problem; None for all.
        max_pairs: maximum pairs in all, taken round-robin from the problems; None for all, problem by problem.
        select: matches chosen with rejected attempts, such as `right_times_wrong` or `best_and_worst`.
        weight: of a pair, given chosen and rejected, such as `vote_gap(attempts)`; by default 1.
        margin: by how much the chosen answer should win, such as `score_gap`; by default 0.
    """
    groups = [[_pair(*match, weight, margin) for match in found[:per_problem]] for found in select(attempts)]
    if max_pairs is None:
        return list(chain.from_iterable(groups))
    in_turn = chain.from_iterable(zip_longest(*groups))
    return [pair for pair in in_turn if pair is not None][:max_pairs]


def written_solutions(problems: Iterable[Problem]) -> dict[str, str]:
    """The text of each problem's written solution (`meta["solution"]`), by problem id.

    Raises:
        BadInput: a problem has none.
    """
    return {problem.id: _solution(problem) for problem in problems}


def solution_pairs(
    attempts: Iterable[Attempt], solutions: Mapping[str, str], *, per_problem: int | None = None
) -> list[Pair]:
    """Preference records for each problem's written solution over attempts at it, as in SPIN (2401.01335).

    Attempts whose text is the solution itself are omitted, as are truncated and failed ones.

    Args:
        attempts: sampled answers; their verdicts are not read.
        solutions: problem id -> text, see `written_solutions`.
        per_problem: maximum pairs per problem; None for all.
    """
    groups = by_problem(a for a in finished(attempts) if a.text.strip() != solutions[a.problem.id].strip())
    return [
        Pair(one.problem.prompt, solutions[one.problem.id], one.text, attempts=(one.id,))
        for group in groups.values()
        for one in group[:per_problem]
    ]


def _solution(problem: Problem) -> str:
    if isinstance(text := problem.meta.get("solution"), str) and text.strip():
        return text
    where, what = str(problem.meta.get("where", problem.id)), f"no written solution of {_cut(problem.question)!r}"
    fix = "use data with a field solution, or a method that needs none (preferences --source verifier)"
    raise BadInput(what, where=where, fix=fix)


def _cut(text: str, most: int = 60) -> str:
    """A text in one line, cut between words."""
    return textwrap.shorten(text, most, placeholder=" ...")


def latest_score(attempt: Attempt) -> float | None:
    """The score of the latest judgment; without one 1 for RIGHT, 0 for WRONG, None for UNKNOWN."""
    if attempt.feedback and attempt.feedback[-1].score is not None:
        return attempt.feedback[-1].score
    return None if attempt.verdict is Verdict.UNKNOWN else float(attempt.right)


def score_gap(chosen: Attempt, rejected: Attempt) -> float:
    """By how much the latest score of the chosen attempt exceeds that of the rejected; 0 where one has none."""
    high, low = latest_score(chosen), latest_score(rejected)
    return 0.0 if high is None or low is None else high - low


def _sides(attempts: Iterable[Attempt]) -> list[tuple[list[Attempt], list[Attempt]]]:
    """For each problem its right and its wrong attempts."""
    groups = by_problem(finished(attempts)).values()
    return [
        ([a for a in g if a.verdict is Verdict.RIGHT], [a for a in g if a.verdict is Verdict.WRONG]) for g in groups
    ]


def _shared(a: Attempt, b: Attempt) -> int:
    """The number of characters that two texts have in common from their start."""
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(a.text, b.text, strict=False)))


def _product(right: Sequence[Attempt], wrong: Sequence[Attempt]) -> Iterable[Match]:
    if right and wrong:
        period = lcm(len(right), len(wrong))  # after which the same matches would come again, so one side moves on
        for i in range(len(right) * len(wrong)):
            yield right[i % len(right)], wrong[(i + i // period) % len(wrong)]


def _length(attempt: Attempt) -> int:
    return len(attempt.text)


def _pair(
    chosen: Attempt,
    rejected: Attempt,
    weight: Callable[[Attempt, Attempt], float] | None,
    margin: Callable[[Attempt, Attempt], float] | None,
) -> Pair:
    return Pair(
        chosen.problem.prompt,
        chosen.text,
        rejected.text,
        weight=weight(chosen, rejected) if weight else 1.0,
        margin=margin(chosen, rejected) if margin else 0.0,
        attempts=(chosen.id, rejected.id),
    )
