"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftaught.learn.config import TrainConfig


def _constant(done: float, config: TrainConfig) -> float:
    del done, config
    return 1.0


def _linear(done: float, config: TrainConfig) -> float:
    del config
    return 1 - done


def _cosine(done: float, config: TrainConfig) -> float:
    del config
    return 0.5 * (1 + math.cos(math.pi * done))


def _wsd(done: float, config: TrainConfig) -> float:
    """Warmup-stable-decay: constant, then a linear decay. Source: MiniCPM (Hu et al., 2404.06395)."""
    return min(1.0, (1 - done) / config.decay_ratio) if config.decay_ratio else 1.0


def _infinite(done: float, config: TrainConfig) -> float:
    """Cosine cooldown to a constant rate, then constant, then exponential annealing.

    Source: the "infinite" schedule of Ibrahim et al., "Simple and scalable strategies to continually pre-train large
    language models", 2403.08763, section 7.4.
    """
    share, constant = config.decay_ratio, config.constant_lr_ratio
    if done < share:
        return constant + (1 - constant) * 0.5 * (1 + math.cos(math.pi * done / share))
    if done <= 1 - share or not share:
        return constant
    return constant * 0.01 ** ((done - (1 - share)) / share)


SCHEDULES: dict[str, Callable[[float, TrainConfig], float]] = {
    "cosine": _cosine, "linear": _linear, "constant": _constant, "wsd": _wsd, "infinite": _infinite,
}  # fmt: skip
"""Name -> multiplier of the peak rate, from the fraction of the steps after the warm-up that is done."""


def learning_rate_at(step: int, total: int, config: TrainConfig) -> float:
    """The learning rate of a step, counted from 0: a linear warm-up, then the schedule.

    Args:
        total: number of steps of the training.
    """
    warmup = max(1, round(config.warmup_ratio * total))
    done = min(1.0, max(0, step - warmup) / max(1, total - warmup))
    decayed = config.min_lr_ratio + (1 - config.min_lr_ratio) * SCHEDULES[config.schedule](done, config)
    return config.learning_rate * min((step + 1) / warmup, decayed)
