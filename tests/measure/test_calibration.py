"""Calibration statistics: by hand, and against their definitions on random data."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from itertools import product

import pytest

from selftaught.errors import BadInput
from selftaught.measure import auroc, brier_score, expected_calibration_error

P = [0.1, 0.4, 0.4, 0.9]
Y = [False, False, True, True]


def random_case(seed: int, size: int = 200) -> tuple[list[float], list[bool]]:
    rng = random.Random(seed)
    scores = [round(rng.random(), 2) for _ in range(size)]  # with ties
    return scores, [rng.random() < score for score in scores]


def test_by_hand() -> None:
    assert brier_score(P, Y) == pytest.approx((0.01 + 0.16 + 0.36 + 0.01) / 4)
    assert auroc(P, Y) == pytest.approx((1 + 0.5 + 1 + 1) / 4)
    assert expected_calibration_error(P, Y, bins=2) == pytest.approx((abs(0.5 - 0) + abs(1.3 - 2)) / 4)
    uniform = (abs(0.1 - 0) + abs(0.8 - 1) + abs(0.9 - 1)) / 4
    assert expected_calibration_error(P, Y, bins=3, strategy="uniform") == pytest.approx(uniform)


def test_the_ends_of_the_scale() -> None:
    assert brier_score([1.0, 0.0], [True, False]) == 0
    assert brier_score([0.0, 1.0], [True, False]) == 1
    assert auroc([1.0, 0.0], [True, False]) == 1
    assert auroc([0.0, 1.0], [True, False]) == 0
    assert auroc([0.5] * 4, Y) == 0.5
    assert math.isnan(auroc(P, [True] * 4))
    assert auroc([math.nan, 0.2, 0.1], [False, True, False]) == 1
    for strategy in ("quantile", "uniform"):
        assert expected_calibration_error([1.0, 0.0], [True, False], strategy=strategy) == 0
        assert expected_calibration_error([1.0, 0.0], [False, True], strategy=strategy) == 1


@pytest.mark.parametrize("seed", range(5))
def test_auroc_is_the_share_of_pairs_in_order(seed: int) -> None:
    scores, outcomes = random_case(seed)
    true = [s for s, y in zip(scores, outcomes, strict=True) if y]
    false = [s for s, y in zip(scores, outcomes, strict=True) if not y]
    pairs = [(a > b) + (a == b) / 2 for a, b in product(true, false)]
    assert auroc(scores, outcomes) == pytest.approx(sum(pairs) / len(pairs))


@pytest.mark.parametrize("seed", range(5))
def test_calibration_error_is_that_of_its_bins(seed: int) -> None:
    scores, outcomes = random_case(seed)
    bins: dict[int, list[int]] = {}
    for place, score in enumerate(scores):
        bins.setdefault(min(7, math.floor(score * 8)), []).append(place)
    true = sum(
        len(b) / 200 * abs(sum(scores[i] for i in b) / len(b) - sum(outcomes[i] for i in b) / len(b))
        for b in bins.values()
    )
    assert expected_calibration_error(scores, outcomes, bins=8, strategy="uniform") == pytest.approx(true)


def test_outcomes_drawn_with_their_probability_are_calibrated() -> None:
    scores, outcomes = random_case(7, 20_000)
    assert expected_calibration_error(scores, outcomes) < 0.02
    assert expected_calibration_error([1 - s for s in scores], outcomes) > 0.4
    assert brier_score(scores, outcomes) == pytest.approx(1 / 6, abs=0.01)  # the integral of p (1 - p)


@pytest.mark.parametrize("statistic", [brier_score, expected_calibration_error, auroc])
@pytest.mark.parametrize(("scores", "outcomes"), [([], []), ([0.5], [True, False])])
def test_what_cannot_be_measured_is_refused(
    statistic: Callable[..., float], scores: Sequence[float], outcomes: Sequence[bool]
) -> None:
    with pytest.raises(BadInput, match="needs as many scores as outcomes, at least 1"):
        statistic(scores, outcomes)


def test_no_bins_are_refused() -> None:
    with pytest.raises(BadInput, match="bins must be ≥ 1, got 0"):
        expected_calibration_error(P, Y, bins=0)
