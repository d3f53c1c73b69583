"""Preferences between two responses without a reference: SimPO and ORPO. Both average over a response's tokens."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.learn.objectives.base import Base, Batch, Row, check_positive, check_within
from selftaught.learn.objectives.preference import in_pairs, logistic, paired_rows
from selftaught.learn.objectives.sft import log1mexp
from selftaught.records import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer


def simpo_loss(chosen: Tensor, rejected: Tensor, beta: float, gamma: float, softness: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: -log s(beta (a - b) - gamma) on mean log-probabilities a, b per token.

    Source: Meng et al., "SimPO", 2405.14734, equation 6.
    """
    return logistic(chosen - rejected, beta, softness, gamma)


def odds_ratio(chosen: Tensor, rejected: Tensor) -> Tensor:
    """`[pairs]`: -log s(log odds(chosen) - log odds(rejected)) on mean log-probabilities per token.

    odds(y) = P / (1 - P) with log P = 1/|y| sum_t log p(y_t). Source: Hong et al., "ORPO", 2403.07691, equations 4, 7.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid((chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected)))


@dataclass(frozen=True, slots=True)
class Simpo(Base):
    """Simple preference optimisation on `Pair` records, averaged over the pairs of a step.

    Attributes:
        beta: scale of the mean log-probabilities.
        gamma: the lead asked of every pair; a pair's own `margin` is added to it.
        label_smoothing: assumed share of flipped labels, for pairs whose own `softness` is 0.
    """

    takes = (Pair,)
    beta: float = 2.0
    gamma: float = 1.0
    label_smoothing: float = 0.0
    name: str = "simpo"

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        check_within(0, 0.5, label_smoothing=self.label_smoothing)

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        return paired_rows(record, tokenizer, where)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        import torch

        chosen, rejected = in_pairs(batch.sums / batch.lengths)
        margin, own = in_pairs(batch.numbers["margin"])[0], in_pairs(batch.numbers["softness"])[0]
        softness = torch.where(own > 0, own, torch.full_like(own, self.label_smoothing))
        lead = logistic(chosen - rejected, self.beta, softness, self.gamma + margin)
        return (lead * in_pairs(batch.weights)[0]).sum()


@dataclass(frozen=True, slots=True)
class Orpo(Base):
    """Odds ratio preference optimisation on `Pair` records, averaged over the pairs of a step.

    L = -1/|y_w| log p(y_w|x) + weight * odds_ratio

    Source: Hong et al., 2403.07691, equation 6. Its code (and TRL's) takes the first term over the prompt as
    well, and averages it over the tokens of a batch; here, as in the paper's text, over each response.

    Attributes:
        weight: the paper's lambda.
    """

    takes = (Pair,)
    weight: float = 0.1
    name: str = "orpo"

    def __post_init__(self) -> None:
        check_positive(weight=self.weight)

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        return paired_rows(record, tokenizer, where)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        chosen, rejected = in_pairs(batch.sums / batch.lengths)
        return ((self.weight * odds_ratio(chosen, rejected) - chosen) * in_pairs(batch.weights)[0]).sum()
