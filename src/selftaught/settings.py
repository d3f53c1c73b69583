"""What a run is configured with."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

from selftaught.control import Budget, Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput
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
        check_sampling(self.sampling)
        check_training(self.training)
        _within("tokens", self.budget.tokens or 0, 0)
        _within("gate.level", self.gate.level, 0, 1)


def check_sampling(sampling: Sampling) -> None:
    """Raise BadInput where not even one token is asked for; `Sampling` itself refuses the rest."""
    _within("max_tokens", sampling.max_tokens, 1)


def check_training(training: Training) -> None:
    """Raise BadInput where a number of `training` is out of its range."""
    for name in ("epochs", "batch", "micro_tokens"):
        _within(name, getattr(training, name), 1)
    for name in ("learning_rate", "weight_decay", "clip", "lora_rank"):
        _within(name, getattr(training, name), 0)
    _within("warmup", training.warmup, 0, 1)


def _within(name: str, value: float, least: float, most: float = math.inf) -> None:
    if not (isinstance(value, (int, float)) and least <= value <= most and math.isfinite(value)):
        range_ = f"{least:g} to {most:g}" if math.isfinite(most) else f"a number, at least {least:g}"
        raise BadInput(f"{name} is {value!r}, expected {range_}")
