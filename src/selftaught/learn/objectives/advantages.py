"""From the rewards of a group of rollouts of one problem to their advantages. Plain numbers in, plain numbers out."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from selftaught.errors import BadInput


def centred(rewards: Sequence[float]) -> list[float]:
    """r_i - mean r. Source: Dr. GRPO (Liu et al., 2503.20783), without a division by the deviation."""
    mean = sum(rewards) / len(rewards)
    return [r - mean for r in rewards]


def standardised(rewards: Sequence[float], *, correction: int = 1, eps: float = 1e-4) -> list[float]:
    """(r_i - mean r) / (std r + eps). Source: GRPO (Shao et al., 2402.03300).

    Args:
        correction: 1 divides the squares by n - 1, as TRL does; 0 by n.
        eps: added to the deviation, as TRL does.
    """
    around = centred(rewards)
    deviation = math.sqrt(sum(a * a for a in around) / max(1, len(rewards) - correction))
    return [a / (deviation + eps) for a in around]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """r_i - mean of the other rewards. Source: RLOO (Ahmadian et al., 2402.14740).

    Raises:
        BadInput: fewer than two rewards.
    """
    if len(rewards) < 2:
        raise BadInput("got one reward", where="leave_one_out", fix="draw two samples or more for each problem")
    total = sum(rewards)
    return [r - (total - r) / (len(rewards) - 1) for r in rewards]


def unchanged(rewards: Sequence[float]) -> list[float]:
    """The rewards themselves: REINFORCE without a baseline (Williams, 1992)."""
    return list(rewards)


BASELINES: dict[str, Callable[[Sequence[float]], list[float]]] = {
    "standardised": standardised, "centred": centred, "leave-one-out": leave_one_out, "none": unchanged,
}  # fmt: skip


def correction_bonus(first: float, second: float, alpha: float = 10.0) -> float:
    """What SCoRe adds to the reward of a second attempt: alpha * (second - first).

    Source: Kumar et al., "Training language models to self-correct via reinforcement learning", 2409.12917.
    """
    return alpha * (second - first)
