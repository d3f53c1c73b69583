"""One system measured on one split, and two systems measured on the same problems."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from selftaught.errors import BadInput
from selftaught.feedback.equality import equality_key
from selftaught.measure.stats import (
    Interval,
    clustered_bootstrap,
    majority_at_k,
    mcnemar_exact,
    paired_bootstrap,
    pass_at_k,
    sign_flip,
    wilson,
)
from selftaught.records import Attempt, Verdict, as_json


@dataclass(frozen=True)
class Measurement:
    """How well a policy, under a solver, does on a split.

    Attributes:
        policy: version of the policy.
        split: "train", "dev" or "test".
        solver: name of the solver.
        samples: attempts per problem.
        n: problems.
        accuracy: mean over problems of the share of right attempts, 0..1. UNKNOWN is not right.
        ci95: its 95 % interval: Wilson's if every score is 0 or 1 (one attempt per problem), otherwise a
            bootstrap over problems.
        pass_at: k -> mean unbiased pass@k, for k = 1, 2, 4, ... and `samples`; empty for one attempt.
        majority_at: k -> mean accuracy of the vote among k attempts, for the same k.
        unknown_rate: share of attempts with verdict UNKNOWN, 0..1.
        mean_tokens: sampled tokens per attempt.
        tokens: all tokens spent on the measurement, including critiques and the like.
        scores: problem id -> share of right attempts, 0..1.
    """

    policy: str
    split: str
    solver: str
    samples: int
    n: int
    accuracy: float
    ci95: Interval
    pass_at: Mapping[int, float] = field(default_factory=dict)
    majority_at: Mapping[int, float] = field(default_factory=dict)
    unknown_rate: float = 0.0
    mean_tokens: float = 0.0
    tokens: int = 0
    scores: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data; the k of `pass_at` and `majority_at` become strings."""
        return as_json(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Measurement:
        """Restore a measurement from `to_json`.

        Raises:
            BadInput: fields are missing, unknown or malformed.
        """
        names = {f.name for f in fields(cls)}
        if wrong := names ^ set(data):
            raise BadInput(f"not a measurement: missing or unknown fields {', '.join(sorted(wrong))}")
        try:
            low, high = data["ci95"]
            curves = {name: {int(k): float(v) for k, v in data[name].items()} for name in ("pass_at", "majority_at")}
        except (TypeError, ValueError, AttributeError) as error:
            raise BadInput(f"not a measurement: {error}") from error
        return cls(**{**data, **curves, "ci95": Interval(low, high), "scores": dict(data["scores"])})


@dataclass(frozen=True)
class Comparison:
    """Two systems on the same problems.

    Attributes:
        old: the policy compared against (with its solver, if the two solvers differ).
        new: the policy compared.
        n: problems.
        difference: mean over problems of new - old, -1..1.
        ci95: its 95 % interval, a paired bootstrap over problems.
        wins: problems on which new scored higher.
        losses: problems on which old scored higher.
        p_value: two-sided: McNemar's exact test if every score is 0 or 1, otherwise a sign-flip test.
        p_one_sided: the same test against "new is not better".
    """

    old: str
    new: str
    n: int
    difference: float
    ci95: Interval
    wins: int
    losses: int
    p_value: float
    p_one_sided: float


def measure_attempts(
    policy: str, split: str, solver: str, attempts: Mapping[str, Sequence[Attempt]], tokens: int
) -> Measurement:
    """Measure judged attempts.

    Args:
        policy: version of the policy that sampled them.
        split: split of the problems.
        solver: name of the solver.
        attempts: problem id -> its final attempts, the same number for each problem.
        tokens: total tokens spent.

    Raises:
        ValueError: no problems, or problems with different numbers of attempts.
    """
    samples = _samples(attempts)
    right = {problem: [a.right for a in tried] for problem, tried in attempts.items()}
    scores = {problem: sum(verdicts) / samples for problem, verdicts in right.items()}
    flat = [a for tried in attempts.values() for a in tried]
    counts = [sum(verdicts) for verdicts in right.values()]
    ks = _ks(samples) if samples > 1 else ()
    voted = ks if any(a.answer is not None for a in flat) else ()  # texts without answers have no vote
    votes = [(_ballots(tried), right[problem]) for problem, tried in attempts.items()]
    return Measurement(
        policy=policy,
        split=split,
        solver=solver,
        samples=samples,
        n=len(attempts),
        accuracy=_mean(scores.values()),
        ci95=_interval(scores),
        pass_at={k: _mean(pass_at_k(samples, c, k) for c in counts) for k in ks},
        majority_at={k: _mean(majority_at_k(answers, rights, k) for answers, rights in votes) for k in voted},
        unknown_rate=_mean(a.verdict is Verdict.UNKNOWN for a in flat),
        mean_tokens=_mean(a.num_tokens for a in flat),
        tokens=tokens,
        scores=scores,
    )


def _ballots(tried: Sequence[Attempt]) -> list[str | None]:
    """The vote of each attempt; equal answers share a vote, however they are written."""
    return [None if a.answer is None else equality_key(a.answer) for a in tried]


def pass_curve(attempts: Mapping[str, Sequence[Attempt]]) -> dict[str, float]:
    """Mean pass@k for k = 1, 2, 4, ... up to the attempts per problem, keyed by k as JSON would.

    Raises:
        ValueError: no problems, or problems with different numbers of attempts.
    """
    samples = _samples(attempts)
    counts = [sum(a.right for a in tried) for tried in attempts.values()]
    return {str(k): _mean(pass_at_k(samples, c, k) for c in counts) for k in _ks(samples)}


def measure_majority(
    policy: str, split: str, attempts: Mapping[str, Sequence[Attempt]], tokens: int, k: int | None = None
) -> Measurement:
    """Measure the majority vote among `k` attempts per problem (all, when None) as a system of its own.

    The result counts as one answer per problem, whose score is the vote's expected accuracy (a fraction
    if answers tie or the k draws do not decide), so that it can be compared with any other
    system by `compare`. `unknown_rate` and `mean_tokens` are those of the attempts voting.

    Args:
        policy: version of the policy that sampled the attempts.
        split: split of the problems.
        attempts: problem id -> its attempts, the same number for each problem.
        tokens: tokens spent on the k attempts per problem.
        k: votes per problem, at most the number of attempts.

    Raises:
        ValueError: no problems, different numbers of attempts, or `k` out of range.
    """
    k = _samples(attempts) if k is None else k
    scores = {
        problem: majority_at_k(_ballots(tried), [a.right for a in tried], k) for problem, tried in attempts.items()
    }
    flat = [a for tried in attempts.values() for a in tried]
    return Measurement(
        policy=policy,
        split=split,
        solver=f"majority@{k}",
        samples=1,
        n=len(attempts),
        accuracy=_mean(scores.values()),
        ci95=_interval(scores),
        unknown_rate=_mean(a.verdict is Verdict.UNKNOWN for a in flat),
        mean_tokens=_mean(a.num_tokens for a in flat),
        tokens=tokens,
        scores=scores,
    )


def compare(old: Measurement, new: Measurement, seed: int = 0) -> Comparison:
    """Compare two measurements problem by problem.

    Raises:
        ValueError: their problems differ, or there are none.
    """
    if differ := set(old.scores) ^ set(new.scores):
        raise ValueError(
            f"only measurements on the same problems can be compared: {len(differ)} problems are in one of them only"
        )
    if not old.scores:
        raise ValueError("measurements without scores cannot be compared")
    ids = sorted(old.scores)  # the order of the problems must not affect the bootstrap
    a, b = [old.scores[i] for i in ids], [new.scores[i] for i in ids]
    differences = [y - x for x, y in zip(a, b, strict=True)]
    wins, losses = sum(d > 0 for d in differences), sum(d < 0 for d in differences)
    if all(score in (0.0, 1.0) for score in (*a, *b)):
        both, one = mcnemar_exact(wins, losses), mcnemar_exact(wins, losses, one_sided=True)
    else:
        both, one = sign_flip(differences, seed=seed), sign_flip(differences, one_sided=True, seed=seed)
    same = old.solver == new.solver
    return Comparison(
        old=old.policy if same else f"{old.policy} · {old.solver}",
        new=new.policy if same else f"{new.policy} · {new.solver}",
        n=len(ids),
        difference=_mean(differences),
        ci95=paired_bootstrap(a, b, seed=seed),
        wins=wins,
        losses=losses,
        p_value=both,
        p_one_sided=one,
    )


def describe_comparison(comparison: Comparison) -> str:
    """One line: `+0.121 [+0.07, +0.17] on 300 problems (52 won, 16 lost, p=0.0001)`."""
    c = comparison
    p = f"p={c.p_value:.2g}" if c.p_value >= 0.0001 else "p<0.0001"
    low, high = c.ci95
    return f"{c.difference:+.3f} [{low:+.2f}, {high:+.2f}] on {c.n} problems ({c.wins} won, {c.losses} lost, {p})"


def _samples(attempts: Mapping[str, Sequence[Attempt]]) -> int:
    """The number of attempts per problem, the same for all."""
    sizes = {len(tried) for tried in attempts.values()}
    if not sizes or sizes == {0}:
        raise ValueError("there are no attempts to measure")
    if len(sizes) > 1:
        raise ValueError(f"every problem needs the same number of attempts, got {min(sizes)} to {max(sizes)}")
    return sizes.pop()


def _ks(samples: int) -> tuple[int, ...]:
    """1, 2, 4, ... and `samples` itself."""
    return (*(1 << i for i in range((samples - 1).bit_length())), samples)


def _interval(scores: Mapping[str, float]) -> Interval:
    """Wilson's interval if every score is 0 or 1, otherwise the bootstrap over problems."""
    values = list(scores.values())
    if all(v in (0.0, 1.0) for v in values):
        return wilson(int(sum(values)), len(values))
    return clustered_bootstrap([[v] for v in values])


def _mean(values: Any) -> float:
    """The mean of one or more numbers, rounded once."""
    values = list(values)
    return math.fsum(values) / len(values)
