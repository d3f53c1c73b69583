"""Settings of a run: their ranges, and single fields that methods change."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.control import Budget, Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.run.settings import Settings, override, require_positive, split_options


@pytest.mark.parametrize(
    "settings",
    [
        {"seed": 0},
        {"seed": 2**63 - 1},
        {"failure_limit": 0},
        {"failure_limit": 1},
        {"budget": Budget(0)},
        {"budget": Budget(None)},
        {"gate": Gate(0.0)},
        {"gate": Gate(1.0)},
        {"sampling": Sampling(max_tokens=1)},
    ],
)
def test_values_at_the_ends_of_their_ranges_are_accepted(settings: dict[str, Any]) -> None:
    made = Settings(**settings)
    assert {name: getattr(made, name) for name in settings} == settings


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seed": -1}, "seed must be 0 to 9.22337e+18, got -1"),
        ({"seed": 2**63}, "seed must be"),
        ({"seed": "7"}, "seed must be 0 to 9.22337e+18, got '7'"),
        ({"failure_limit": 1.01}, "failure_limit must be 0 to 1, got 1.01"),
        ({"failure_limit": math.nan}, "failure_limit must be 0 to 1, got nan"),
        ({"budget": Budget(-5)}, "budget.tokens must be a number ≥ 0, got -5"),
        ({"gate": Gate(-0.1)}, "gate.max_p_value must be 0 to 1, got -0.1"),
        ({"gate": Gate(math.nan)}, "gate.max_p_value must be 0 to 1, got nan"),
        ({"sampling": Sampling(max_tokens=0)}, "max_tokens must be at least 1, got 0"),
    ],
)
def test_values_beyond_them_are_refused_with_the_range_and_the_value(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput, match=f"^{re.escape(message)}"):
        Settings(**settings)


def test_an_override_changes_its_fields_alone_and_leaves_the_original() -> None:
    part = Sampling(max_tokens=64)
    new = override(part, {"temperature": 0.3, "top_k": 5})
    assert (new.max_tokens, new.temperature, new.top_k) == (64, 0.3, 5)
    assert part == Sampling(max_tokens=64)
    assert override(part, {}) is part


def test_an_override_of_an_unknown_field_or_to_no_tokens_is_refused() -> None:
    with pytest.raises(BadInput, match=r"Sampling has no field 'temprature'; did you mean 'temperature'\?"):
        override(Sampling(max_tokens=8), {"temprature": 1.0})
    with pytest.raises(BadInput, match="TrainConfig has no field 'top_k'"):
        override(TrainConfig(), {"top_k": 1})
    with pytest.raises(BadInput, match="max_tokens must be at least 1, got -1"):
        override(Sampling(max_tokens=8), {"max_tokens": -1})


SAMPLING, TRAINING = sorted(Sampling.__dataclass_fields__), sorted(TrainConfig.__dataclass_fields__)


@given(st.dictionaries(st.sampled_from([*SAMPLING, *TRAINING]), st.integers()))
def test_keywords_are_split_between_sampling_and_training_and_none_is_lost(options: dict[str, int]) -> None:
    sampling, training = split_options(options)
    assert sampling | training == options
    assert sampling.keys() == options.keys() & set(SAMPLING)
    assert training.keys() == options.keys() & set(TRAINING)


def test_no_field_belongs_to_both_and_any_other_keyword_is_refused() -> None:
    assert not set(SAMPLING) & set(TRAINING)
    with pytest.raises(BadInput, match=r"no field 'learning_rat'; did you mean 'learning_rate'"):
        split_options({"temperature": 1.0, "learning_rat": 1e-4})


def test_a_count_is_positive_from_one_on() -> None:
    require_positive("samples", 1)
    with pytest.raises(BadInput, match="samples must be at least 1, got 0"):
        require_positive("samples", 0)
