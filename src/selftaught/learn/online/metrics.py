"""What a step of an online training came to, in figures."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from selftaught.learn.objectives.base import Batch
from selftaught.learn.online.plan import Plan
from selftaught.learn.online.rollouts import Rollout


def learnt_from(records: Sequence[Any]) -> dict[str, list[str]]:
    """The attempts behind a step's records, each once, to walk back from what was learnt."""
    return {"attempts": list(dict.fromkeys(name for record in records for name in record.attempts))}


class Watched:
    """Sums over the tokens of a step, from the batches that its losses were computed of.

    Args:
        low, high: where ratios are clipped, to tell how many were.
    """

    def __init__(self, low: float, high: float) -> None:
        self._low, self._high = low, high
        self._sums: defaultdict[str, float] = defaultdict(float)
        self._turns: dict[int, list[float]] = {}

    def look(self, batch: Batch) -> None:
        """Add a batch."""
        mask, logprobs = batch.mask, batch.logprobs.detach()
        self._sums["tokens"] += int(mask.sum())
        self._sums["entropy"] += float((-logprobs * mask).sum() if batch.entropy is None else batch.entropy.sum())
        if "old" in batch.tokens and "advantage" in batch.tokens:
            apart, gain = (logprobs - batch.tokens["old"]) * mask, batch.tokens["advantage"]
            ratio = apart.exp()
            over = ((ratio > 1 + self._high) & (gain > 0)) | ((ratio < 1 - self._low) & (gain < 0))
            self._sums["clipped"] += float((over * mask).sum())
            self._sums["moved"] += float(((apart.neg().exp() + apart - 1) * mask).sum())
        if "reference" in batch.tokens:
            apart = (batch.tokens["reference"] - logprobs) * mask
            each = ((apart.exp() - apart - 1) * mask).sum(-1)
            turns = batch.numbers["turn"].tolist()
            for turn, kl, count in zip(turns, each.tolist(), batch.lengths.tolist(), strict=True):
                known = self._turns.setdefault(int(turn), [0.0, 0.0])
                known[0] += kl
                known[1] += count

    def facts(self) -> dict[str, Any]:
        """Means a token: entropy in nats, share that was clipped, KL to the sampler, KL to the reference by turn."""
        count = self._sums["tokens"] or 1
        found = {"entropy": self._sums["entropy"] / count, "clip_fraction": self._sums["clipped"] / count}
        kl = {str(turn + 1): total / max(1.0, tokens) for turn, (total, tokens) in sorted(self._turns.items())}
        return found | {"kl_old": self._sums["moved"] / count, "kl": kl}


def facts_of(rolled: Sequence[Sequence[Rollout]], kept: Sequence[Any], plan: Plan) -> dict[str, Any]:
    """What the rollouts of a step were: mean reward and length, how many were right, unknown and skipped."""
    every = [one for group in rolled for one in group]
    rewards = [value for one in every if (value := plan.credit.reward(one)) is not None]
    length = [sum(turn.num_tokens for turn in one.turns) for one in every]
    return {
        "reward": mean(rewards), "right": mean([float(one.attempt.right) for one in every]),
        "unknown": sum(one.attempt.verdict == "unknown" for one in every), "length": mean(length),
        "rollouts": len(every), "skipped": len(rolled) - len(kept),
    }  # fmt: skip


def mean(values: Sequence[float]) -> float | None:
    """None of no values."""
    return sum(values) / len(values) if values else None
