"""Choosing a setting: grids of candidates, stages of the halving, and numbers to log."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scripted_world import judged
from selftaught.control.balance import ScoredAttempt
from selftaught.control.tuning import THRESHOLDS, BalanceTuner, SamplingConfig, halving_grid, linspace
from selftaught.errors import BadInput
from selftaught.records import Problem, Verdict
from selftaught.testing import sums


@settings(max_examples=40)
@given(st.floats(-10, 10), st.floats(-10, 10), st.integers(2, 50))
def test_evenly_spaced_numbers_are_numpy_s(low: float, high: float, count: int) -> None:
    assert linspace(low, high, count) == pytest.approx(np.linspace(low, high, count).tolist(), abs=1e-6)


@given(st.integers(1, 10**6), st.integers(-5, 2000))
def test_a_halving_grid_rises_to_its_end_by_doubling(most: int, least: int) -> None:
    grid = halving_grid(most, least)
    assert grid[-1] == most
    assert all(high // 2 == low for low, high in itertools.pairwise(grid))
    assert all(number >= max(1, least) for number in grid[:-1])
    assert grid[0] // 2 < max(1, least)  # it goes down as far as it may


class Coin:
    """Attempts of which the share given for each temperature is right; it notes what was asked for."""

    def __init__(self, right: dict[float, float]) -> None:
        self.right, self.asked = right, list[tuple[float, int, int]]()

    def __call__(self, problems: Sequence[Problem], temperature: float, n: int) -> list[ScoredAttempt]:
        self.asked.append((temperature, len(problems), n))
        found = []
        for problem in problems:
            for i in range(n):
                right = i < self.right[temperature] * n
                made = judged(problem, str(i), Verdict.RIGHT if right else Verdict.WRONG, name=f"{problem.id}/{i}")
                found.append(ScoredAttempt(replace(made, text=f"answer {i}"), 1.0))
        return found


@pytest.mark.parametrize(
    ("temperatures", "problems", "stages"),
    [
        (1, 8, [(1, 8)]),
        (2, 8, [(2, 8)]),
        (3, 8, [(3, 4), (2, 4)]),
        (4, 8, [(4, 4), (2, 4)]),
        (5, 8, [(5, 2), (3, 2), (2, 4)]),
        (8, 5, [(8, 2), (4, 1), (2, 2)]),
    ],
)
def test_each_stage_halves_the_temperatures_and_doubles_the_problems(
    temperatures: int, problems: int, stages: list[tuple[int, int]]
) -> None:
    grid = tuple(i / 10 for i in range(1, temperatures + 1))
    coin = Coin({t: 1 - t for t in grid})
    choice = BalanceTuner(grid, (4,), (0.5,), target=4).choose(sums(problems), coin)
    assert [(count, 4) for _, count, _ in coin.asked] == [(new, 4) for count, new in stages for _ in range(count)]
    assert choice.config.temperature == 0.1
    assert len(choice.groups) == problems


def test_the_score_is_that_of_the_paper_s_formula_and_what_was_tried_is_told() -> None:
    choice = BalanceTuner((0.2, 0.4), (4,), (0.5,), target=4).choose(sums(3), Coin({0.2: 0.75, 0.4: 0.5}))
    assert choice.score == pytest.approx(min(3 / 4, 1) * 3 / 4)  # 4 selected, 3 right, 4 wanted
    assert choice.tried == {0.2: (3, pytest.approx(9 / 16)), 0.4: (3, pytest.approx(1 / 4))}


def test_numbers_to_log_are_those_of_the_samples_that_count() -> None:
    choice = BalanceTuner((0.2,), (2, 8), (0.5,), target=1).choose(sums(2), Coin({0.2: 0.25}))
    assert choice.config == SamplingConfig(0.2, 2, 0.5)  # more samples are no better
    assert {len(group) for group in choice.groups.values()} == {8}
    assert {len(group) for group in choice.probed.values()} == {2}
    logged = choice.metrics(target=1)
    assert (logged["temperature"], logged["samples"], logged["threshold"]) == (0.2, 2, 0.5)
    assert (logged["pass_at_k"], logged["precision"], logged["diversity"]) == (1.0, 1.0, 1.0)
    assert all(math.isfinite(value) for value in logged.values())


def test_the_threshold_is_chosen_anew_on_other_attempts() -> None:
    """On the probe wrong answers have low rewards; on all problems they reach higher."""

    def groups(wrong: float) -> dict[str, list[ScoredAttempt]]:
        found = {}
        for problem in sums(3):
            made = [judged(problem, str(i), Verdict.RIGHT if i else Verdict.WRONG, name=f"{i}") for i in range(4)]
            rewards = (wrong, 0.7, 0.8, 0.9)
            found[problem.id] = [ScoredAttempt(one, reward) for one, reward in zip(made, rewards, strict=True)]
        return found

    tuner = BalanceTuner((1.0,), (4,), linspace(0, 0.9, 10), target=3)
    config = SamplingConfig(1.0, 4, 0.1)
    assert tuner.rechoose_threshold(config, groups(0.15)) == SamplingConfig(1.0, 4, 0.6)  # of 0.2..0.6 the strictest
    assert tuner.rechoose_threshold(config, groups(0.65)) == SamplingConfig(1.0, 4, 0.6)
    assert tuner.rechoose_threshold(config, groups(0.75)) == SamplingConfig(1.0, 4, 0.7)  # a right one is given up


def test_thresholds_are_those_of_the_authors_loop() -> None:
    found, threshold = [], -1.0
    while threshold <= 1.0:  # the addition's error keeps 1 itself out
        found.append(threshold)
        threshold += 0.01
    assert pytest.approx(found) == THRESHOLDS
    assert len(THRESHOLDS) == 200


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"samples": ()}, r"BalanceTuner.samples: nothing to choose from; give at least one value"),
        ({"thresholds": ()}, r"BalanceTuner.thresholds: nothing to choose from; give at least one value"),
        ({"size": 0}, "BalanceTuner: size must be at least 1, got 0"),
        ({"samples": (4, 0)}, r"BalanceTuner: target and samples must be at least 1, got target=8, samples=0"),
    ],
)
def test_a_tuner_without_candidates_is_refused(changes: dict[str, tuple[int, ...]], message: str) -> None:
    with pytest.raises(BadInput, match=f"^{message}$"):
        replace(BalanceTuner((1.0,), (4,), (0.5,)), **changes)  # pyright: ignore[reportArgumentType]
