"""Select answers by reward, and measure how varied and how right the selection is: the balance score of B-STaR.

The score (Zeng et al., 2412.17256, section 3) is high where enough right answers are selected for each problem
(exploration) and few wrong ones (exploitation). Only answers that the verifier called RIGHT count.

The authors' code adds each problem's reference solution to its samples, as a right answer of reward 1. So no problem is
ever without a selection, and wrong answers cost something where no sample is right, too. `reference=True` counts such
an answer in selection and score; as it is no attempt, it is not among what is selected.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from selftaught.records import Attempt


@dataclass(frozen=True, slots=True)
class ScoredAttempt:
    """An attempt and its reward (outcome and process combined), on the scale of the thresholds."""

    attempt: Attempt
    reward: float


Groups = Mapping[str, Sequence[ScoredAttempt]]
"""Problem id -> its attempts with their rewards, in the order they were sampled."""


def group_by_problem(scored: Iterable[ScoredAttempt]) -> dict[str, list[ScoredAttempt]]:
    """Group by problem id, in order of first appearance."""
    groups: dict[str, list[ScoredAttempt]] = {}
    for one in scored:
        groups.setdefault(one.attempt.problem.id, []).append(one)
    return groups


def first_samples(groups: Groups, samples: int) -> dict[str, Sequence[ScoredAttempt]]:
    """The first `samples` attempts at each problem."""
    return {problem: group[:samples] for problem, group in groups.items()}


@dataclass(frozen=True, slots=True)
class Ranked:
    """The complete answers to one problem, highest reward first, equal ones included.

    Attributes:
        answers: the answers; of equal rewards the first sampled comes first. None stands for the reference solution.
        rewards: their rewards, negative, so that they rise.
        distinct: how many different texts are among the first 0, 1, 2, … of them.
        right: how many different right ones.
    """

    answers: Sequence[ScoredAttempt | None]
    rewards: Sequence[float]
    distinct: Sequence[int]
    right: Sequence[int]

    def above(self, threshold: float) -> int:
        """How many answers have a reward above the threshold."""
        return bisect_left(self.rewards, -threshold)

    def best(self, count: int) -> list[ScoredAttempt]:
        """The different answers among the first `count`, without the reference solution."""
        found: dict[str, ScoredAttempt] = {}
        for one in self.answers[:count]:
            if one is not None:
                found.setdefault(one.attempt.text, one)
        return list(found.values())


def rank(groups: Groups, *, reference: bool = False) -> dict[str, Ranked]:
    """Sort the complete answers to each problem, for trying many thresholds; truncated and failed ones are dropped.

    Args:
        reference: count a reference solution among them, as a right answer of reward 1.
    """
    return {problem: _ranked(group, reference) for problem, group in groups.items()}


def _ranked(group: Sequence[ScoredAttempt], reference: bool) -> Ranked:
    whole: list[ScoredAttempt | None] = [
        one for one in group if not (one.attempt.truncated or one.attempt.failed)
    ]  # fmt: skip
    pairs = [(-1.0 if one is None else -one.reward, one) for one in [*whole, *([None] if reference else [])]]
    pairs.sort(key=lambda pair: pair[0])
    seen, distinct, right = set[str | None](), [0], [0]
    for _, one in pairs:
        text = one and one.attempt.text
        new = text not in seen
        seen.add(text)
        distinct.append(distinct[-1] + new)
        right.append(right[-1] + (new and (one is None or one.attempt.right)))
    return Ranked([one for _, one in pairs], [reward for reward, _ in pairs], distinct, right)


def select(groups: Groups, threshold: float, size: float, *, reference: bool = False) -> dict[str, list[ScoredAttempt]]:
    """Select answers whose reward is above the threshold, best first, evenly over problems.

    Of each problem, the same number of best answers is taken, and of those equal to each other, one is kept. That
    number is the smallest with which `size` answers a problem are kept on average, as in the authors' code: so easy
    problems do not crowd out hard ones.

    Args:
        size: answers wanted per problem, on average.
        reference: count a reference solution among them, which is not returned.
    """
    ranked = rank(groups, reference=reference)
    return {problem: ranked[problem].best(count) for problem, count in _counts(ranked, threshold, size).items()}


def _counts(ranked: Mapping[str, Ranked], threshold: float, size: float) -> dict[str, int]:
    """How many of each problem's best answers are taken."""
    above = {problem: one.above(threshold) for problem, one in ranked.items()}
    low, high, wanted = 1, max(above.values(), default=0), size * len(ranked)

    def kept(most: int) -> int:
        return sum(one.distinct[min(most, above[problem])] for problem, one in ranked.items())

    while low < high:  # the number kept rises with the number taken
        middle = (low + high) // 2
        low, high = (low, middle) if kept(middle) >= wanted else (middle + 1, high)
    return {problem: min(high, count) for problem, count in above.items()}


