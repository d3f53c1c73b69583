import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from selftaught.measure import auroc, paired_effect, paired_p_value, statistic_estimate
from selftaught.measure.stats import statistic_bootstrap


def scores(values, prefix="p"):
    return {f"{prefix}{i}": float(v) for i, v in enumerate(values)}


def solvers(n=400, seed=0, samples=1):
    """Two solvers of the same problems, of different difficulty; values are means of `samples` 0/1 scores."""
    rng = np.random.default_rng(seed)
    ability = rng.beta(1.3, 1.3, n)
    new = rng.binomial(samples, np.minimum(1, ability + 0.05)) / samples
    return new, rng.binomial(samples, ability) / samples


@pytest.mark.parametrize("samples", [1, 8])
def test_bca_is_scipys(samples):
    new, old = solvers(120, samples=samples)
    new[:6] = 1.0
    golden = scipy_stats.bootstrap(
        (new - old,), np.mean, n_resamples=40_000, method="BCa", rng=np.random.default_rng(3), vectorized=True
    )
    found = paired_effect([scores(new)], [scores(old)], resamples=40_000)
    assert found.value == pytest.approx((new - old).mean())
    assert found.interval() == pytest.approx(golden.confidence_interval, abs=0.003)


def test_bca_leans_where_the_differences_are_skewed():
    d = np.random.default_rng(1).exponential(0.1, 40)
    golden = scipy_stats.bootstrap(
        (d,), np.mean, n_resamples=100_000, method="BCa", rng=np.random.default_rng(3), vectorized=True
    )
    low, high = paired_effect([scores(d)], [scores(0 * d)], resamples=100_000).interval()
    assert (low, high) == pytest.approx(golden.confidence_interval, abs=0.0015)
    assert high - d.mean() > 1.15 * (d.mean() - low)


def test_t_is_scipys():
    new, old = solvers(samples=4)
    golden = scipy_stats.ttest_rel(new, old)
    found = paired_effect([scores(new)], [scores(old)], interval="t")
    assert found.interval() == pytest.approx(golden.confidence_interval())
    assert found.p_value() == pytest.approx(golden.pvalue)
    assert paired_p_value([scores(new)], [scores(old)]) == pytest.approx(golden.pvalue)


def test_the_p_value_of_right_and_wrong_is_mcnemars():
    new, old = solvers()
    won, lost = int((new > old).sum()), int((new < old).sum())
    golden = scipy_stats.binomtest(won, won + lost).pvalue
    assert paired_p_value([scores(new)], [scores(old)]) == pytest.approx(golden)


def test_samples_of_a_problem_are_not_problems():
    new, old = solvers()
    once = paired_effect([scores(new)], [scores(old)], interval="t")
    repeated = paired_effect([scores(new)] * 5, [scores(old)] * 5, interval="t")
    assert repeated.interval() == pytest.approx(once.interval())
    other = paired_effect([scores(new), scores(new, "q")], [scores(old), scores(old, "q")], interval="t")
    width = [b - a for a, b in (once.interval(), other.interval())]
    assert width[1] == pytest.approx(width[0] / math.sqrt(2), rel=0.01)


def test_problems_may_have_different_numbers_of_samples():
    mine = [{"a": 1.0, "b": 1.0}, {"a": 0.0}]
    theirs = [{"a": 0.0, "b": 0.0}, {"a": 0.0}]
    assert paired_effect(mine, theirs, interval="t").value == pytest.approx((0.5 + 1.0) / 2)


def test_solvers_that_never_differ():
    same = [scores([0, 1] * 500)]
    estimate = paired_effect(same, same)
    low, high = estimate.interval()
    assert estimate.value == 0
    assert low == -high
    assert 0 < high < 0.005
    assert paired_p_value(same, same) == 1.0


def test_other_metrics_are_bounded_by_what_was_seen():
    low, high = paired_effect([scores([9.0] * 10)], [scores([4.0] * 10)]).interval()
    assert -9 < low < 5 < high < 9


@pytest.mark.parametrize("method", ["bca", "t"])
def test_intervals_hold_the_truth(method):
    hits = 0
    for seed in range(300):
        low, high = paired_effect(
            *([scores(x)] for x in solvers(150, seed)), interval=method, resamples=1000
        ).interval()
        hits += low <= 0.05 - 0.0013 <= high  # what is left of 0.05 where an ability of 1 caps it
    assert 0.92 <= hits / 300 <= 0.98


def test_a_statistic_is_resampled_by_problem():
    rng = np.random.default_rng(0)
    groups = [[(s + rng.normal(), bool(s)) for s in rng.integers(0, 2, 3)] for _ in range(60)]

    def of(pairs):
        return auroc(*zip(*pairs, strict=True))

    estimate = statistic_estimate(of, groups, resamples=500)
    assert estimate.value == of([pair for group in groups for pair in group])
    assert estimate.interval() == pytest.approx(statistic_bootstrap(of, groups, resamples=500))
    assert estimate.p_value(0.5, "greater") < 0.01


def test_a_statistic_that_is_undefined_in_some_draws():
    found = statistic_estimate(lambda one: 1.0 if any(one) else math.nan, [[False], [True]], resamples=50)
    assert 0 < len(found.draws) < 50
    assert math.isnan(statistic_estimate(lambda one: 1.0, []).value)


@pytest.mark.parametrize(
    ("mine", "theirs", "message"),
    [([], [], "at least one"), ([{"a": 1.0}], [], "same passes"), ([{"a": 1.0}], [{"b": 1.0}], "same problems"),
     ([{}], [{}], "same problems")],
)  # fmt: skip
def test_only_pairs_are_compared(mine, theirs, message):
    with pytest.raises(ValueError, match=message):
        paired_effect(mine, theirs)
