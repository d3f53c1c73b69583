"""Advantage estimators: from the rewards of one problem's rollouts to their advantages, as plain numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from selftaught.errors import BadInput


def group_mean(rewards: Sequence[float]) -> list[float]:
    """r_i - mean r. Source: Dr. GRPO (Liu et al., 2503.20783), without division by the standard deviation."""
    mean = sum(rewards) / len(rewards)
    return [r - mean for r in rewards]


def group_std(rewards: Sequence[float], *, correction: int = 1, eps: float = 1e-4) -> list[float]:
    """(r_i - mean r) / (std r + eps). Source: GRPO (Shao et al., 2402.03300).

    Args:
        correction: 1 divides the squares by n - 1, as TRL does; 0 by n.
        eps: added to the standard deviation, as TRL does.
    """
    centered = group_mean(rewards)
    deviation = math.sqrt(sum(a * a for a in centered) / max(1, len(rewards) - correction))
    return [a / (deviation + eps) for a in centered]


def leave_one_out(rewards: Sequence[float]) -> list[float]:
    """r_i - mean of the other rewards. Source: RLOO (Ahmadian et al., 2402.14740).

    Raises:
        BadInput: fewer than two rewards.
    """
    if len(rewards) < 2:
        raise BadInput("needs two rewards, got one", where="leave_one_out", fix="draw two samples or more per problem")
    total = sum(rewards)
    return [r - (total - r) / (len(rewards) - 1) for r in rewards]


def no_baseline(rewards: Sequence[float]) -> list[float]:
    """The rewards themselves: REINFORCE without a baseline (Williams, 1992)."""
    return list(rewards)


ADVANTAGE_ESTIMATORS: dict[str, Callable[[Sequence[float]], list[float]]] = {
    "group_std": group_std, "group_mean": group_mean, "leave_one_out": leave_one_out, "none": no_baseline,
}  # fmt: skip


def correction_bonus(first: float, second: float, alpha: float = 10.0) -> float:
    """SCoRe's reward bonus for the second attempt: alpha * (second - first).

    Source: Kumar et al., "Training language models to self-correct via reinforcement learning", 2409.12917.
    """
    return alpha * (second - first)