def balance_scores(
    groups: Groups, threshold: float, target: int, size: float | None = None, *, reference: bool = False
) -> dict[str, float]:
    """Compute bs_i = min(n'_i / n*, 1) n'_i / n_i for each problem, 0..1; 0 where nothing is selected.

    n_i answers are selected for problem i, n'_i of them are right; n* are wanted. Source: 2412.17256, section 3.

    Args:
        target: n*.
        size: answers to select per problem, on average; None: n*.
        reference: count a reference solution among them.
    """
    return ranked_scores(rank(groups, reference=reference), threshold, target, size)


def ranked_scores(
    ranked: Mapping[str, Ranked], threshold: float, target: int, size: float | None = None
) -> dict[str, float]:
    """`balance_scores` of answers that `rank` has sorted."""
    counts = _counts(ranked, threshold, target if size is None else size)
    return {problem: _score(one, counts[problem], target) for problem, one in ranked.items()}


def _score(ranked: Ranked, count: int, target: int) -> float:
    """The balance score of one problem of which the first `count` answers are taken."""
    right, selected = ranked.right[count], ranked.distinct[count]
    return min(right / target, 1.0) * right / selected if selected else 0.0


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Exploration and exploitation of one policy under one setting; means over problems (2412.17256, section 2).

    Attributes:
        pass_at_k: share of problems with a right answer among the k samples (pass@k).
        pass_at_k_s: share with at least n* distinct right answers among them (Pass@K-S).
        distinct_right: distinct right answers per problem.
        diversity: distinct answers, as a share of the samples.
        precision: share of the selected answers that are right, over all problems; 0 where nothing is selected.
        selected: answers selected per problem.
        best_of_k: share of problems whose highest-reward answer is right (best-of-k).
        reward_gap: `pass_at_k` - `best_of_k`: the gain a perfect reward would bring.
        balance_score: mean balance score.
    """

    pass_at_k: float
    pass_at_k_s: float
    distinct_right: float
    diversity: float
    precision: float
    selected: float
    best_of_k: float
    reward_gap: float
    balance_score: float


def dynamics(
    groups: Groups, threshold: float, target: int, size: float | None = None, *, reference: bool = False
) -> Dynamics:
    """Measure exploration and exploitation.

    Args:
        groups: attempts by problem, one problem at least.
        target: n*.
        size: answers to select per problem, on average; None: n*.
        reference: count a reference solution in selection and balance score.
    """
    wanted = target if size is None else size
    right = [len({one.attempt.text for one in group if one.attempt.right}) for group in groups.values()]
    chosen = [one for found in select(groups, threshold, wanted, reference=reference).values() for one in found]
    best_of = fmean(max(group, key=lambda one: one.reward).attempt.right for group in groups.values())
    pass_at = fmean(count > 0 for count in right)
    return Dynamics(
        pass_at_k=pass_at,
        pass_at_k_s=fmean(count >= target for count in right),
        distinct_right=fmean(right),
        diversity=fmean(len({one.attempt.text for one in group}) / len(group) for group in groups.values()),
        precision=fmean(one.attempt.right for one in chosen) if chosen else 0.0,
        selected=len(chosen) / len(groups),
        best_of_k=best_of,
        reward_gap=pass_at - best_of,
        balance_score=fmean(balance_scores(groups, threshold, target, size, reference=reference).values()),
    )
