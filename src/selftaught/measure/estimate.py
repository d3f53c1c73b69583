"""Estimates that give intervals and p-values at any level, whatever their distribution."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from statistics import NormalDist
from typing import TYPE_CHECKING, Literal, Protocol, Self

from selftaught.measure.stats import Interval, wilson

if TYPE_CHECKING:
    import numpy as np

Alternative = Literal["two-sided", "greater", "less"]


class Estimate(Protocol):
    """An estimated effect or statistic with its uncertainty; `-estimate` is that of the negated quantity."""

    @property
    def value(self) -> float:
        """The point estimate."""
        ...

    def interval(self, level: float = 0.95) -> Interval:
        """Two-sided confidence interval."""
        ...

    def p_value(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """p-value of the hypothesis that the quantity is `null`; "greater" and "less" name the alternative."""
        ...

    def __neg__(self) -> Self:
        """The estimate of the negated quantity."""
        ...


@dataclass(frozen=True)
class TEstimate:
    """A mean whose studentized error follows Student's t.

    Attributes:
        value: the mean.
        standard_error: its estimated standard error, > 0.
        df: degrees of freedom, may be fractional; infinite for a normal distribution.
    """

    value: float
    standard_error: float
    df: float = math.inf

    def interval(self, level: float = 0.95) -> Interval:
        """Return value ± t * standard error."""
        half = t_quantile(0.5 + level / 2, self.df) * self.standard_error
        return Interval(self.value - half, self.value + half)

    def p_value(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """p-value of the t-test."""
        below = t_cdf((null - self.value) / self.standard_error, self.df)
        above = t_cdf((self.value - null) / self.standard_error, self.df)
        return _sided(below, above, alternative)

    def __neg__(self) -> Self:
        return replace(self, value=-self.value)


@dataclass(frozen=True, eq=False)
class BootstrapEstimate:
    """A statistic with the bootstrap distribution of it: percentile intervals, or BCa ones.

    BCa: the bias-corrected and accelerated interval (Efron 1987, Better Bootstrap Confidence Intervals; Efron &
    Tibshirani 1993, section 14.3: unconfirmed); with `bias` and `acceleration` 0 it is the percentile interval. A
    p-value is the level at which the interval ends at the null, never below 1 / (draws + 1).

    Attributes:
        value: the statistic of the data.
        draws: the statistic of each resample, sorted, finite.
        bias: z0, the normal quantile of the share of draws below the value.
        acceleration: a, a sixth of the skewness of the statistic's influence values.
    """

    value: float
    draws: np.ndarray
    bias: float = 0.0
    acceleration: float = 0.0

    def interval(self, level: float = 0.95) -> Interval:
        """Return the BCa or percentile interval; NaN at both ends without draws."""
        import numpy as np

        if not len(self.draws):
            return Interval(math.nan, math.nan)
        z = NormalDist().inv_cdf(0.5 + level / 2)
        low, high = np.quantile(self.draws, [self._share(-z), self._share(z)])
        return Interval(float(low), float(high))

    def _share(self, z: float) -> float:
        """The share of draws below the end of the interval that belongs to normal quantile `z`."""
        shifted = self.bias + z
        return NormalDist().cdf(self.bias + shifted / (1 - self.acceleration * shifted))

    def p_value(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """p-value by inverting the interval."""
        import numpy as np

        size = len(self.draws)
        if not size:
            return 1.0
        ties = np.searchsorted(self.draws, null, "left") + np.searchsorted(self.draws, null, "right")
        share = min(max(float(ties) / (2 * size), 1 / (size + 1)), size / (size + 1))
        shifted = NormalDist().inv_cdf(share) - self.bias
        z = shifted / (1 + self.acceleration * shifted) - self.bias
        return _sided(NormalDist().cdf(z), NormalDist().cdf(-z), alternative)

    def __neg__(self) -> Self:
        return replace(
            self, value=-self.value, draws=-self.draws[::-1], bias=-self.bias, acceleration=-self.acceleration
        )


@dataclass(frozen=True)
class SpreadlessEstimate:
    """A mean of `n` values that are all equal, of which a bootstrap or t interval would have zero width.

    None of n problems differs from `value`; by Wilson's interval up to a share w of all problems may, and those may
    lie anywhere within the bounds.

    Attributes:
        value: the common value.
        n: number of problems.
        bounds: least and greatest possible value of one problem.
    """

    value: float
    n: int
    bounds: tuple[float, float] = (-1.0, 1.0)

    def interval(self, level: float = 0.95) -> Interval:
        """Return value - w * (value - least), value + w * (greatest - value)."""
        share, (low, high) = wilson(0, self.n, level).high, self.bounds
        return Interval(self.value - share * (self.value - low), self.value + share * (high - self.value))

    def p_value(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """p-value by inverting the interval."""
        if null == self.value:
            return _sided(0.5, 0.5, alternative)
        room = self.value - self.bounds[0] if null < self.value else self.bounds[1] - self.value
        share = abs(self.value - null) / room if room else math.inf
        z = math.sqrt(self.n * share / (1 - share)) if share < 1 else math.inf
        tail = 0.5 * math.erfc(z / math.sqrt(2))
        below, above = (tail, 1 - tail) if null < self.value else (1 - tail, tail)
        return _sided(below, above, alternative)

    def __neg__(self) -> Self:
        return replace(self, value=-self.value, bounds=(-self.bounds[1], -self.bounds[0]))


@dataclass(frozen=True)
class ShareEstimate:
    """A share of independent trials, with the exact interval of Clopper & Pearson 1934 and the exact binomial test.

    Attributes:
        successes: number of trials that succeeded.
        trials: number of trials, at least 1.
        sign: -1 for the negated share.
    """

    successes: int
    trials: int
    sign: int = 1

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.trials or self.trials < 1:
            raise ValueError(f"successes must be in 0..trials, trials ≥ 1, got {self.successes} of {self.trials}")

    @property
    def value(self) -> float:
        """The share."""
        return self.sign * self.successes / self.trials

    def interval(self, level: float = 0.95) -> Interval:
        """Return the exact interval."""
        from scipy.special import betaincinv

        k, n, tail = self.successes, self.trials, (1 - level) / 2
        low = float(betaincinv(k, n - k + 1, tail)) if k else 0.0
        high = float(betaincinv(k + 1, n - k, 1 - tail)) if k < n else 1.0
        return Interval(low, high) if self.sign > 0 else Interval(-high, -low)

    def p_value(self, null: float = 0.0, alternative: Alternative = "two-sided") -> float:
        """p-value of the binomial test; two-sided: twice the smaller tail."""
        from scipy.special import bdtr, bdtrc

        k, share = self.successes, min(max(self.sign * null, 0.0), 1.0)
        at_least = float(bdtrc(k - 1, self.trials, share)) if k else 1.0
        at_most = float(bdtr(k, self.trials, share))
        below, above = (at_least, at_most) if self.sign > 0 else (at_most, at_least)
        return _sided(below, above, alternative)

    def __neg__(self) -> Self:
        return replace(self, sign=-self.sign)


def t_quantile(p: float, df: float) -> float:
    """Quantile of Student's t with `df` degrees of freedom, fractional or infinite."""
    if math.isinf(df):
        return NormalDist().inv_cdf(p)
    from scipy.special import stdtrit

    return float(stdtrit(df, p))


def t_cdf(t: float, df: float) -> float:
    """Distribution function of Student's t with `df` degrees of freedom, fractional or infinite."""
    if math.isinf(df):
        return 0.5 * math.erfc(-t / math.sqrt(2))  # exact in the lower tail, where 1 - cdf(-t) would be 0
    from scipy.special import stdtr

    return float(stdtr(df, t))


def _sided(below: float, above: float, alternative: Alternative) -> float:
    """The p-value, given the chances under the null of a value as high as the observed one and as low as it.

    Args:
        below: evidence for "greater": the p-value of the hypothesis that the quantity is at most the null.
        above: evidence for "less".
        alternative: which is asked for; two-sided is twice the smaller.
    """
    if alternative == "greater":
        return below
    return above if alternative == "less" else min(1.0, 2 * min(below, above))
