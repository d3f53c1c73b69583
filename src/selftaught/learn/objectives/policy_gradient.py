"""Policy gradients on sampled tokens: REINFORCE, RLOO, GRPO, Dr. GRPO, with clipping, KL penalty and entropy bonus."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal

from selftaught.errors import BadInput
from selftaught.learn.checks import check_range
from selftaught.learn.objectives.advantages import ADVANTAGE_ESTIMATORS
from selftaught.learn.objectives.base import Batch, Group, Objective, Row, count_rows, count_tokens
from selftaught.learn.objectives.sampled import check_rewards, row_from_attempt
from selftaught.records import RolloutGroup, TokenAdvantages

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

__all__ = ["dr_grpo", "grpo", "policy_gradient", "reinforce", "rloo"]


def clipped_surrogate(log_ratio: Tensor, advantages: Tensor, clip_low: float, clip_high: float) -> Tensor:
    """-min(R A, clip(R, 1 - clip_low, 1 + clip_high) A) with R = exp(log_ratio), elementwise.

    Source: PPO (Schulman et al., 1707.06347, equation 7); two ends: DAPO (2503.14476).
    """
    import torch

    ratio = log_ratio.exp()
    return -torch.minimum(ratio * advantages, ratio.clamp(1 - clip_low, 1 + clip_high) * advantages)


def kl_estimate(logprobs: Tensor, reference: Tensor) -> Tensor:
    """p_ref/p - log(p_ref/p) - 1 for each sampled token: never negative, KL(p || p_ref) on average.

    Source: Schulman, "Approximating KL divergence", 2020, estimator k3; GRPO (2402.03300, equation 4).
    """
    log_ratio = reference - logprobs
    return log_ratio.exp() - log_ratio - 1


@dataclass(frozen=True, slots=True)
class PolicyGradient(Objective):
    """Policy gradient on `RolloutGroup` (advantages within the group) or `TokenAdvantages` records.

    L = mean of [ surrogate + kl_coef * KL to the reference - entropy_coef * H ]

    A group with equal rewards is left out. A record's own `kl_coef` is added to this one's, so that each turn of a
    conversation, as a `TokenAdvantages` record, can have its own KL coefficient (SCoRe, 2409.12917, equations 3 and 4).
    `grpo`, `dr_grpo`, `rloo` and `reinforce` are presets.

    Attributes:
        advantage: how rewards become advantages (see `objectives.advantages`).
        importance_level: the probability ratio is of each "token", of the whole "sequence", or "sequence_mean", the
            geometric mean over its tokens (GSPO, 2507.18071).
        loss_aggregation: "seq-mean-token-mean" averages over the tokens of each sequence, then over sequences;
            "token-mean" over all tokens of the step (DAPO); "seq-mean-token-sum-norm" divides the sum over a
            sequence's tokens by `max_tokens`, then averages over sequences (Dr. GRPO).
        max_tokens: see `loss_aggregation`.
        clip_low, clip_high: the ratio is clipped to 1 - clip_low .. 1 + clip_high; infinity clips nothing.
        kl_coef: weight of the KL to the reference.
        kl_placement: add it to the "loss", or subtract kl_coef * log p_old/p_ref of the sequence from the "reward"
            (RLOO).
        kl_importance_weighted: multiply the KL of the loss by the ratio, which makes its gradient that of
            KL(p || p_ref) for the sampler's tokens too (DeepSeek-V3.2, 2512.02556; TRL's default); GRPO's paper does
            not.
        entropy_coef: weight of the mean entropy in nats of the sampled distributions.
        old_logprobs: the sampler's log-probabilities: "recorded" with the attempts, from the "initial" weights of the
            training, or from the "current" ones (ratio 1: on-policy only).
        reference: see `Objective`.
    """

    takes = (RolloutGroup, TokenAdvantages)
    advantage: Literal["group_std", "group_mean", "leave_one_out", "none"] = "group_std"
    importance_level: Literal["token", "sequence", "sequence_mean"] = "token"
    loss_aggregation: Literal["seq-mean-token-mean", "token-mean", "seq-mean-token-sum-norm"] = "seq-mean-token-mean"
    max_tokens: int = 0
    clip_low: float = 0.2
    clip_high: float = 0.2
    kl_coef: float = 0.0
    kl_placement: Literal["loss", "reward"] = "loss"
    kl_importance_weighted: bool = True
    entropy_coef: float = 0.0
    old_logprobs: Literal["recorded", "initial", "current"] = "recorded"
    reference: Policy | None = None
    name: str = "policy-gradient"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_range(0, math.inf, kl_coef=self.kl_coef, entropy_coef=self.entropy_coef)
        if not (0 <= self.clip_low < 1 or self.clip_low == math.inf):
            fix = "use at least 0 and less than 1, or infinity to clip nothing"
            raise BadInput(f"must be in [0, 1), got {self.clip_low}", where="clip_low", fix=fix)
        if not self.clip_high >= 0:
            raise BadInput(f"must be ≥ 0, got {self.clip_high}", where="clip_high", fix="use 0 or more")
        if self.loss_aggregation == "seq-mean-token-sum-norm" and self.max_tokens < 1:
            got = f"must be ≥ 1, got {self.max_tokens}"
            raise BadInput(got, where="max_tokens", fix="use the max_tokens of sampling")

    @property
    def advantage_estimator(self) -> str:
        """See `Objective.advantage_estimator`."""
        return self.advantage

    @property
    def clip_range(self) -> tuple[float, float]:
        """See `Objective.clip_range`."""
        return self.clip_low, self.clip_high

    def rows(self, record: Any, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The sampled tokens of each attempt with their advantages; none if all rewards are equal."""
        recorded = self.old_logprobs == "recorded"
        if isinstance(record, TokenAdvantages):
            return [
                self._with_advantages(
                    row_from_attempt(record.attempt, tokenizer, where, recorded=recorded), record, where
                )
            ]
        check_rewards(record, where)
        if record.all_equal:
            return []
        advantages, made = ADVANTAGE_ESTIMATORS[self.advantage](record.rewards), []
        for attempt, reward, advantage in zip(record.samples, record.rewards, advantages, strict=True):
            row = row_from_attempt(attempt, tokenizer, where, recorded=recorded)
            features = {**row.token_features, "advantage": (advantage,) * len(row.completion)}
            numbers = {"kl_coef": self.kl_coef, "reward": reward}
            made.append(replace(row, row_features=numbers, token_features=features))
        return made

    def _with_advantages(self, row: Row, record: TokenAdvantages, where: str) -> Row:
        advantages = record.advantages
        if len(advantages) != len(row.completion) or not all(map(math.isfinite, advantages)):
            counts = f"has {len(advantages)} advantages for {len(row.completion)} tokens, or one that is NaN or inf"
            raise BadInput(counts, where=where, fix="give one finite advantage for each token")
        if self.kl_placement == "reward" and (self.kl_coef or record.kl_coef):
            problem = 'kl_placement="reward" needs the whole group'
            raise BadInput(problem, where=where, fix="use RolloutGroup records")
        features = {**row.token_features, "advantage": advantages}
        return replace(row, row_features={"kl_coef": self.kl_coef + record.kl_coef}, token_features=features)

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:
        """The reference if any row has a KL penalty, the entropy if it is rewarded, the sampler if not recorded."""
        wanted = {
            "reference": any(row.row_features["kl_coef"] for row in rows),
            "initial": self.old_logprobs == "initial",
            "entropy": self.entropy_coef > 0,
        }
        return frozenset(name for name, required in wanted.items() if required)

    def normalizer(self, group: Group) -> float:
        """Completion tokens for a mean over tokens, else rows."""
        return count_tokens(group) if self.loss_aggregation == "token-mean" else count_rows(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        old = self._old_logprobs(batch)
        total, ratio = self._policy_loss(batch, old)
        if self.kl_placement == "loss" and "reference" in batch.token_features:
            kl = kl_estimate(batch.logprobs, batch.token_features["reference"])
            kl = kl * (ratio if self.kl_importance_weighted else 1)
            total = total + batch.row_features["kl_coef"] * self._aggregate(kl, batch)
        if batch.entropy is not None:
            total = total - self.entropy_coef * self._aggregate(batch.entropy, batch)
        return (total * batch.weights).sum()

    def _old_logprobs(self, batch: Batch) -> Tensor:
        if self.old_logprobs == "current":
            return batch.logprobs.detach()
        return batch.token_features["old_logprobs" if self.old_logprobs == "recorded" else "initial"]

    def _policy_loss(self, batch: Batch, old: Tensor) -> tuple[Tensor, Tensor]:
        """The surrogate loss `[rows]`, and the ratios, `[rows, tokens]` or `[rows, 1]`."""
        advantages, log_ratio = self._advantages(batch, old), (batch.logprobs - old) * batch.mask
        if self.importance_level == "token":
            each = clipped_surrogate(log_ratio, advantages, self.clip_low, self.clip_high)
            return self._aggregate(each, batch), log_ratio.exp()
        whole = log_ratio.sum(-1) / (batch.lengths if self.importance_level == "sequence_mean" else 1)
        total = clipped_surrogate(whole, _token_mean(advantages, batch), self.clip_low, self.clip_high)
        return total * (batch.lengths if self.loss_aggregation == "token-mean" else 1), whole.exp()[:, None]

    def _aggregate(self, values: Tensor, batch: Batch) -> Tensor:
        """`[rows]` from `[rows, tokens]`, by `loss_aggregation`."""
        if self.loss_aggregation == "seq-mean-token-mean":
            return _token_mean(values, batch)
        norm = self.max_tokens if self.loss_aggregation == "seq-mean-token-sum-norm" else 1
        return (values * batch.mask).sum(-1) / norm

    def _advantages(self, batch: Batch, old: Tensor) -> Tensor:
        """`[rows, tokens]`; computed again if the KL to the reference is part of the reward."""
        if self.kl_placement == "loss" or not self.kl_coef:
            return batch.token_features["advantage"]
        log_ratios = ((old - batch.token_features["reference"]) * batch.mask).sum(-1)
        groups = batch.by_group(batch.row_features["reward"] - self.kl_coef * log_ratios)
        advantages = [a for group in groups for a in ADVANTAGE_ESTIMATORS[self.advantage](group.tolist())]
        return batch.mask * batch.mask.new_tensor(advantages)[:, None]


def _token_mean(values: Tensor, batch: Batch) -> Tensor:
    return (values * batch.mask).sum(-1) / batch.lengths


policy_gradient = PolicyGradient


def grpo(kl_coef: float = 0.0, **settings: Any) -> PolicyGradient:
    """Group relative policy optimization (2402.03300): standardized rewards, clipped ratios, mean of sequence means.

    Args:
        kl_coef: weight of the KL to the reference.
        settings: other fields of `PolicyGradient`.
    """
    return PolicyGradient(**{"kl_coef": kl_coef, "name": "grpo", **settings})


def dr_grpo(max_tokens: int, **settings: Any) -> PolicyGradient:
    """Dr. GRPO (2503.20783): centered rewards, and every sequence's sum divided by the same `max_tokens`."""
    preset = {"advantage": "group_mean", "loss_aggregation": "seq-mean-token-sum-norm", "max_tokens": max_tokens}
    return PolicyGradient(**{**preset, "name": "dr-grpo", **settings})


def rloo(kl_coef: float = 0.0, **settings: Any) -> PolicyGradient:
    """REINFORCE leave-one-out (2402.14740): one action is a whole response, and the KL is part of the reward."""
    preset = {
        "advantage": "leave_one_out",
        "importance_level": "sequence",
        "kl_coef": kl_coef,
        "kl_placement": "reward",
    }
    return PolicyGradient(**{**preset, "name": "rloo", **settings})


def reinforce(advantage: str = "group_mean", **settings: Any) -> PolicyGradient:
    """REINFORCE with a baseline (Williams, 1992): - A sum_t log p(y_t), without clipping."""
    preset = {
        "loss_aggregation": "seq-mean-token-sum-norm",
        "max_tokens": 1,
        "clip_low": math.inf,
        "clip_high": math.inf,
    }
    return PolicyGradient(
        **{"advantage": advantage, **preset, "old_logprobs": "current", "name": "reinforce", **settings}
    )
