"""How the learning rate goes over the steps of a training: pure functions of the step."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from selftaught.learn.config import Training


def _constant(done: float, settings: Training) -> float:
    del done, settings
    return 1.0


def _linear(done: float, settings: Training) -> float:
    del settings
    return 1 - done


def _cosine(done: float, settings: Training) -> float:
    del settings
    return 0.5 * (1 + math.cos(math.pi * done))


def _wsd(done: float, settings: Training) -> float:
    """Warm-up, stable, decay: constant, then down by a straight line. Source: MiniCPM (Hu et al., 2404.06395)."""
    return min(1.0, (1 - done) / settings.cooldown) if settings.cooldown else 1.0


def _infinite(done: float, settings: Training) -> float:
    """Down by a cosine to a plateau, constant there as long as may be, then down by a power.

    Source: the "infinite" schedule of Ibrahim et al., "Simple and scalable strategies to continually pre-train large
    language models", 2403.08763, section 7.4: cooldown to a constant rate, constant, then exponential annealing.
    """
    share, plateau = settings.cooldown, settings.plateau
    if done < share:
        return plateau + (1 - plateau) * 0.5 * (1 + math.cos(math.pi * done / share))
    if done <= 1 - share or not share:
        return plateau
    return plateau * 0.01 ** ((done - (1 - share)) / share)


SHAPES: dict[str, Callable[[float, Training], float]] = {
    "cosine": _cosine, "linear": _linear, "constant": _constant, "wsd": _wsd, "infinite": _infinite,
}  # fmt: skip


def rate_at(step: int, total: int, settings: Training) -> float:
    """The learning rate of a step, counted from 0: a straight rise over the warm-up, then what the schedule says.

    Args:
        total: steps in all.
    """
    rising = max(1, round(settings.warmup * total))
    done = min(1.0, max(0, step - rising) / max(1, total - rising))
    return settings.learning_rate * min((step + 1) / rising, SHAPES[settings.schedule](done, settings))
