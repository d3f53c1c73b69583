"""Policy gradients on sampled tokens: REINFORCE, RLOO, GRPO, Dr. GRPO, with clipping, KL anchors and entropy."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput, suggest
from selftaught.learn.objectives.advantages import BASELINES
from selftaught.learn.objectives.base import Base, Batch, Group, Row, check_within, rows_of, tokens_of
from selftaught.learn.objectives.rollouts import Rollouts, sampled_row
from selftaught.records import Credit

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

CHOICES = {
    "baseline": tuple(BASELINES), "level": ("token", "sequence", "mean"), "mean": ("row", "token", "constant"),
    "old": ("recorded", "start", "now"), "kl_in": ("loss", "reward"),
}  # fmt: skip


def surrogate(log_ratio: Tensor, advantages: Tensor, low: float, high: float) -> Tensor:
    """-min(R A, clip(R, 1 - low, 1 + high) A) with R = exp(log_ratio), of the shape of what is given.

    Source: PPO (Schulman et al., 1707.06347, equation 7); two ends: DAPO (2503.14476).
    """
    import torch

    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - low, 1 + high) * advantages)


def kl_to(logprobs: Tensor, reference: Tensor) -> Tensor:
    """p_ref/p - log(p_ref/p) - 1 for each sampled token: never negative, KL(p || p_ref) on average.

    Source: Schulman, "Approximating KL divergence", 2020, estimator k3; GRPO (2402.03300, equation 4).
    """
    apart = reference - logprobs
    return apart.exp() - apart - 1


@dataclass(frozen=True, slots=True)
class PolicyGradient(Base):
    """Policy gradient on `Rollouts` (advantages within the group) or `Credit` records (advantages as given).

    L = mean of [ surrogate + kl * KL to the reference - entropy * H ]

    A group whose rewards are all equal is left out, by its rewards as they are given. A credit's own `kl` is
    added to `kl`: turns of a conversation are credits, so that each turn has an anchor of its own (SCoRe,
    2409.12917, equations 3 and 4). `make` it by `grpo`, `dr_grpo`, `rloo` or `reinforce`.

    Attributes:
        baseline: how rewards become advantages: "standardised", "centred", "leave-one-out", "none".
        level: what a ratio is of: a "token", the whole "sequence", or its geometric "mean" (GSPO, 2507.18071).
        mean: over the tokens of each "row", then the rows; over every "token" of the step (DAPO); or a sum over
            tokens divided by the "constant" `max_tokens`, then the mean of rows (Dr. GRPO).
        max_tokens: see `mean`.
        low, high: the ratio is clipped to 1 - low .. 1 + high; infinity clips nothing.
        kl: weight of the KL to the reference.
        kl_in: add it to the "loss", or take kl * log p_old/p_ref of the sequence off the "reward" (RLOO).
        kl_weighed: weigh the KL of the loss by the ratio, which makes its gradient that of KL(p || p_ref) also for
            the sampler's tokens (DeepSeek-V3.2, 2512.02556; TRL's default); GRPO's paper does not.
        entropy: weight of the mean entropy of the distributions sampled from, in nats.
        old: where the log-probabilities of the sampler come from: "recorded" with the attempts, the weights that
            training starts from ("start"), or the weights as they are "now" (ratio 1: on-policy only).
        reference: the policy to stay near; None for the one that training starts from.
    """

    takes = (Rollouts, Credit)
    baseline: str = "standardised"
    level: str = "token"
    mean: str = "row"
    max_tokens: int = 0
    low: float = 0.2
    high: float = 0.2
    kl: float = 0.0
    kl_in: str = "loss"
    kl_weighed: bool = True
    entropy: float = 0.0
    old: str = "recorded"
    reference: Policy | None = None
    name: str = "policy-gradient"

    def __post_init__(self) -> None:
        for name, known in CHOICES.items():
            if getattr(self, name) not in known:
                raise BadInput(f"unknown {getattr(self, name)!r}", where=name, fix=suggest(getattr(self, name), known))
        check_within(0, math.inf, kl=self.kl, entropy=self.entropy)
        if not (self.low >= 0 and self.high >= 0):
            raise BadInput(f"got {self.low} and {self.high}", where="low, high", fix="use 0 or more")
        if self.mean == "constant" and self.max_tokens < 1:
            raise BadInput(f"got {self.max_tokens}", where="max_tokens", fix="give the most tokens that were sampled")

    def rows(self, record: Any, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The sampled tokens of each attempt with their advantages; none where all rewards are equal."""
        if isinstance(record, Credit):
            return [self._credited(record, tokenizer, where)]
        record.check(where)
        if record.even:
            return []
        made = []
        for attempt, reward, gain in zip(
            record.samples, record.rewards, BASELINES[self.baseline](record.rewards), strict=True
        ):
            row = sampled_row(attempt, tokenizer, where, recorded=self.old == "recorded")
            facts = {**row.tokens, "advantage": (gain,) * len(row.target)}
            made.append(replace(row, numbers={"kl": self.kl, "reward": reward}, tokens=facts))
        return made

    def _credited(self, record: Credit, tokenizer: ChatTokenizer, where: str) -> Row:
        row = sampled_row(record.attempt, tokenizer, where, recorded=self.old == "recorded")
        if len(record.advantages) != len(row.target) or not all(map(math.isfinite, record.advantages)):
            raise BadInput(
                f"it has {len(record.advantages)} advantages for {len(row.target)} tokens, or one that is no number",
                where=where,
                fix="give one finite advantage for each token",
            )
        if self.kl_in == "reward" and (self.kl or record.kl):
            raise BadInput("a KL within the reward needs the whole group", where=where, fix="use Rollouts records")
        return replace(row, numbers={"kl": self.kl + record.kl}, tokens={**row.tokens, "advantage": record.advantages})

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:
        """The reference if any row is anchored, the entropy if it is rewarded, the sampler if it is not recorded."""
        wanted = {"reference": any(row.numbers["kl"] for row in rows), "start": self.old == "start"}
        return frozenset(name for name, needed in (wanted | {"entropy": self.entropy > 0}).items() if needed)

    def size(self, group: Group) -> float:
        """Target tokens for a mean over tokens, else rows."""
        return tokens_of(group) if self.mean == "token" else rows_of(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        old = (
            batch.logprobs.detach() if self.old == "now" else batch.tokens["old" if self.old == "recorded" else "start"]
        )
        advantages = self._advantages(batch, old)
        log_ratio = (batch.logprobs - old) * batch.mask
        if self.level == "token":
            ratio = log_ratio.exp()
            total = self._over_tokens(surrogate(log_ratio, advantages, self.low, self.high), batch)
        else:
            whole = log_ratio.sum(-1) / (batch.lengths if self.level == "mean" else 1)
            ratio = whole.exp()[:, None]
            total = surrogate(whole, _mean(advantages, batch), self.low, self.high)
            total = total * (batch.lengths if self.mean == "token" else 1)
        if self.kl_in == "loss" and "reference" in batch.tokens:
            apart = kl_to(batch.logprobs, batch.tokens["reference"]) * (ratio if self.kl_weighed else 1)
            total = total + batch.numbers["kl"] * self._over_tokens(apart, batch)
        if batch.entropy is not None:
            total = total - self.entropy * self._over_tokens(batch.entropy, batch)
        return (total * batch.weights).sum()

    def _over_tokens(self, values: Tensor, batch: Batch) -> Tensor:
        """`[rows]` from `[rows, tokens]`, as `mean` says."""
        if self.mean == "row":
            return _mean(values, batch)
        return (values * batch.mask).sum(-1) / (self.max_tokens if self.mean == "constant" else 1)

    def _advantages(self, batch: Batch, old: Tensor) -> Tensor:
        """`[rows, tokens]`; computed anew where the KL to the reference counts as reward."""
        if self.kl_in == "loss" or not self.kl:
            return batch.tokens["advantage"]
        apart = ((old - batch.tokens["reference"]) * batch.mask).sum(-1)
        groups = batch.by_group(batch.numbers["reward"] - self.kl * apart)
        gains = [g for group in groups for g in BASELINES[self.baseline](group.tolist())]
        return batch.mask * batch.mask.new_tensor(gains)[:, None]


def _mean(values: Tensor, batch: Batch) -> Tensor:
    return (values * batch.mask).sum(-1) / batch.lengths


def grpo(kl: float = 0.0, **settings: Any) -> PolicyGradient:
    """Group relative policy optimisation (2402.03300): standardised rewards, clipped ratios, mean of row means."""
    return PolicyGradient(**{"kl": kl, "name": "grpo", **settings})


def dr_grpo(max_tokens: int, **settings: Any) -> PolicyGradient:
    """Dr. GRPO (2503.20783): centred rewards, and every row divided by the same length."""
    return PolicyGradient(
        **{"baseline": "centred", "mean": "constant", "max_tokens": max_tokens, "name": "dr-grpo", **settings}
    )


def rloo(kl: float = 0.0, **settings: Any) -> PolicyGradient:
    """REINFORCE leave-one-out (2402.14740): one action is a whole response, KL within the reward."""
    usual = {"baseline": "leave-one-out", "level": "sequence", "kl": kl, "kl_in": "reward", "name": "rloo"}
    return PolicyGradient(**(usual | settings))


def reinforce(baseline: str = "centred", **settings: Any) -> PolicyGradient:
    """REINFORCE with a baseline (Williams, 1992): - A sum_t log p(y_t), whose ratio is not clipped."""
    usual = {"baseline": baseline, "mean": "constant", "max_tokens": 1, "low": math.inf, "high": math.inf, "old": "now"}
    return PolicyGradient(**({**usual, "name": "reinforce"} | settings))
