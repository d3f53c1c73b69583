"""Statistics of pairs against SciPy's and hand computation."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from selftaught.measure.association import auroc_of, ece_of, f1_of, rank_correlation, slope


def pairs_with_ties(seed: int) -> list[tuple[float, float]]:
    rng = random.Random(seed)
    return [(float(x := rng.randrange(8)), x * 0.3 + rng.randrange(5)) for _ in range(40)]


@pytest.mark.parametrize("seed", range(4))
def test_rank_correlation_and_slope_are_scipys(seed: int) -> None:
    pairs = pairs_with_ties(seed)
    x, y = zip(*pairs, strict=True)
    assert rank_correlation(pairs) == pytest.approx(stats.spearmanr(x, y).statistic)
    assert slope(pairs) == pytest.approx(stats.linregress(x, y).slope)


def test_f1_is_the_harmonic_mean_of_precision_and_recall() -> None:
    pairs = [(True, True)] * 3 + [(True, False)] * 1 + [(False, True)] * 2 + [(False, False)] * 5
    precision, recall = 3 / 4, 3 / 5
    assert f1_of(pairs) == pytest.approx(2 * precision * recall / (precision + recall))


def test_auroc_and_calibration_error_by_hand() -> None:
    pairs = [(0.9, True), (0.8, False), (0.3, True), (0.2, False)]
    assert auroc_of(pairs) == pytest.approx(3 / 4)  # of four (true, false) pairs three are in order
    assert ece_of(pairs) == pytest.approx((0.1 + 0.8 + 0.7 + 0.2) / 4)  # one prediction a bin


@pytest.mark.parametrize("statistic", [auroc_of, ece_of, f1_of, rank_correlation, slope])
def test_without_observations_they_are_undefined(statistic) -> None:  # type: ignore[no-untyped-def]
    assert math.isnan(statistic([]))


def test_without_spread_an_association_is_undefined() -> None:
    flat = [(1.0, 2.0), (1.0, 3.0)]
    assert math.isnan(rank_correlation(flat))
    assert math.isnan(slope(flat))
    assert math.isnan(f1_of([(False, False)]))
