"""Learning-rate schedules: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput

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
        total: number of steps of the training, which covers the schedule from `schedule_start` to `schedule_end`.
    """
    whole = total / (config.schedule_end - config.schedule_start)  # steps of the whole schedule
    place = step + config.schedule_start * whole
    warmup = max(1, round(config.warmup_ratio * whole))
    done = min(1.0, max(0.0, place - warmup) / max(1.0, whole - warmup))
    decayed = config.min_lr_ratio + (1 - config.min_lr_ratio) * SCHEDULES[config.schedule](done, config)
    return config.learning_rate * min((place + 1) / warmup, decayed)


def round_schedule(config: TrainConfig, number: int, rounds: int) -> dict[str, Any]:
    """Changes to `TrainConfig` that make round `number`, from 1, of `rounds` part of one training.

    One learning-rate schedule goes through all rounds, whatever their numbers of steps, and one optimizer state; with
    LoRA, where each round has a new adapter, the state is new.

    Raises:
        BadInput: there is no such round.
    """
    if not 1 <= number <= rounds:
        raise BadInput(f"there is no round {number} of {rounds}", where="round_schedule", fix="count from 1")
    span = {"schedule_start": (number - 1) / rounds, "schedule_end": number / rounds}
    return {**span, "keep_optimizer_state": not config.lora_rank}
