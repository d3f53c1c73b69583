"""Balance: how hot to sample, how much, and how strictly to select, so that what is learnt is both varied and right.

The balance score is that of B-STaR (Zeng et al., 2412.17256, section 3): of the answers selected for a problem it wants
enough right ones (exploration) and few wrong ones (exploitation). A right answer is one that the policy wrote and the
verifier called RIGHT: the authors' code adds the reference solution to every problem's samples, where it counts as a
right selection; here it does not.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean, stdev

from selftaught.errors import BadInput
from selftaught.records import Attempt, Problem


@dataclass(frozen=True, slots=True)
class ScoredAttempt:
    """An attempt and its reward: outcome and process together, on whatever scale the thresholds are on."""

    attempt: Attempt
    reward: float


Groups = Mapping[str, Sequence[ScoredAttempt]]
"""Problem id -> its attempts with their rewards, in the order they were sampled."""

SampleFn = Callable[[Sequence[Problem], float, int], Iterable[ScoredAttempt]]
"""`(problems, temperature, n)`: n attempts at each problem, rewarded, those of one problem together."""


@dataclass(frozen=True, slots=True)
class SamplingConfig:
    """What is chosen.

    Attributes:
        temperature: of sampling.
        samples: attempts per problem.
        threshold: an attempt is selected if its reward is above it.
    """

    temperature: float
    samples: int
    threshold: float


def group_by_problem(rewarded: Iterable[ScoredAttempt]) -> dict[str, list[ScoredAttempt]]:
    """By problem id, in order of first appearance."""
    groups: dict[str, list[ScoredAttempt]] = {}
    for one in rewarded:
        groups.setdefault(one.attempt.problem.id, []).append(one)
    return groups


def first_samples(groups: Groups, samples: int) -> dict[str, Sequence[ScoredAttempt]]:
    """The first `samples` attempts at each problem."""
    return {problem: group[:samples] for problem, group in groups.items()}


def select(groups: Groups, threshold: float, target: int) -> dict[str, list[ScoredAttempt]]:
    """Distinct answers whose reward is above the threshold, the best rewarded first, and as many for each problem.

    No problem keeps more than a cap: the smallest with which there are `target` answers a problem on average, as in
    the authors' code. So easy problems do not crowd out hard ones.

    Args:
        target: n*, answers wanted per problem.
    """
    return _above(_ranked(groups), threshold, target)


def _ranked(groups: Groups) -> dict[str, list[ScoredAttempt]]:
    """The distinct answers to each problem that were not cut off, the best rewarded first."""
    ranked: dict[str, list[ScoredAttempt]] = {}
    for problem, group in groups.items():
        distinct: dict[str, ScoredAttempt] = {}
        whole = (one for one in group if not (one.attempt.truncated or one.attempt.failed))
        for one in sorted(whole, key=lambda one: -one.reward):
            distinct.setdefault(one.attempt.text, one)
        ranked[problem] = list(distinct.values())
    return ranked


def _above(ranked: Mapping[str, list[ScoredAttempt]], threshold: float, target: int) -> dict[str, list[ScoredAttempt]]:
    counts = {name: sum(one.reward > threshold for one in answers) for name, answers in ranked.items()}
    cap = _cap(list(counts.values()), target * len(ranked))
    return {name: answers[: min(cap, counts[name])] for name, answers in ranked.items()}


def _cap(counts: Sequence[int], wanted: int) -> int:
    most = max(counts, default=0)
    return next((cap for cap in range(1, most + 1) if sum(min(n, cap) for n in counts) >= wanted), most)


def balance_scores(groups: Groups, threshold: float, target: int) -> dict[str, float]:
    """bs_i = min(n'_i / n*, 1) n'_i / n_i of each problem, 0..1; 0 where nothing is selected.

    n_i answers are selected for problem i, n'_i of them are right; n* are wanted. Source: 2412.17256, section 3.

    Args:
        target: n*.
    """
    return {problem: _score(answers, target) for problem, answers in select(groups, threshold, target).items()}


def _score(answers: Sequence[ScoredAttempt], target: int) -> float:
    right = sum(one.attempt.right for one in answers)
    return min(right / target, 1.0) * right / len(answers) if answers else 0.0


@dataclass(frozen=True, slots=True)
class Dynamics:
    """Exploration and exploitation of one policy under one setting, means over problems (2412.17256, section 2).

    Attributes:
        pass_at: share of problems with a right answer among the k samples (pass@k).
        pass_several: share with at least n* distinct right answers among them (Pass@K-S).
        distinct_right: distinct right answers a problem.
        diversity: distinct answers, as a share of the samples.
        purity: share of right ones among the selected, over all problems; 0 where nothing is selected.
        best_of: share of problems whose best rewarded answer is right (best-of-k).
        gap: `pass_at` - `best_of`: what a perfect reward would gain.
        score: mean balance score.
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


@dataclass(frozen=True, slots=True)
class SamplingChoice:
    """What was chosen, and what it rests on.

    Attributes:
        setting: the choice.
        score: its mean balance score on the probe.
        groups: the attempts at the probe that were drawn at its temperature, all samples of them: no need to draw
            them again.
        tried: temperature -> problems it was tried on, and the best mean score it reached there.
    """

    config: SamplingConfig
    score: float
    groups: Groups
    tried: Mapping[float, tuple[int, float]]


@dataclass(frozen=True, slots=True)
class BalanceTuner:
    """Chooses the setting of the highest mean balance score on a probe of problems.

    Thresholds and numbers of samples cost nothing to compare: the same samples are scored again. Temperatures are
    compared by successive halving (Jamieson & Talwalkar, 1502.07943): all on a few problems, the better half on twice
    as many, until two are compared on the whole probe. Near an earlier choice only its neighbours take part. So 8
    temperatures cost 4 probes where a grid costs 8, and 3 neighbours cost 2.5.

    Of the numbers of samples, the smallest is taken whose score is within one standard error of the best (the rule of
    Breiman et al., 1984, on the paired differences); of equal thresholds the strictest.

    Attributes:
        temperatures: in rising order.
        samples: attempts per problem to choose from.
        thresholds: rewards to choose from.
        target: n*, right answers wanted per problem.

    Raises:
        BadInput: nothing to choose from, or `target` below 1.
    """

    temperatures: tuple[float, ...]
    samples: tuple[int, ...]
    thresholds: tuple[float, ...]
    target: int = 8

    def __post_init__(self) -> None:
        for name in ("temperatures", "samples", "thresholds"):
            if not getattr(self, name):
                raise BadInput("nothing to choose from", where=f"balance.{name}", fix="give one value at least")
        if self.target < 1 or min(self.samples) < 1:
            raise BadInput(f"target {self.target}, samples {min(self.samples)}", where="balance", fix="use at least 1")

    def choose(
        self, problems: Sequence[Problem], sample: SampleFn, near: SamplingConfig | None = None
    ) -> SamplingChoice:
        """The best setting for these problems.

        Args:
            problems: the probe, in an order that tells nothing about them, as parts of it are used alone.
            sample: draws attempts; what that costs is on the ledger of whoever draws them.
            near: the setting chosen before; None looks everywhere.

        Raises:
            BadInput: no problems.
        """
        if not problems:
            raise BadInput("no problems to probe", where="balance", fix="give it some of the training problems")
        arms = self._candidates(near)
        drawn: dict[float, dict[str, list[ScoredAttempt]]] = {arm: {} for arm in arms}
        tried: dict[float, tuple[int, float]] = {}
        begun = 0
        for size in _rungs(len(arms), len(problems)):
            for arm in arms:
                drawn[arm] |= group_by_problem(sample(problems[begun:size], arm, max(self.samples)))
                tried[arm] = size, self._best(drawn[arm], arm)[0]
            begun = size
            arms = sorted(arms, key=lambda arm: -tried[arm][1])[: math.ceil(len(arms) / 2)]
        groups = drawn[arms[0]]
        score, setting = self._best(groups, arms[0])
        return SamplingChoice(setting, score, groups, tried)

    def _candidates(self, near: SamplingConfig | None) -> list[float]:
        """The temperatures that take part."""
        if near is None:
            return list(self.temperatures)
        order = sorted(range(len(self.temperatures)), key=lambda i: abs(self.temperatures[i] - near.temperature))
        return list(self.temperatures[max(0, order[0] - 1) : order[0] + 2])

    def _best(self, groups: Groups, temperature: float) -> tuple[float, SamplingConfig]:
        """The best setting at a temperature, with its mean score."""
        best: dict[int, tuple[float, float, list[float]]] = {}
        for samples in self.samples:
            ranked = _ranked(first_samples(groups, samples))  # once for all thresholds
            chosen = ((x, _above(ranked, x, self.target).values()) for x in self.thresholds)
            scores = ((x, [_score(answers, self.target) for answers in found]) for x, found in chosen)
            best[samples] = max((fmean(values), x, values) for x, values in scores)
        top, _, scores = max(best.values(), key=lambda row: row[0])
        near = [n for n, (mean, _, mine) in best.items() if top - mean <= _error(scores, mine)]
        samples = min(near)
        return best[samples][0], SamplingConfig(temperature, samples, best[samples][1])


def _error(one: Sequence[float], other: Sequence[float]) -> float:
    """Standard error of the mean paired difference."""
    differences = [a - b for a, b in zip(one, other, strict=True)]
    return stdev(differences) / math.sqrt(len(differences)) if len(differences) > 1 else 0.0


def _rungs(arms: int, problems: int) -> list[int]:
    """On how many of the problems each stage of the halving compares what is left: each twice as many as before."""
    stages = max(1, math.ceil(math.log2(arms)))
    return [math.ceil(problems / 2 ** (stages - 1 - stage)) for stage in range(stages)]


def halving_grid(most: int, least: int) -> tuple[int, ...]:
    """`most`, and its halves down to `least`, in rising order."""
    found = [most]
    while found[-1] // 2 >= max(1, least):
        found.append(found[-1] // 2)
    return tuple(reversed(found))


def linspace(low: float, high: float, count: int) -> tuple[float, ...]:
    """`count` numbers from `low` to `high`, equally far apart; `low` alone for one."""
    step = (high - low) / max(1, count - 1)
    return tuple(round(low + i * step, 6) for i in range(count))
