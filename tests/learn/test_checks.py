"""Settings are checked in one place: choices by their types, numbers by their ranges."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal, get_args

import pytest
from objective_table import TABLE

from selftaught.errors import BadInput
from selftaught.learn import Objective, TrainConfig
from selftaught.learn.checks import _choices, check_positive, check_range
from selftaught.learn.objectives.policy_gradient import PolicyGradient

SETTINGS = [TrainConfig(), *{type(entry.objective): entry.objective for entry in TABLE}.values()]


@pytest.mark.parametrize("settings", SETTINGS, ids=lambda settings: type(settings).__name__)
def test_every_choice_of_a_literal_is_checked_and_the_nearest_is_named(settings: Any) -> None:
    literal = {f.name for f in type(settings).__dataclass_fields__.values() if str(f.type).startswith("Literal")}
    assert _choices(type(settings)).keys() == literal
    for name, choices in _choices(type(settings)).items():
        with pytest.raises(BadInput, match=f"{name}: unknown '{choices[0]}x'") as caught:
            replace(settings, **{name: f"{choices[0]}x"})
        assert choices[0] in caught.value.fix


def test_an_objective_of_ones_own_has_its_choices_checked_too() -> None:
    mode = Literal["one", "two"]

    @dataclass(frozen=True)
    class Mine(Objective):
        mode: Literal["one", "two"] = "one"
        name: str = "mine"

    assert _choices(Mine) == {"mode": get_args(mode)}
    assert Mine("two").mode == "two"
    with pytest.raises(BadInput, match="mode: unknown 'three'"):
        Mine("three")  # pyright: ignore[reportArgumentType]


def test_what_the_trainer_reads_has_a_default_that_means_none() -> None:
    plain = Objective()
    assert (plain.reference, plain.teacher, plain.ema_teacher, plain.advantage_estimator) == (None,) * 4
    assert (plain.teacher_top_k, plain.value_outputs) == (0, 1)
    assert plain.clip_range == (float("inf"), float("inf"))
    clipped = PolicyGradient(clip_low=0.1, clip_high=0.3, advantage="group_mean")
    assert (clipped.clip_range, clipped.advantage_estimator) == ((0.1, 0.3), "group_mean")


@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_a_number_out_of_range_is_one_line(value: float) -> None:
    with pytest.raises(BadInput, match=f"beta: must be above 0, got {value}"):
        check_positive(beta=value)
    if value != 0:
        with pytest.raises(BadInput, match=rf"tau: must be in \[0, 1\), got {value}"):
            check_range(0, 1, tau=value)
