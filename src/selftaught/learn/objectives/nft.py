"""Negative-aware fine-tuning: likelihood of right answers, and of wrong ones under the policy that they imply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from selftaught.learn.checks import check_positive, check_range
from selftaught.learn.objectives.base import Batch, Group, Objective, Row, count_tokens
from selftaught.learn.objectives.sampled import check_rewards, row_from_attempt
from selftaught.records import RolloutGroup

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["nft"]

PROBLEM_WEIGHTS = {  # of a problem by its success rate, named by the method that the on-policy gradient equals
    "equal": lambda _: 1.0,
    "dr-grpo": lambda rate: 1 - rate,
    "grpo": lambda rate: ((1 - rate) / rate) ** 0.5,
}


def nft_loss(log_ratio: Tensor, right: Tensor, rate: Tensor, negative_weight: float, min_ratio: float) -> Tensor:
    """`[rows, tokens]`: -log R if right, -negative_weight * log max((1 - r R) / (1 - r), min_ratio) if wrong.

    R = exp(log_ratio) is p over the sampler's p; below `min_ratio` the gradient passes unchanged.

    Args:
        log_ratio: `[rows, tokens]`.
        right: `[rows, 1]`, 1 or 0.
        rate: `[rows, 1]`, success rate r of the row's problem, between 0 and 1.

    Source: Chen et al., "Bridging supervised learning and reinforcement learning in math reasoning", 2505.18116,
    and its code (github.com/NVlabs/NFT, dp_actor.py).
    """
    ratio = log_ratio.exp()
    implied = (1 - rate * ratio) / (1 - rate)
    kept = implied + (implied.clamp(min=min_ratio) - implied).detach()
    return -(right * log_ratio + negative_weight * (1 - right) * kept.log())


@dataclass(frozen=True, slots=True)
class Nft(Objective):
    """NFT on `RolloutGroup` records with rewards 0 and 1, averaged over the tokens of a step.

    Problems that are always or never solved are left out.

    Attributes:
        weighting: of problems: "equal", "dr-grpo" (1 - r) or "grpo" (sqrt((1 - r) / r)).
        negative_weight: weight of wrong answers; 0 is rejection sampling.
        min_ratio: smallest implied ratio.
        old_logprobs: where the sampler's log-probabilities come from (see `PolicyGradient`).
    """

    takes = (RolloutGroup,)
    weighting: Literal["equal", "dr-grpo", "grpo"] = "dr-grpo"
    negative_weight: float = 1.0
    min_ratio: float = 1.0
    old_logprobs: Literal["recorded", "initial"] = "recorded"
    name: str = "nft"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_positive(min_ratio=self.min_ratio)
        check_range(0, float("inf"), negative_weight=self.negative_weight)

    def rows(self, record: RolloutGroup, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The sampled tokens of each attempt; none if all are right or all wrong."""
        check_rewards(record, where, binary=True)
        if record.all_equal:
            return []
        rate = sum(record.rewards) / len(record.rewards)
        weight, made = PROBLEM_WEIGHTS[self.weighting](rate), []
        for attempt, reward in zip(record.samples, record.rewards, strict=True):
            row = row_from_attempt(attempt, tokenizer, where, recorded=self.old_logprobs == "recorded")
            made.append(replace(row, weight=weight, row_features={"right": reward, "rate": rate}))
        return made

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The initial weights' log-probabilities, unless they are recorded."""
        return frozenset({"initial"} if self.old_logprobs == "initial" else ())

    def normalizer(self, group: Group) -> float:
        """Completion tokens."""
        return count_tokens(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        old = batch.token_features["old_logprobs" if self.old_logprobs == "recorded" else "initial"]
        log_ratio = (batch.logprobs - old) * batch.mask
        right, rate = (batch.row_features[name][:, None] for name in ("right", "rate"))
        each = nft_loss(log_ratio, right, rate, self.negative_weight, self.min_ratio)
        return (each * batch.mask * batch.weights[:, None]).sum()


nft = Nft
