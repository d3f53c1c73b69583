"""What a run is configured with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from selftaught.control import Budget, Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput, nearest
from selftaught.learn import Training


@dataclass(frozen=True, slots=True)
class Settings:
    """What a run is configured with, beside its model, task and method.

    Attributes:
        seed: of sampling and training.
        sampling: defaults of every question; methods and solvers change single fields.
        training: defaults of every learning; methods change single fields.
        budget: most tokens to spend before the test split is opened.
        gate: when a policy is promoted.
        failure_limit: share of verifications that may fail (raise, time out, die) before the run stops.

    Raises:
        BadInput: a number out of its range.
    """

    seed: int = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=256))
    training: Training = field(default_factory=Training)
    budget: Budget = field(default_factory=Budget)
    gate: Gate = field(default_factory=Gate)
    failure_limit: float = 0.5

    def __post_init__(self) -> None:
        _within("seed", self.seed, 0, 2**63 - 1)
        _within("failure_limit", self.failure_limit, 0, 1)
        at_least_one("max_tokens", self.sampling.max_tokens)
        _within("tokens", self.budget.tokens or 0, 0)
        _within("gate.max_p_value", self.gate.max_p_value, 0, 1)


Part = TypeVar("Part", Sampling, Training)


def changed(part: Part, changes: Mapping[str, Any]) -> Part:
    """`part` with some fields changed.

    Raises:
        BadInput: it has no such field, or a value is out of its range.
    """
    if not changes:
        return part
    known = part.__dataclass_fields__
    for name in changes:
        if name not in known:
            raise BadInput(f"{type(part).__name__} has no field {name!r}", fix=nearest(name, list(known)))
    new = replace(part, **changes)
    if isinstance(new, Sampling):
        at_least_one("max_tokens", new.max_tokens)
    return new


def training_settings(defaults: Training, lr_scale: float, changes: Mapping[str, Any]) -> Training:
    """`defaults` with some fields changed, and the learning rate multiplied by `lr_scale`.

    Raises:
        BadInput: there is no such field, or a value is out of its range.
    """
    if not (math.isfinite(lr_scale) and lr_scale > 0):
        raise BadInput(f"lr_scale must be more than 0, got {lr_scale}")
    new = changed(defaults, changes)
    return replace(new, learning_rate=lr_scale * new.learning_rate)


def at_least_one(name: str, value: int) -> None:
    """Raise BadInput where fewer than one of something is asked for."""
    if value < 1:
        raise BadInput(f"{name} is {value}, expected at least 1")


def _within(name: str, value: float, least: float, most: float = math.inf) -> None:
    if not (isinstance(value, (int, float)) and least <= value <= most and math.isfinite(value)):
        range_ = f"{least:g} to {most:g}" if math.isfinite(most) else f"a number, at least {least:g}"
        raise BadInput(f"{name} is {value!r}, expected {range_}")
