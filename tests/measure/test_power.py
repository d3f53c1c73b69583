import math

import pytest
from scipy import stats as scipy_stats

from selftaught.measure import effect_variance, minimum_detectable_effect, problems_needed

# (2.776 + 0.941, ...: t tables) * sqrt((sd² + 0.18 / n) / S), computed by hand.
TABLE = [
    (0.0, 5, 160, 0.056), (0.0, 5, 2000, 0.016), (0.0, 12, 2000, 0.008), (0.015, 5, 160, 0.061),
    (0.015, 5, 2000, 0.030), (0.015, 12, 2000, 0.016), (0.015, 16, 2000, 0.013), (0.015, 20, 2000, 0.012),
    (0.015, 30, 2000, 0.009), (0.03, 5, 160, 0.075), (0.03, 5, 2000, 0.052), (0.03, 12, 2000, 0.028),
    (0.03, 16, 2000, 0.024), (0.03, 20, 2000, 0.021), (0.03, 30, 2000, 0.017), (0.045, 5, 160, 0.093),
    (0.045, 5, 2000, 0.076), (0.045, 12, 2000, 0.041), (0.045, 16, 2000, 0.035), (0.045, 20, 2000, 0.030),
    (0.045, 30, 2000, 0.024),
]  # fmt: skip


@pytest.mark.parametrize(("seed_sd", "seeds", "problems", "effect"), TABLE)
def test_smallest_effects_by_hand(seed_sd, seeds, problems, effect):
    components = {"seed": seed_sd, "residual": math.sqrt(0.18)}
    found = minimum_detectable_effect(components, seeds=seeds, problems=problems)
    assert found == pytest.approx(effect, abs=6e-4)


@pytest.mark.parametrize(("seeds", "builds", "df"), [(20, 1, 19), (4, 3, 9)])
def test_the_test_finds_it_with_its_power(seeds, builds, df):
    """By the noncentral t distribution, to which the sum of two quantiles is an approximation."""
    components = {"seed": 0.03, "problem": 0.2, "residual": 0.35}
    effect = minimum_detectable_effect(components, seeds=seeds, problems=2000, builds=builds)
    error = math.sqrt(effect_variance(components, seeds=seeds, problems=2000, builds=builds))
    power = scipy_stats.nct.sf(scipy_stats.t.ppf(0.975, df), df, effect / error)
    assert power == pytest.approx(0.8, abs=0.02)


def test_the_variance_is_the_sum_of_its_parts():
    components = {"build": 0.02, "seed": 0.03, "problem": 0.2, "residual": 0.4}
    by_hand = 0.02**2 / 3 + 0.03**2 / 12 + 0.2**2 / 500 + 0.4**2 / (12 * 500)
    assert effect_variance(components, seeds=4, problems=500, builds=3) == pytest.approx(by_hand)


def test_builds_that_differ_are_what_counts():
    with_build = {"build": 0.02, "seed": 0.03, "residual": 0.4}
    error = math.sqrt(effect_variance(with_build, seeds=4, problems=500, builds=3))
    found = minimum_detectable_effect(with_build, seeds=4, problems=500, builds=3)
    assert found == pytest.approx((4.303 + 1.061) * error, rel=1e-3)  # t tables, 2 degrees of freedom


def test_no_seeds_no_test():
    with pytest.raises(ValueError, match="degrees of freedom"):
        minimum_detectable_effect({"seed": 0.02}, seeds=1, problems=100)


def test_solvers_need_3500_problems():
    assert problems_needed(0.02) == math.ceil(0.18 * ((1.959964 + 0.841621) / 0.02) ** 2) == 3532
    assert problems_needed(0.02, power=0.9) == pytest.approx(4728, abs=2)
