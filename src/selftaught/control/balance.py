"""Select answers by reward, and measure how varied and how right the selection is: the balance score of B-STaR.

The score (Zeng et al., 2412.17256, section 3) is high where enough right answers are selected for each problem
(exploration) and few wrong ones (exploitation). Only answers that the policy wrote and the verifier called RIGHT count:
the authors' code adds the reference solution to every problem's samples and counts it as right.
"""

from __future__ import annotations

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


def select(groups: Groups, threshold: float, target: int) -> dict[str, list[ScoredAttempt]]:
    """Select distinct answers whose reward is above the threshold, best first, evenly over problems.

    Each problem keeps at most a cap: the smallest that gives `target` answers a problem on average, as in the authors'
    code. So easy problems do not crowd out hard ones. Truncated and failed attempts are dropped.

    Args:
        target: n*, answers wanted per problem.
    """
    return select_ranked(rank(groups), threshold, target)


def rank(groups: Groups) -> dict[str, list[ScoredAttempt]]:
    """The distinct, complete answers to each problem, highest reward first."""
    ranked: dict[str, list[ScoredAttempt]] = {}
    for problem, group in groups.items():
        distinct: dict[str, ScoredAttempt] = {}
        whole = (one for one in group if not (one.attempt.truncated or one.attempt.failed))
        for one in sorted(whole, key=lambda one: -one.reward):
            distinct.setdefault(one.attempt.text, one)
        ranked[problem] = list(distinct.values())
    return ranked


def select_ranked(
    ranked: Mapping[str, list[ScoredAttempt]], threshold: float, target: int
) -> dict[str, list[ScoredAttempt]]:
    """`select` on answers that `rank` has sorted already, for trying many thresholds."""
    counts = {name: sum(one.reward > threshold for one in answers) for name, answers in ranked.items()}
    cap = _cap(list(counts.values()), target * len(ranked))
    return {name: answers[: min(cap, counts[name])] for name, answers in ranked.items()}


def _cap(counts: Sequence[int], wanted: int) -> int:
    most = max(counts, default=0)
    return next((cap for cap in range(1, most + 1) if sum(min(n, cap) for n in counts) >= wanted), most)


def balance_scores(groups: Groups, threshold: float, target: int) -> dict[str, float]:
    """Compute bs_i = min(n'_i / n*, 1) n'_i / n_i for each problem, 0..1; 0 where nothing is selected.

    n_i answers are selected for problem i, n'_i of them are right; n* are wanted. Source: 2412.17256, section 3.

    Args:
        target: n*.
    """
    return {problem: problem_score(answers, target) for problem, answers in select(groups, threshold, target).items()}


def problem_score(answers: Sequence[ScoredAttempt], target: int) -> float:
    """The balance score of one problem's selected answers, 0..1."""
    right = sum(one.attempt.right for one in answers)
    return min(right / target, 1.0) * right / len(answers) if answers else 0.0


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Exploration and exploitation of one policy under one setting; means over problems (2412.17256, section 2).

    Attributes:
        pass_at_k: share of problems with a right answer among the k samples (pass@k).
        pass_at_k_s: share with at least n* distinct right answers among them (Pass@K-S).
        distinct_right: distinct right answers per problem.
        diversity: distinct answers, as a share of the samples.
        precision: share of the selected answers that are right, over all problems; 0 where nothing is selected.
        best_of_k: share of problems whose highest-reward answer is right (best-of-k).
        reward_gap: `pass_at_k` - `best_of_k`: the gain a perfect reward would bring.
        balance_score: mean balance score.
    """

    pass_at_k: float
    pass_at_k_s: float
    distinct_right: float
    diversity: float
    precision: float
    best_of_k: float
    reward_gap: float
    balance_score: float


def dynamics(groups: Groups, threshold: float, target: int) -> Dynamics:
    """Measure exploration and exploitation.

    Args:
        groups: attempts by problem, one problem at least.
        target: n*.
    """
    right = [len({one.attempt.text for one in group if one.attempt.right}) for group in groups.values()]
    chosen = [one for answers in select(groups, threshold, target).values() for one in answers]
    best_of = fmean(max(group, key=lambda one: one.reward).attempt.right for group in groups.values())
    pass_at = fmean(count > 0 for count in right)
    return Dynamics(
        pass_at_k=pass_at,
        pass_at_k_s=fmean(count >= target for count in right),
        distinct_right=fmean(right),
        diversity=fmean(len({one.attempt.text for one in group}) / len(group) for group in groups.values()),
        precision=fmean(one.attempt.right for one in chosen) if chosen else 0.0,
        best_of_k=best_of,
        reward_gap=pass_at - best_of,
        balance_score=fmean(balance_scores(groups, threshold, target).values()),
    )
