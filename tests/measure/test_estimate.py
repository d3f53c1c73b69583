import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from selftaught.measure import BootstrapEstimate, ShareEstimate, SpreadlessEstimate, TEstimate, paired_bootstrap

DRAWS = np.sort(np.random.default_rng(0).gamma(4.0, 0.1, 20_000))
EVERY = [
    TEstimate(0.03, 0.01, 7.3),
    TEstimate(0.03, 0.01),
    BootstrapEstimate(0.38, DRAWS),
    BootstrapEstimate(0.38, DRAWS, bias=0.05, acceleration=0.04),
    SpreadlessEstimate(0.25, 40),
    ShareEstimate(7, 9),
]


def test_t_is_scipys():
    values = np.random.default_rng(1).normal(0.1, 0.3, 12)
    estimate = TEstimate(values.mean(), values.std(ddof=1) / math.sqrt(12), 11)
    golden = scipy_stats.ttest_1samp(values, 0.05)
    assert estimate.p_value(0.05) == pytest.approx(golden.pvalue, rel=1e-9)
    assert estimate.interval(0.9) == pytest.approx(golden.confidence_interval(0.9), rel=1e-9)
    greater = scipy_stats.ttest_1samp(values, 0.05, alternative="greater")
    assert estimate.p_value(0.05, "greater") == pytest.approx(greater.pvalue, rel=1e-9)


def test_without_degrees_of_freedom_it_is_normal():
    estimate = TEstimate(2.0, 1.0)
    assert estimate.interval() == pytest.approx((0.0400, 3.9600), abs=1e-4)
    assert estimate.p_value(0.0) == pytest.approx(0.0455, abs=1e-4)
    assert 0 < TEstimate(30.0, 1.0).p_value(0.0, "greater") < 1e-190


@pytest.mark.parametrize(("successes", "trials"), [(0, 6), (6, 6), (4, 6), (11, 12), (3, 20)])
@pytest.mark.parametrize("null", [0.5, 0.2])
def test_share_is_the_exact_binomial(successes, trials, null):
    estimate = ShareEstimate(successes, trials)
    golden = scipy_stats.binomtest(successes, trials).proportion_ci(0.95, method="exact")
    assert estimate.interval() == pytest.approx((golden.low, golden.high), abs=1e-9)
    for alternative in ("greater", "less"):
        p = scipy_stats.binomtest(successes, trials, null, alternative).pvalue
        assert estimate.p_value(null, alternative) == pytest.approx(p, rel=1e-9)


def test_a_share_needs_trials():
    with pytest.raises(ValueError, match="trials"):
        ShareEstimate(0, 0)


def test_without_spread_the_interval_is_that_of_the_paired_bootstrap():
    a, b = [0.0] * 30, [1.0] * 30
    assert SpreadlessEstimate(1.0, 30).interval() == pytest.approx(paired_bootstrap(a, b))
    assert SpreadlessEstimate(0.0, 2000).interval().high < 0.002
    assert SpreadlessEstimate(1.0, 30).p_value(0.0, "greater") < 1e-6
    assert SpreadlessEstimate(0.0, 30).p_value(0.0) == 1.0


@pytest.mark.parametrize("estimate", EVERY, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("level", [0.9, 0.99])
def test_a_p_value_is_the_level_at_which_the_interval_ends_at_the_null(estimate, level):
    low, high = estimate.interval(level)
    tail = (1 - level) / 2
    assert estimate.p_value(low, "greater") == pytest.approx(tail, rel=0.01)
    assert estimate.p_value(high, "less") == pytest.approx(tail, rel=0.02)
    assert estimate.p_value(low, "two-sided") == pytest.approx(2 * tail, rel=0.01)


@pytest.mark.parametrize("estimate", EVERY, ids=lambda e: type(e).__name__)
def test_negation_mirrors(estimate):
    low, high = estimate.interval()
    mirrored = -estimate
    assert mirrored.value == -estimate.value
    assert mirrored.interval() == pytest.approx((-high, -low))
    assert mirrored.p_value(-0.3, "greater") == pytest.approx(estimate.p_value(0.3, "less"))
    assert mirrored.p_value(-0.3, "two-sided") == pytest.approx(estimate.p_value(0.3, "two-sided"))


def test_a_statistic_without_draws_says_nothing():
    nothing = BootstrapEstimate(math.nan, np.array([]))
    assert all(math.isnan(end) for end in nothing.interval())
    assert nothing.p_value(0.5, "greater") == 1.0


def test_draws_never_give_certainty():
    assert BootstrapEstimate(0.38, DRAWS).p_value(-5.0, "greater") == pytest.approx(1 / 20_001)
