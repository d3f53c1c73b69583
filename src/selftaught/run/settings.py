"""The settings of a run."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from numbers import Integral
from typing import Any, TypeVar

from selftaught.control import Budget, Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput, suggest
from selftaught.learn import TrainConfig


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run, besides its model, task and method.

    Attributes:
        seed: of sampling and training.
        sampling: defaults of every request; methods and solvers change single fields.
        training: defaults of every training; methods change single fields.
        budget: most tokens to spend before the test split is opened.
        gate: when a policy is promoted.
        failure_limit: share of verifications that may fail (raise, time out, die) before the run stops.

    Raises:
        BadInput: a number is out of range.
    """

    seed: int = 0
    sampling: Sampling = field(default_factory=lambda: Sampling(max_tokens=256))
    training: TrainConfig = field(default_factory=TrainConfig)
    budget: Budget = field(default_factory=Budget)
    gate: Gate = field(default_factory=Gate)
    failure_limit: float = 0.5

    def __post_init__(self) -> None:
        _check_range("seed", self.seed, 0, 2**63 - 1)
        _check_range("failure_limit", self.failure_limit, 0, 1)
        require_positive("max_tokens", self.sampling.max_tokens)
        _check_range("budget.tokens", self.budget.tokens or 0, 0)
        _check_range("gate.max_p_value", self.gate.max_p_value, 0, 1)


Part = TypeVar("Part", Sampling, TrainConfig)


def override(part: Part, changes: Mapping[str, Any]) -> Part:
    """A copy of `part` with some fields changed.

    Raises:
        BadInput: it has no such field, or a value is out of range.
    """
    if not changes:
        return part
    known = part.__dataclass_fields__
    for name in changes:
        if name not in known:
            raise BadInput(f"{type(part).__name__} has no field {name!r}", fix=suggest(name, list(known)))
    new = replace(part, **changes)
    if isinstance(new, Sampling):
        require_positive("max_tokens", new.max_tokens)
    return new


def split_options(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Keywords of a verb that samples and trains, as fields of `Sampling` and fields of `TrainConfig`.

    Raises:
        BadInput: one is neither.
    """
    sampling, training = Sampling.__dataclass_fields__, TrainConfig.__dataclass_fields__
    for name in options:
        if name not in sampling and name not in training:
            raise BadInput(
                f"Sampling and TrainConfig have no field {name!r}", fix=suggest(name, [*sampling, *training])
            )
    return {k: v for k, v in options.items() if k in sampling}, {k: v for k, v in options.items() if k in training}


def require_positive(name: str, value: int) -> None:
    """Raise BadInput where a count is no whole number, or below 1."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise BadInput(f"{name} must be a whole number, got {value!r:.60}")
    if value < 1:
        raise BadInput(f"{name} must be at least 1, got {value}")


def _check_range(name: str, value: float, low: float, high: float = math.inf) -> None:
    if not (isinstance(value, (int, float)) and low <= value <= high and math.isfinite(value)):
        range_ = f"{low:g} to {high:g}" if math.isfinite(high) else f"a number ≥ {low:g}"
        raise BadInput(f"{name} must be {range_}, got {value!r}")
