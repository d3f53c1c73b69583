"""Negative-aware fine-tuning: likelihood of right answers, and of wrong ones under the policy they imply."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selftaught.errors import BadInput, suggest
from selftaught.learn.objectives.base import Base, Batch, Group, Row, check_positive, check_within, tokens_of
from selftaught.learn.objectives.rollouts import Rollouts, sampled_row

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

WEIGHTS = {  # of a problem, by its success rate: what the gradient equals on-policy
    "equal": lambda _: 1.0,
    "dr-grpo": lambda rate: 1 - rate,
    "grpo": lambda rate: ((1 - rate) / rate) ** 0.5,
}


def nft_loss(log_ratio: Tensor, right: Tensor, rate: Tensor, negative: float, floor: float) -> Tensor:
    """`[rows, tokens]`: -log R where right, -negative * log max((1 - r R) / (1 - r), floor) where wrong.

    R = exp(log_ratio), p over the p that sampled; below its floor the gradient passes unchanged.

    Args:
        log_ratio: `[rows, tokens]`.
        right: `[rows, 1]`, 1 or 0.
        rate: `[rows, 1]`, success rate r of the row's problem, between 0 and 1.

    Source: Chen et al., "Bridging supervised learning and reinforcement learning in math reasoning", 2505.18116,
    and its code (github.com/NVlabs/NFT, dp_actor.py).
    """
    ratio = log_ratio.exp()
    implied = (1 - rate * ratio) / (1 - rate)
    kept = implied + (implied.clamp(min=floor) - implied).detach()
    return -(right * log_ratio + negative * (1 - right) * kept.log())


@dataclass(frozen=True, slots=True)
class Nft(Base):
    """NFT on `Rollouts` records with rewards 0 and 1, averaged over the tokens of a step.

    Problems always or never solved are left out.

    Attributes:
        weighting: of problems: "equal", "dr-grpo" (1 - r) or "grpo" (sqrt((1 - r) / r)).
        negative: weight of wrong answers; 0 is rejection sampling.
        floor: smallest implied ratio.
        old: where the sampler's log-probabilities come from, "recorded" or "start" (see `PolicyGradient`).
    """

    takes = (Rollouts,)
    weighting: str = "dr-grpo"
    negative: float = 1.0
    floor: float = 1.0
    old: str = "recorded"
    name: str = "nft"

    def __post_init__(self) -> None:
        check_positive(floor=self.floor)
        check_within(0, float("inf"), negative=self.negative)
        for name, known in (("weighting", tuple(WEIGHTS)), ("old", ("recorded", "start"))):
            if getattr(self, name) not in known:
                raise BadInput(f"unknown {getattr(self, name)!r}", where=name, fix=suggest(getattr(self, name), known))

    def rows(self, record: Rollouts, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The sampled tokens of each attempt; none where all are right or all wrong."""
        record.check(where)
        if not set(record.rewards) <= {0.0, 1.0}:
            raise BadInput("it has rewards other than 0 and 1", where=where, fix="reward right answers 1, wrong ones 0")
        if record.even:
            return []
        rate = sum(record.rewards) / len(record.rewards)
        made = []
        for attempt, reward in zip(record.samples, record.rewards, strict=True):
            row = sampled_row(attempt, tokenizer, where, recorded=self.old == "recorded")
            made.append(replace(row, weight=WEIGHTS[self.weighting](rate), numbers={"right": reward, "rate": rate}))
        return made

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The sampler if it is not recorded."""
        return frozenset({"start"} if self.old == "start" else ())

    def size(self, group: Group) -> float:
        """Target tokens."""
        return tokens_of(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        log_ratio = (batch.logprobs - batch.tokens["old" if self.old == "recorded" else "start"]) * batch.mask
        right, rate = (batch.numbers[name][:, None] for name in ("right", "rate"))
        each = nft_loss(log_ratio, right, rate, self.negative, self.floor)
        return (each * batch.mask * batch.weights[:, None]).sum()
