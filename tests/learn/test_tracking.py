"""Training curves, schedules, populations and on-policy advantages: by hand, and laws that hold for any input."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special

from selftaught.errors import BadInput
from selftaught.learn import Population
from selftaught.learn.config import TrainConfig
from selftaught.learn.objectives.advantages import correction_bonus, group_mean, group_std, leave_one_out, no_baseline
from selftaught.learn.schedules import SCHEDULES, learning_rate_at
from selftaught.learn.tracking import ExperimentTracker, curves_of, downsample
from selftaught.models import Policy

REWARDS = st.lists(st.floats(-10, 10), min_size=2, max_size=12)


def policy(version: str) -> Policy:
    return Policy(version, Path(version))


def test_a_curve_is_the_mean_of_each_stretch_at_its_last_step() -> None:
    assert downsample([1.0, 2.0, 3.0, 4.0, 5.0], 2) == [[3, 2.0], [5, 4.5]]
    assert downsample([1.0, 2.0]) == [[1, 1.0], [2, 2.0]]
    assert downsample([]) == []


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=60), st.integers(1, 20))
def test_a_curve_is_short_ends_at_the_last_step_and_keeps_the_mean(values: list[float], most: int) -> None:
    found = downsample(values, most)
    ends = [end for end, _ in found]
    assert len(found) <= most
    assert ends[-1] == len(values)
    counts = np.diff([0, *ends])
    assert min(counts) >= 1
    assert np.average([mean for _, mean in found], weights=counts) == pytest.approx(np.mean(values), abs=2e-6)


def test_curves_are_those_that_a_manifest_has() -> None:
    manifest = {"losses": [2.0, 1.0], "learning_rates": [], "other": 3}
    assert curves_of(manifest) == {"loss": [[1, 2.0], [2, 1.0]]}
    assert curves_of({}) == {}


def test_without_a_named_tracker_nothing_is_logged(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SELFTAUGHT_TRACK", " , ")
    tracker = ExperimentTracker("title", str(tmp_path))
    tracker.log(1, {"loss": 1.0})
    tracker.close()
    assert list(tmp_path.iterdir()) == []


@settings(max_examples=50, deadline=None)
@given(st.sampled_from(sorted(SCHEDULES)), st.integers(1, 60), st.floats(0, 1), st.floats(0, 0.5))
def test_a_rate_is_never_negative_above_its_peak_or_rising_after_the_warmup(
    schedule: Any, total: int, warmup: float, decay: float
) -> None:
    config = TrainConfig(schedule=schedule, warmup_ratio=warmup, decay_ratio=decay, learning_rate=0.5)
    rates = [learning_rate_at(step, total, config) for step in range(total)]
    assert all(0 <= rate <= 0.5 for rate in rates)
    after = rates[max(1, round(warmup * total)) - 1 :]
    assert all(b <= a + 1e-12 for a, b in itertools.pairwise(after))


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"epochs": 0}, "epochs: must be above 0, got 0"),
        ({"learning_rate": math.nan}, "learning_rate: must be above 0, got nan"),
        ({"learning_rate": math.inf}, "learning_rate: must be finite, got inf"),
        ({"weight_decay": math.inf}, "weight_decay: must be finite, got inf"),
        ({"lora_rank": -1}, "lora_rank: must be ≥ 0, got -1"),
        ({"decay_ratio": 1.1}, r"decay_ratio: must be in 0\.\.1, got 1\.1"),
        ({"decay_ratio": 0.6, "schedule": "infinite"}, r"decay_ratio: must be in 0\.\.0\.5, got 0\.6"),
        ({"keep_optimizer_state": True, "lora_rank": 4}, "keep_optimizer_state: each LoRA training has a new adapter"),
    ],
)
def test_a_setting_that_means_nothing_is_one_line_with_what_to_do(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        TrainConfig(**wrong)
    assert caught.value.fix
    assert "\n" not in str(caught.value)


@given(REWARDS)
def test_advantages_are_centered_and_leave_one_out_is_the_scaled_mean_baseline(rewards: list[float]) -> None:
    n = len(rewards)
    centered = np.array(group_mean(rewards))
    assert centered.sum() == pytest.approx(0, abs=1e-9)
    assert np.array(leave_one_out(rewards)) == pytest.approx(centered * n / (n - 1), abs=1e-9)
    assert group_std(rewards) == pytest.approx(centered / (np.std(rewards, ddof=1) + 1e-4), abs=1e-6, rel=1e-6)
    assert group_std(rewards, correction=0, eps=1.0) == pytest.approx(centered / (np.std(rewards) + 1), abs=1e-6)
    assert no_baseline(rewards) == rewards


def test_one_reward_has_no_others_and_equal_ones_no_advantage() -> None:
    with pytest.raises(BadInput, match="leave_one_out: needs two rewards, got one"):
        leave_one_out([1.0])
    assert group_std([1.0, 1.0]) == leave_one_out([0.5, 0.5]) == [0.0, 0.0]
    assert group_std([3.0]) == [0.0]
    assert (correction_bonus(0, 1), correction_bonus(1, 0, 2.0), correction_bonus(1, 1)) == (10.0, -2.0, 0.0)


def test_opponents_are_earlier_selves_and_the_others_as_they_are() -> None:
    one = Population().with_version("a", policy("a0"))
    both = one.with_version("a", policy("a1")).with_version("a", policy("a2")).with_version("b", policy("b0"))
    assert one.sample_opponent("a", 3) == policy("a0")  # itself, as there is nobody else
    assert both.names == ("a", "b")
    assert [p.version for p in both.opponents("a")] == ["a0", "a1", "b0"]
    assert [p.version for p in both.opponents("a", last=1, others=False)] == ["a1"]
    assert {both.sample_opponent("a", seed).version for seed in range(40)} == {"a0", "a1", "b0"}
    assert one.names == ("a",)  # immutable
    with pytest.raises(BadInput, match="population: no policy is called 'c'"):
        both["c"]


@pytest.mark.parametrize(
    "how", [{}, {"temperature": 0.7}, {"top_k": 3}, {"top_p": 0.6}, {"temperature": 1.5, "top_k": 4, "top_p": 0.7}]
)
def test_the_probability_of_a_sampled_token_is_that_of_the_truncated_softmax(how: dict[str, Any]) -> None:
    import torch

    from selftaught.engines.base import Sampling
    from selftaught.learn.online.importance import behavior_logprobs, is_on_policy

    sampling, logits = Sampling(**how), np.random.default_rng(0).normal(size=(8, 6))
    golden = special.softmax(logits / sampling.temperature, axis=-1)
    for row in golden:
        order = np.argsort(-row)
        row[order[sampling.top_k or 6 :]] = 0
        row /= row.sum()
        row[order[1:][np.cumsum(row[order])[:-1] >= sampling.top_p]] = 0
        row /= row.sum()
    chosen = golden.argmax(-1)
    found = behavior_logprobs(torch.tensor(logits), torch.tensor(chosen), sampling)
    assert found.numpy() == pytest.approx(np.log(golden.max(-1)))
    assert is_on_policy(sampling) is (not how)
    greedy = behavior_logprobs(torch.tensor(logits), torch.tensor(chosen), Sampling(temperature=0.0))
    assert greedy.tolist() == [0.0] * 8
