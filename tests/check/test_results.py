"""The interval keeps its level and the verdict follows from it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from scipy import stats

from selftaught.check.results import T_975, BaselineComparison, clustered_effect, decide_verdict
from selftaught.measure import Interval


def test_the_table_of_t_is_that_of_scipy() -> None:
    for freedom, point in T_975.items():
        assert point == pytest.approx(stats.t.ppf(0.975, freedom), abs=6e-4)
    assert all(a > b for a, b in pairwise(T_975.values()))


def test_the_interval_is_that_of_a_one_sample_t_test_on_the_seeds_means() -> None:
    rng = np.random.default_rng(3)
    mine = [{str(i): float(v) for i, v in enumerate(rng.integers(0, 2, 30))} for _ in range(5)]
    theirs = [{str(i): float(v) for i, v in enumerate(rng.integers(0, 2, 30))} for _ in range(5)]
    means = [np.mean([a[i] - b[i] for i in a]) for a, b in zip(mine, theirs, strict=True)]
    effect, interval = clustered_effect(mine, theirs)
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert effect == pytest.approx(np.mean(means))
    assert interval == pytest.approx((expected.low, expected.high), abs=1e-3)


def test_seeds_that_agree_exactly_still_leave_doubt() -> None:
    same = [{str(i): 1.0 for i in range(20)} for _ in range(5)]
    effect, interval = clustered_effect(same, same)
    assert effect == 0
    assert -0.1 < interval.low < 0 < interval.high < 0.1


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_a_method_that_does_nothing_is_reproduced_at_most_one_time_in_forty(spread: float) -> None:
    """Binary scores with seeds that differ: the two-sided level is 5 %, half of it on the claimed side."""
    rng, trials, wrong, covered = np.random.default_rng(0), 2000, 0, 0
    for _ in range(trials):
        shifts = rng.normal(0, spread, 5)
        mine = [{str(i): float(v) for i, v in enumerate(rng.random(60) < 0.4 + s)} for s in shifts]
        theirs = [{str(i): float(v) for i, v in enumerate(rng.random(60) < 0.4)} for _ in shifts]
        _, interval = clustered_effect(mine, theirs)
        row = BaselineComparison("x", 0.4, 0.0, interval, 1)
        wrong += decide_verdict([row], sign=1, min_effect=0.05)[0] == "reproduced"
        covered += interval.low <= 0 <= interval.high
    slack = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert wrong / trials <= 0.025 + slack
    assert covered / trials == pytest.approx(0.95, abs=slack)


def rows(*intervals: tuple[float, float], claimed: bool = True) -> list[BaselineComparison]:
    return [BaselineComparison(str(i), 0.5, sum(ci) / 2, Interval(*ci), 1, claimed) for i, ci in enumerate(intervals)]


@pytest.mark.parametrize(
    ("intervals", "sign", "verdict", "against"),
    [
        ([(0.1, 0.3), (0.01, 0.2)], 1, "reproduced", 1),
        ([(0.01, 0.2), (-0.01, 0.9)], 1, "inconclusive", 1),  # the one in doubt, although it is beaten by more
        ([(0.01, 0.2), (-0.3, -0.1)], 1, "not reproduced", 1),
        ([(0.01, 0.2), (-0.03, 0.04)], 1, "not reproduced", 1),  # any effect of 0.05 is ruled out
        ([(-0.5, 0.2), (-0.03, 0.04)], 1, "not reproduced", 1),
        ([(0.01, 0.04)], 1, "reproduced", 0),
        ([(0.01, 0.04), (-0.1, 0.2)], 1, "inconclusive", 1),  # a small effect that is there stands in no one's way
        ([(-0.2, -0.01)], -1, "reproduced", 0),
        ([(-0.2, -0.01), (-0.1, -0.02)], -1, "reproduced", 0),
        ([(0.01, 0.2)], -1, "not reproduced", 0),
        ([(-0.3, 0.2)], -1, "inconclusive", 0),
    ],
)
def test_the_verdict_and_the_baseline_that_decides_it(
    intervals: list[tuple[float, float]], sign: int, verdict: str, against: int
) -> None:
    shown = rows((-1.0, -0.9), (0.9, 1.0), claimed=False)  # have no say
    claimed = rows(*intervals)
    assert decide_verdict([*shown, *claimed], sign=sign, min_effect=0.05) == (verdict, claimed[against])


@pytest.mark.parametrize("theirs", [[{"a": 1.0}], [{"a": 1.0}, {"b": 1.0}], [{}, {}]])
def test_scores_of_other_problems_are_refused(theirs: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="same"):
        clustered_effect([{"a": 1.0}, {"a": 0.0}], theirs)
