"""Metrics of a step of an online training."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from selftaught.learn.objectives.base import Batch
from selftaught.learn.online.config import OnlineConfig
from selftaught.learn.online.rollouts import Rollout, agree
from selftaught.records import Record


def source_attempts(records: Sequence[Record]) -> dict[str, list[str]]:
    """The ids of the attempts that a step's records were made from, each once, for the lineage."""
    return {"attempts": list(dict.fromkeys(name for record in records for name in record.attempts))}


class StepMetrics:
    """Sums over the tokens of a step, from the batches of its losses.

    Args:
        clip_low, clip_high: the objective's clip range, for the clipped fraction.
    """

    def __init__(self, clip_low: float, clip_high: float) -> None:
        self._clip_low, self._clip_high = clip_low, clip_high
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._turns: dict[int, list[float]] = {}

    def update(self, batch: Batch) -> None:
        """Add a batch."""
        mask, logprobs, features = batch.mask, batch.logprobs.detach(), batch.token_features
        self._sums["tokens"] += int(mask.sum())
        self._sums["entropy"] += float((-logprobs * mask).sum() if batch.entropy is None else batch.entropy.sum())
        if "old_logprobs" in features and "advantage" in features:
            log_ratio, advantage = (logprobs - features["old_logprobs"]) * mask, features["advantage"]
            ratio = log_ratio.exp()
            too_high = (ratio > 1 + self._clip_high) & (advantage > 0)
            too_low = (ratio < 1 - self._clip_low) & (advantage < 0)
            self._sums["clipped"] += float(((too_high | too_low) * mask).sum())
            self._sums["kl_old"] += float(((log_ratio.neg().exp() + log_ratio - 1) * mask).sum())
        if "reference" in features:
            self._add_kl(batch, (features["reference"] - logprobs) * mask)

    def _add_kl(self, batch: Batch, log_ratio: Any) -> None:
        each = ((log_ratio.exp() - log_ratio - 1) * batch.mask).sum(-1)
        turns = batch.row_features["turn"].tolist()
        for turn, kl, count in zip(turns, each.tolist(), batch.lengths.tolist(), strict=True):
            known = self._turns.setdefault(int(turn), [0.0, 0.0])
            known[0] += kl
            known[1] += count

    def metrics(self) -> dict[str, Any]:
        """Means over tokens: entropy in nats, clipped fraction, KL to the sampler, KL to the reference by turn."""
        count = self._sums["tokens"] or 1
        found = {"entropy": self._sums["entropy"] / count, "clip_fraction": self._sums["clipped"] / count}
        kl = {str(turn + 1): total / max(1.0, tokens) for turn, (total, tokens) in sorted(self._turns.items())}
        return found | {"kl_old": self._sums["kl_old"] / count, "kl": kl}


def rollout_metrics(
    rolled: Sequence[Sequence[Rollout]], kept: Sequence[Sequence[Rollout]], config: OnlineConfig
) -> dict[str, Any]:
    """Figures of a step's rollouts: mean reward and length, how many are right, unknown, and skipped or agree."""
    every = [one for group in rolled for one in group]
    rewards = [value for one in every if (value := config.credit.reward_of(one)) is not None]
    length = [sum(turn.num_tokens for turn in one.turns) for one in every]
    credit = config.credit
    more = {"unrewarded": len(every) - len(rewards)} if credit.deferred else {}
    more |= {} if credit.skip_agreeing else {"agreeing": sum(agree(group, credit) for group in kept)}
    return more | {
        "reward": mean(rewards), "right": mean([float(one.attempt.right) for one in every]),
        "unknown": sum(one.attempt.verdict == "unknown" for one in every), "length": mean(length),
        "rollouts": len(every), "skipped": len(rolled) - len(kept),
    }  # fmt: skip


def mean(values: Sequence[float]) -> float | None:
    """The mean; None of no values."""
    return sum(values) / len(values) if values else None
