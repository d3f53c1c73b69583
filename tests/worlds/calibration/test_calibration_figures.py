"""Figures, the ranges they must lie in, and what follows for a check."""

from __future__ import annotations

import math
import random

import pytest
from scipy import stats

from selftaught.measure import Interval
from selftaught.worlds.kit.calibration.figures import (
    CheckSpec,
    Figure,
    Finding,
    above,
    at_least,
    at_most,
    below,
    between,
    difference_of,
    effect_of,
    mean_of,
    not_above,
    share_of,
)
from selftaught.worlds.kit.calibration.table import CHECKS, SMOKE_CHECKS, spec
from selftaught.worlds.kit.calibration.training import ratio_of

SURE, DOUBTFUL = Figure(0.05, Interval(0.02, 0.08)), Figure(0.05, Interval(-0.01, 0.11))


@pytest.mark.parametrize(
    ("wanted", "figure", "holds"),
    [
        (at_least(0.05), SURE, True),
        (at_least(0.051), SURE, False),
        (at_most(0.05), SURE, True),
        (at_most(0.049), SURE, False),
        (between(-0.03, 0.05), SURE, True),
        (between(-0.03, 0.04), SURE, False),
        (above(0.0), SURE, True),
        (above(0.0), DOUBTFUL, False),
        (not_above(0.0), DOUBTFUL, True),
        (not_above(0.0), SURE, False),
        (below(0.0), Figure(-0.05, Interval(-0.08, -0.02)), True),
        (below(0.0), Figure(-0.05, Interval(-0.11, 0.01)), False),
    ],
)
def test_a_figure_lies_in_its_range_or_does_not(wanted: object, figure: Figure, holds: bool) -> None:
    assert wanted.holds(figure) is holds  # type: ignore[attr-defined]


TWO = CheckSpec(1, "two", "known", "source", {"a": at_least(0.0), "b": at_most(1.0)}, 1.0)


def test_a_check_holds_where_all_its_figures_do() -> None:
    assert Finding(TWO, {"a": Figure(0.5), "b": Figure(0.5)}).holds
    assert not Finding(TWO, {"a": Figure(0.5), "b": Figure(1.5)}).holds
    assert not Finding(TWO, {"a": Figure(-0.5), "b": Figure(0.5)}).holds


def test_what_was_not_measured_or_is_not_applicable_does_not_hold() -> None:
    assert not Finding(TWO, {"a": Figure(0.5)}).holds
    assert not Finding(TWO, {"a": Figure(0.5), "b": Figure(math.nan)}).holds
    assert not Finding(TWO, {"a": Figure(0.5), "b": Figure(0.5)}, "no writer").holds


def test_a_finding_as_plain_data() -> None:
    found = Finding(TWO, {"a": Figure(0.123456, Interval(0.1, 0.2)), "b": Figure(math.nan), "c": Figure(3.0)}, "", 2.04)
    data = found.to_json()
    assert {key: data[key] for key in ("name", "holds", "value", "ci95", "threshold")} == {
        "name": "two", "holds": False, "value": 0.1235, "ci95": [0.1, 0.2], "threshold": "≥ 0",
    }  # fmt: skip
    assert data["conditions"][1] == {"name": "b", "holds": False, "value": None, "ci95": None, "threshold": "≤ 1"}
    assert data["also"] == {"c": {"value": 3.0, "ci95": None}}


def test_the_interval_of_a_mean_is_scipys() -> None:
    values = [random.Random(3).random() for _ in range(400)]
    found, half = mean_of(values), 1.959964 * stats.sem(values)
    assert found.value == pytest.approx(sum(values) / 400)
    assert found.ci95 == pytest.approx((found.value - half, found.value + half), abs=1e-5)


def test_a_paired_difference_has_students_interval() -> None:
    rng = random.Random(1)
    old = {str(i): float(rng.random() < 0.4) for i in range(200)}
    new = {str(i): float(rng.random() < 0.6) for i in range(200)}
    found = difference_of(new, old)
    expected = stats.ttest_rel([new[i] for i in old], [old[i] for i in old]).confidence_interval()
    assert tuple(found.ci95) == pytest.approx((expected.low, expected.high), abs=1e-9)


def test_an_effect_over_seeds_is_wider_than_the_problems_alone() -> None:
    rng = random.Random(5)
    old = [{str(i): float(rng.random() < 0.4) for i in range(100)} for _ in range(4)]
    new = [
        {name: min(1.0, value + shift) for name, value in one.items()}
        for one, shift in zip(old, (0, 0.3, 0.6, 0.9), strict=True)
    ]
    found, alone = effect_of(new, old), effect_of(new[1:2], old[1:2])
    assert found.ci95.high - found.ci95.low > 3 * (alone.ci95.high - alone.ci95.low)


def test_a_share_of_nothing_is_not_a_number() -> None:
    assert math.isnan(share_of([]).value)
    assert share_of([True, False, True, True]).value == 0.75


def test_a_ratio_of_gains() -> None:
    assert ratio_of([0.05, 0.15], [0.2, 0.2]).value == pytest.approx(0.5)
    assert math.isnan(ratio_of([0.05, 0.15], [0.1, -0.2]).value)  # nothing was gained to compare with
    low, high = ratio_of([0.05, 0.15], [0.2, 0.2]).ci95
    assert (high - low) / 2 == pytest.approx(1.96 * 0.25)  # jackknife of two: half their difference


def test_the_table_has_twenty_checks_each_with_its_sentence_and_source() -> None:
    assert [one.number for one in CHECKS] == list(range(1, 21))
    assert all(one.known.endswith(".") and one.source and one.wanted for one in CHECKS)
    assert [spec(number).number for number in SMOKE_CHECKS] == [1, 2, 3, 5, 11, 20]
    assert len({one.name for one in CHECKS}) == 20
