from functools import partial

import numpy as np
import pytest

from selftaught.measure import Looks, effect_of_differences
from selftaught.measure.simulation import OutcomeModel, simulate_checks


def drawn(effect, baselines, seed_sd, problems=2000, seeds=20):
    model = OutcomeModel(seed_sd=seed_sd)
    return partial(model.draw, effects=[effect, *[0.0] * baselines], seeds=seeds, problems=problems)


def test_the_model_has_the_moments_it_says():
    y = drawn(0.03, 1, seed_sd=0.03, problems=4000, seeds=100)(np.random.default_rng(0))
    d = y[0] - y[1]
    assert y[1].mean() == pytest.approx(0.5, abs=0.02)
    assert d.mean() == pytest.approx(0.03, abs=0.01)
    assert np.abs(d).mean() == pytest.approx(0.18, abs=0.01)
    assert effect_of_differences(d).components["seed"] == pytest.approx(0.03, abs=0.006)
    chances = np.histogram(y[1].mean(0), [0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.01])[0] / 4000
    assert chances == pytest.approx([0.07, 0.23, 0.21, 0.18, 0.24, 0.07], abs=0.06)


def test_checks_of_a_method_against_itself():
    """At most 5 % come out "reproduced", by chance; most find that there is nothing to find, with seeds saved."""
    rates = simulate_checks(drawn(0.0, 1, seed_sd=0.02), 0.0, repeats=120)
    assert rates.verdicts.get("reproduced", 0.0) <= 0.05
    assert rates.verdicts["no effect of the smallest size of interest"] >= 0.8
    assert rates.seeds < 18
    assert all(share >= 0.9 for share in rates.coverage.values())
    assert rates.half_width < 0.025


def test_checks_of_a_method_with_an_effect():
    rates = simulate_checks(drawn(0.03, 2, seed_sd=0.03), 0.03, repeats=60)
    assert rates.verdicts["reproduced"] >= 0.8
    assert rates.repeated_coverage >= 0.88
    assert sum(rates.verdicts.values()) == pytest.approx(1)


def test_rates_of_a_certain_outcome():
    def never_differs(rng):
        return np.tile(rng.integers(0, 2, 500), (2, 4, 1)).astype(float)

    rates = simulate_checks(never_differs, 0.0, looks=Looks((2, 4)), repeats=3, builds=1)
    assert rates.verdicts == {"no effect of the smallest size of interest": 1.0}
    assert rates.seeds == 2
    assert rates.coverage == {2: 1.0, 4: 1.0}
