"""The intervals that a check rests on keep their level, and verdicts follow from them."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from selftaught.measure import Leg, TEstimate, crossed_effect, decide


def test_the_interval_is_that_of_a_one_sample_t_test_on_the_seeds_means() -> None:
    rng = np.random.default_rng(3)
    mine = [{f"{s}/{i}": float(v) for i, v in enumerate(rng.integers(0, 2, 30))} for s in range(5)]
    theirs = [{f"{s}/{i}": float(v) for i, v in enumerate(rng.integers(0, 2, 30))} for s in range(5)]
    means = [np.mean([a[i] - b[i] for i in a]) for a, b in zip(mine, theirs, strict=True)]
    effect = crossed_effect(mine, theirs)
    expected = stats.ttest_1samp(means, 0).confidence_interval(0.95)
    assert effect.value == pytest.approx(np.mean(means))
    assert effect.interval() == pytest.approx((expected.low, expected.high), abs=1e-6)


@pytest.mark.parametrize("seeds", [2, 3, 5, 11])
def test_an_effect_over_seeds_has_students_interval(seeds: int) -> None:
    means = [0.1 + 0.03 * (i % 3) for i in range(seeds)]
    mine = [{f"{s}a": mean + 0.05, f"{s}b": mean - 0.05} for s, mean in enumerate(means)]
    theirs = [dict.fromkeys(scores, 0.0) for scores in mine]
    effect, golden = crossed_effect(mine, theirs), stats.ttest_1samp(means, 0.0).confidence_interval(0.95)
    assert effect.value == pytest.approx(sum(means) / seeds)
    assert tuple(effect.interval()) == pytest.approx((golden.low, golden.high), abs=1e-6)


def test_seeds_that_agree_exactly_still_leave_doubt() -> None:
    same = [{f"{s}/{i}": 1.0 for i in range(20)} for s in range(5)]
    effect = crossed_effect(same, same)
    low, high = effect.interval()
    assert effect.value == 0
    assert -0.1 < low < 0 < high < 0.1


@pytest.mark.parametrize("spread", [0.0, 0.1])
def test_a_method_that_does_nothing_is_reproduced_at_most_one_time_in_forty(spread: float) -> None:
    """Binary scores with seeds that differ: the two-sided level is 5 %, half of it on the claimed side."""
    rng, trials, wrong, covered = np.random.default_rng(0), 1000, 0, 0
    for _ in range(trials):
        shifts = rng.normal(0, spread, 5)
        mine = [{f"{s}/{i}": float(v) for i, v in enumerate(rng.random(60) < 0.4 + x)} for s, x in enumerate(shifts)]
        theirs = [{f"{s}/{i}": float(v) for i, v in enumerate(rng.random(60) < 0.4)} for s in range(5)]
        effect = crossed_effect(mine, theirs)
        wrong += decide([Leg("x", effect, min_effect=0.05)]).verdict == "reproduced"
        covered += effect.interval().low <= 0 <= effect.interval().high
    slack = 3 * math.sqrt(0.05 * 0.95 / trials)
    assert wrong / trials <= 0.025 + slack
    assert covered / trials == pytest.approx(0.95, abs=slack)


def legs(*intervals: tuple[float, float]) -> list[Leg]:
    """Legs whose 95 % intervals are these, by a normal distribution."""
    z = stats.norm.ppf(0.975)
    return [Leg(str(i), TEstimate((a + b) / 2, (b - a) / 2 / z), min_effect=0.05) for i, (a, b) in enumerate(intervals)]


@pytest.mark.parametrize(
    ("intervals", "verdict", "against"),
    [
        ([(0.1, 0.3), (0.01, 0.2)], "reproduced", "1"),
        ([(0.01, 0.2), (-0.01, 0.9)], "inconclusive", "1"),  # the one in doubt, although it is beaten by more
        ([(0.01, 0.2), (-0.3, -0.1)], "contradicted", "1"),
        ([(0.01, 0.2), (-0.03, 0.04)], "no effect of the smallest size of interest", "1"),
        ([(-0.5, 0.2), (-0.03, 0.04)], "no effect of the smallest size of interest", "1"),
        ([(0.01, 0.04)], "reproduced", "0"),
        ([(0.01, 0.04), (-0.1, 0.2)], "inconclusive", "1"),  # a small effect that is there stands in no one's way
        ([(-0.3, 0.2)], "inconclusive", "0"),
        ([(-0.2, -0.01)], "contradicted", "0"),
    ],
)
def test_the_verdict_and_the_baseline_that_decides_it(
    intervals: list[tuple[float, float]], verdict: str, against: str
) -> None:
    found = decide(legs(*intervals))
    assert (found.verdict, found.deciding.name) == (verdict, against)


@pytest.mark.parametrize("theirs", [[{"a": 1.0}], [{"a": 1.0}, {"b": 1.0}], [{}, {}]])
def test_scores_of_other_problems_are_refused(theirs: list[dict[str, float]]) -> None:
    with pytest.raises(ValueError, match="same"):
        crossed_effect([{"a": 1.0}, {"a": 0.0}], theirs)
