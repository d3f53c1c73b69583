import math

import numpy as np
import pytest
from scipy import stats as scipy_stats

from selftaught.errors import BadInput
from selftaught.measure import DEFAULT_LOOKS, FIXED, Looks
from selftaught.measure.sequential import critical_value, crossing_probability

# The constants of the O'Brien-Fleming boundaries for K equal looks, two-sided 5 %, as group-sequential tables have them
# (read in public code that cites Jennison & Turnbull 2000; the number of the table there is unconfirmed). The bounds of
# K = 3 to more digits are the output recorded in a public R implementation of the Wang-Tsiatis family.
PUBLISHED = {1: 1.960, 2: 1.977, 3: 2.004, 4: 2.024, 5: 2.040, 6: 2.053, 7: 2.063, 8: 2.072, 9: 2.080, 10: 2.087}


@pytest.mark.parametrize(("looks", "constant"), PUBLISHED.items())
def test_boundaries_are_the_published_ones(looks, constant):
    fractions = tuple((k + 1) / looks for k in range(looks))
    assert critical_value(fractions, 0.05) == pytest.approx(constant, abs=6e-4)


def test_three_equal_looks_to_five_digits():
    c = critical_value((1 / 3, 2 / 3, 1.0), 0.05)
    bounds = [c / math.sqrt(t) for t in (1 / 3, 2 / 3, 1.0)]
    assert bounds == pytest.approx([3.471086, 2.454429, 2.004033], abs=1e-5)


def test_two_looks_cross_as_the_bivariate_normal_says():
    c, t = 2.1, 0.4
    pair = scipy_stats.multivariate_normal([0, 0], [[t, t], [t, 1.0]])
    inside = pair.cdf([c, c], lower_limit=[-c, -c])
    assert crossing_probability((t, 1.0), c) == pytest.approx(1 - inside, abs=1e-5)


def test_looks_after_6_12_and_20_seeds():
    assert DEFAULT_LOOKS.fractions == (0.3, 0.6, 1.0)
    assert DEFAULT_LOOKS.nominal == pytest.approx((0.0003, 0.010, 0.046), abs=5e-4)
    paths = np.random.default_rng(0).normal(0, np.sqrt([0.3, 0.3, 0.4]), (200_000, 3)).cumsum(1)
    z = np.abs(paths) / np.sqrt(DEFAULT_LOOKS.fractions)
    bounds = scipy_stats.norm.isf(np.array(DEFAULT_LOOKS.nominal) / 2)
    assert (z >= bounds).any(1).mean() == pytest.approx(0.05, abs=0.0016)  # 3 standard errors


def test_one_look_is_the_plain_test():
    assert FIXED.nominal == pytest.approx((0.05,))
    assert FIXED.level(0) == pytest.approx(0.95)
    assert FIXED.repeated_p(0.03, 0) == pytest.approx(0.03)


@pytest.mark.parametrize("look", [0, 1, 2])
@pytest.mark.parametrize("comparisons", [1, 3])
def test_a_repeated_p_is_alpha_at_the_boundary(look, comparisons):
    nominal = DEFAULT_LOOKS.nominal_p(look, comparisons)
    assert DEFAULT_LOOKS.repeated_p(nominal, look) == pytest.approx(0.05 / comparisons, rel=1e-6)
    assert DEFAULT_LOOKS.level(look, comparisons) == 1 - nominal


def test_repeated_p_values_rise_with_p_and_exceed_it():
    p = [0.0, 1e-310, 1e-20, 1e-6, 1e-3, 0.01, 0.2, 0.9, 1.0]
    repeated = [DEFAULT_LOOKS.repeated_p(one, 1) for one in p]
    assert repeated == sorted(repeated)
    assert repeated[0] == 0.0
    assert repeated[-1] == 1.0
    assert all(r >= one * (1 - 1e-9) for r, one in zip(repeated[2:], p[2:], strict=True))


def test_looks_close_together_cost_little():
    assert critical_value((0.5, 0.501, 1.0), 0.05) == pytest.approx(critical_value((0.5, 1.0), 0.05), abs=3e-3)


@pytest.mark.parametrize("seeds", [(), (0, 3), (6, 6), (12, 6)])
def test_looks_must_rise(seeds):
    with pytest.raises(BadInput, match="rising numbers of seeds"):
        Looks(seeds)


def test_alpha_is_a_chance():
    with pytest.raises(BadInput, match="alpha"):
        Looks((6, 12), alpha=1.0)
