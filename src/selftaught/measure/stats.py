"""Estimates, intervals and tests: pure functions of numbers, exact if affordable.

Randomness is seeded, so the same data give the same interval on every run.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

if TYPE_CHECKING:
    import numpy as np

MAX_EXACT_FLIPS = 14  # 2**14 sign patterns are enumerated in a millisecond; more are sampled
RESAMPLE_BLOCK = 1 << 20  # numbers held at once while resampling: memory stays flat however large the data


T = TypeVar("T")


class Interval(NamedTuple):
    """A confidence interval, ends included."""

    low: float
    high: float


def wilson(successes: int, n: int, level: float = 0.95) -> Interval:
    """The score interval of a proportion: `successes` out of `n` independent trials.

    It never leaves 0..1 and keeps its coverage near 0 and 1, where the textbook interval collapses
    (Wilson 1927; Brown, Cai & DasGupta 2001, section 3.1.1: unconfirmed). If `n == 0`: (0, 1).

    Raises:
        ValueError: `successes` outside 0..n, or `level` outside 0..1.
    """
    if not 0 <= successes <= n:
        raise ValueError(f"successes must be in 0..n, got {successes} of {n}")
    z = NormalDist().inv_cdf(0.5 + _level(level) / 2)
    if n == 0:
        return Interval(0.0, 1.0)
    p, scale = successes / n, 1 + z * z / n
    center = (p + z * z / (2 * n)) / scale
    half = z / scale * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    # At the ends the formula gives exactly 0 and 1; avoid 1e-17.
    low = 0.0 if successes == 0 else center - half
    high = 1.0 if successes == n else center + half
    return Interval(low, high)


def clustered_bootstrap(
    values: Sequence[Sequence[float]], level: float = 0.95, resamples: int = 2000, seed: int = 0
) -> Interval:
    """Percentile interval of the mean over problems of each problem's mean value.

    Samples of one problem resemble each other, so whole problems are resampled, with replacement
    (percentile interval: Efron & Tibshirani 1993, section 13.3: unconfirmed). Constant data would give an interval of
    zero width, which is overconfident: see `_without_spread`. Without problems: (0, 1).

    Args:
        values: for each problem the values of its samples, each in 0..1.
        level: the nominal coverage.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: a problem without samples, or a value outside 0..1.
    """
    _level(level)
    if any(len(v) == 0 for v in values):
        raise ValueError("every problem needs at least one value")
    means = [math.fsum(v) / len(v) for v in values]
    _in_unit(means)
    if not means:
        return Interval(0.0, 1.0)
    return _bootstrap(means, (0.0, 1.0), level, resamples, seed)


def statistic_bootstrap(
    statistic: Callable[[list[T]], float], groups: Sequence[Sequence[T]], *, level: float = 0.95,
    resamples: int = 500, seed: int = 0,
) -> Interval:  # fmt: skip
    """Percentile interval of any statistic of values that belong to problems, such as an AUROC.

    Whole problems are resampled, as in `clustered_bootstrap`; draws of which the statistic is NaN are left out.

    Args:
        statistic: of the values of all problems drawn.
        groups: for each problem its values.
        level: the nominal coverage.
        resamples: bootstrap draws.
        seed: of the draws.

    Returns:
        The interval; NaN at both ends if no draw has the statistic.
    """
    import numpy as np

    _level(level)
    rng, found = np.random.default_rng(seed), list[float]()
    for _ in range(resamples if groups else 0):
        value = statistic([one for i in rng.integers(len(groups), size=len(groups)) for one in groups[i]])
        found += [] if math.isnan(value) else [value]
    if not found:
        return Interval(math.nan, math.nan)
    low, high = np.quantile(found, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def paired_bootstrap(
    a: Sequence[float], b: Sequence[float], *, level: float = 0.95, resamples: int = 10_000, seed: int = 0
) -> Interval:
    """Percentile interval of mean(b - a), where `a[i]` and `b[i]` were measured on the same problem.

    Problems are resampled with both their values, so shared difficulty cancels
    (percentile interval: Efron & Tibshirani 1993, section 13.3: unconfirmed). Without problems: (-1, 1).

    Args:
        a: the old system's value per problem, each in 0..1 (0/1, or the mean of several samples).
        b: the new system's, in the same order.
        level: the nominal coverage.
        resamples: bootstrap draws.
        seed: of the draws.

    Raises:
        ValueError: different lengths, or a value outside 0..1.
    """
    _level(level)
    if len(a) != len(b):
        raise ValueError(f"paired values must be of the same problems: got {len(a)} and {len(b)}")
    _in_unit(a)
    _in_unit(b)
    if not a:
        return Interval(-1.0, 1.0)
    return _bootstrap([y - x for x, y in zip(a, b, strict=True)], (-1.0, 1.0), level, resamples, seed)


def pass_at_k(n: int, c: int, k: int) -> float:
    """The probability that at least one of `k` samples is right, given that `c` of `n` were.

    Unbiased: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021, arXiv 2107.03374, equation 1), here in integer
    arithmetic with one rounding at the end.

    Raises:
        ValueError: `k` outside 1..n, or `c` outside 0..n.
    """
    _draw(k, n)
    if not 0 <= c <= n:
        raise ValueError(f"right samples must be in 0..n, got {c} of {n}")
    total = math.comb(n, k)
    return (total - math.comb(n - c, k)) / total


def majority_at_k(answers: Sequence[str | None], rights: Sequence[bool], k: int) -> float:
    """Expected accuracy of the most frequent answer among `k` of the samples, drawn without replacement.

    Exact, not simulated. `None` does not vote; tied answers share the vote evenly; a draw without
    votes is not right. If samples with the same answer were judged differently, the answer
    is right in that proportion. (The vote: Wang et al. 2022, arXiv 2203.11171.)

    A sum over all C(n, k) draws, arranged by the winner's count: given that the winners have exactly
    `top` votes, answers draw independently of each other except that the total is k. The constraint is
    imposed by drawing each sample with probability k/n and conditioning on k drawn, which leaves every set
    of k equally likely and keeps the numbers near 1.

    Args:
        answers: the canonical answer of each sample, or None.
        rights: whether each sample was judged right.
        k: votes, in 1..n.

    Raises:
        ValueError: different lengths, or `k` outside 1..n.
    """
    import numpy as np

    n = len(answers)
    if len(rights) != n:
        raise ValueError(f"the numbers of verdicts and answers must be equal, got {len(rights)} and {n}")
    _draw(k, n)
    votes: dict[str, list[bool]] = defaultdict(list)
    for answer, right in zip(answers, rights, strict=True):
        if answer is not None:
            votes[answer].append(bool(right))
    groups = [(len(v), sum(v) / len(v)) for v in votes.values()]
    most = max((m for m, _ in groups), default=0)
    if k == n:
        return _share([right for m, right in groups if m == most])
    chances = {m: np.array(_binomial(m, k / n)) for m, _ in groups}
    silent = _binomial(n - sum(m for m, _ in groups), k / n)
    total = 0.0
    for top in range(1, min(most, k) + 1):
        expected = _tied_at(groups, chances, top, k)
        total += sum(silent[i] * expected[k - i] for i in range(min(k, len(silent) - 1) + 1))
    return round(total / _binomial(n, k / n)[k], 12)  # so that certainty is exactly 1.0


def mcnemar_exact(b: int, c: int, *, one_sided: bool = False) -> float:
    """Exact p-value of McNemar's test: do two systems differ on the problems only one of them solves?

    Under the null hypothesis each such problem falls to either side with probability 1/2, so `b` is
    binomial (McNemar 1947; exact form: Fagerland, Lydersen & Laake 2013, doi 10.1186/1471-2288-13-91).

    Args:
        b: problems only the new system got right.
        c: problems only the old one got right.
        one_sided: test b > c instead of b != c.

    Raises:
        ValueError: a negative count.
    """
    if b < 0 or c < 0:
        raise ValueError(f"counts cannot be negative, got {b} and {c}")
    n = b + c
    at_least = b if one_sided else max(b, c)
    ways, term = 0, 1
    for i in range(n - at_least + 1):  # C(n, i), by symmetry the upper tail
        ways += term
        term = term * (n - i) // (i + 1)
    return ways / 2**n if one_sided else min(1.0, 2 * ways / 2**n)


def sign_flip(
    differences: Sequence[float], *, one_sided: bool = False, resamples: int = 10_000, seed: int = 0
) -> float:
    """p-value of the paired permutation test on the sum of `differences` (new - old, per problem).

    Under the null hypothesis, each difference is as likely as its negative (Fisher 1935, The
    Design of Experiments, section 21: unconfirmed).
    With up to 14 differences that are not zero every sign pattern is enumerated; with more, `resamples`
    patterns are drawn and p = (1 + hits) / (1 + resamples), which never reports 0 (Phipson & Smyth
    2010). On differences of +-1 this is McNemar's test.

    Args:
        differences: one per problem; zeros change nothing.
        one_sided: test new > old instead of new != old.
        resamples: sign patterns drawn if there are too many to enumerate.
        seed: of the draws.
    """
    import numpy as np

    d = np.array([x for x in differences if x != 0], dtype=float)
    seen = d.sum() if one_sided else abs(d.sum())
    slack = 1e-9 * max(1.0, float(np.abs(d).sum()))  # equal sums in another order differ by rounding

    def hits(sums: np.ndarray) -> int:
        return int(((sums if one_sided else np.abs(sums)) >= seen - slack).sum())

    if len(d) <= MAX_EXACT_FLIPS:
        sums = np.zeros(1)
        for x in d:
            sums = np.concatenate([sums + x, sums - x])
        return hits(sums) / len(sums)
    rng, found, left = np.random.default_rng(seed), 0, resamples
    while left > 0:
        block = min(left, max(1, RESAMPLE_BLOCK // len(d)))
        found += hits((2.0 * rng.integers(0, 2, size=(block, len(d)), dtype=np.int8) - 1.0) @ d)
        left -= block
    return (1 + found) / (1 + resamples)


def _bootstrap(
    values: Sequence[float], bounds: tuple[float, float], level: float, resamples: int, seed: int
) -> Interval:
    """Percentile bootstrap interval of the mean of `values`, which lie within `bounds`."""
    import numpy as np

    distinct, means = bootstrap_means(values, resamples, seed)
    if len(distinct) == 1:
        return _without_spread(float(distinct[0]), len(values), bounds, level)
    low, high = np.quantile(means, [(1 - level) / 2, (1 + level) / 2])
    return Interval(float(low), float(high))


def bootstrap_means(values: Sequence[float], resamples: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct values, rounded to 12 digits, and the mean of each resample; none if all are equal."""
    import numpy as np

    # Rounding makes 0.75 - 0.5 and 0.25 one value. Drawing how often each distinct value comes up is the
    # same as drawing the values, and a handful of verdict means has few distinct ones.
    distinct, counts = np.unique(np.round(np.asarray(values, dtype=float), 12), return_counts=True)
    if len(distinct) == 1:
        return distinct, np.empty(0)
    rng, means, left, n = np.random.default_rng(seed), [], resamples, len(values)
    while left > 0:
        block = min(left, max(1, RESAMPLE_BLOCK // len(distinct)))
        means.append(rng.multinomial(n, counts / n, size=block) @ distinct / n)
        left -= block
    return distinct, np.concatenate(means)


def _without_spread(value: float, n: int, bounds: tuple[float, float], level: float) -> Interval:
    """The interval if all `n` problems have the same value, for which a bootstrap has zero width.

    None of n problems differed from `value`; by Wilson's interval up to a share w of all problems may,
    and those may lie anywhere within the bounds. For value 0 in 0..1 this is `wilson(0, n)`.
    """
    w = wilson(0, n, level).high
    low, high = bounds
    return Interval(value - w * (value - low), value + w * (high - value))


def _tied_at(groups: Sequence[tuple[int, float]], chances: dict[int, np.ndarray], top: int, k: int) -> Any:
    """For each number of votes 0..k: the expected rightness of winners with exactly `top` votes.

    `table[0][t][v]` is the chance that the answers so far cast v votes, t of them exactly `top` votes
    each and the rest fewer; `table[1]` weighs it with the sum of the tied answers' rightness.
    """
    import numpy as np

    ties = k // top
    table = np.zeros((2, ties + 1, k + 1))
    table[0, 0, 0] = 1.0
    for m, right in groups:
        chance = chances[m]
        grown = chance[0] * table
        for i in range(1, min(m, top - 1) + 1):
            grown[:, :, i:] += chance[i] * table[:, :, :-i]
        if m >= top:
            tied = chance[top] * table[:, :-1, :-top]
            grown[:, 1:, top:] += tied
            grown[1, 1:, top:] += right * tied[0]
        table = grown
    return (table[1, 1:] / np.arange(1, ties + 1)[:, None]).sum(axis=0)


def _binomial(m: int, p: float) -> list[float]:
    """The chances of 0..m successes in m trials, for 0 < p < 1, by logarithms: m may be thousands."""
    base = math.lgamma(m + 1)
    yes, no = math.log(p), math.log1p(-p)
    return [math.exp(base - math.lgamma(i + 1) - math.lgamma(m - i + 1) + i * yes + (m - i) * no) for i in range(m + 1)]


def _share(rights: Sequence[float]) -> float:
    """The mean; 0 if empty."""
    return math.fsum(rights) / len(rights) if rights else 0.0


def _level(level: float) -> float:
    """`level`, if it is a confidence level."""
    if not 0 < level < 1:
        raise ValueError(f"the level of an interval must lie between 0 and 1, got {level}")
    return level


def _draw(k: int, n: int) -> None:
    """Refuse `k` outside 1..n."""
    if not 1 <= k <= n:
        raise ValueError(f"k must be in 1..{n} (the number of samples), got {k}")


def _in_unit(values: Sequence[float]) -> None:
    """Refuse values outside 0..1, including NaN."""
    for v in values:
        if not 0.0 <= v <= 1.0:
            raise ValueError(f"values must be in 0..1, got {v}")
