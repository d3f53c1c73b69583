"""Preferences between two responses without a reference: SimPO and ORPO, on mean log-probabilities per token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.learn.checks import check_positive, check_range
from selftaught.learn.objectives.base import Batch, Objective, Row
from selftaught.learn.objectives.preference import encode_pair, label_smoothing_of, logistic_loss, split_pairs
from selftaught.learn.objectives.sft import log1mexp
from selftaught.records import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["orpo", "simpo"]


def simpo_loss(
    chosen: Tensor, rejected: Tensor, beta: float, gamma: Tensor | float, label_smoothing: Tensor | float = 0.0
) -> Tensor:
    """`[pairs]`: -log s(beta (a - b) - gamma) on mean log-probabilities a, b per token.

    Source: Meng et al., "SimPO", 2405.14734, equation 6.
    """
    return logistic_loss(chosen - rejected, beta, label_smoothing, gamma)


def odds_ratio_loss(chosen: Tensor, rejected: Tensor) -> Tensor:
    """`[pairs]`: -log s(log odds(chosen) - log odds(rejected)) on mean log-probabilities per token.

    odds(y) = P / (1 - P) with log P = 1/|y| sum_t log p(y_t). Source: Hong et al., "ORPO", 2403.07691, equations 4, 7.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid((chosen - rejected) - (log1mexp(chosen) - log1mexp(rejected)))


@dataclass(frozen=True, slots=True)
class Simpo(Objective):
    """Simple preference optimization on `Pair` records, averaged over the pairs of a step.

    Attributes:
        beta: scale of the mean log-probabilities.
        gamma: margin of every pair; a pair's own `margin` is added to it.
        label_smoothing: assumed share of flipped labels, for pairs without a `label_smoothing` of their own.
    """

    takes = (Pair,)
    beta: float = 2.0
    gamma: float = 1.0
    label_smoothing: float = 0.0
    name: str = "simpo"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_positive(beta=self.beta)
        check_range(0, 0.5, label_smoothing=self.label_smoothing)

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        return encode_pair(record, tokenizer, where)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        chosen, rejected = split_pairs(batch.sequence_logprobs / batch.lengths)
        gamma = self.gamma + split_pairs(batch.row_features["margin"])[0]
        each = simpo_loss(chosen, rejected, self.beta, gamma, label_smoothing_of(batch, self.label_smoothing))
        return (each * split_pairs(batch.weights)[0]).sum()


@dataclass(frozen=True, slots=True)
class Orpo(Objective):
    """Odds ratio preference optimization on `Pair` records, averaged over the pairs of a step.

    L = -1/|y_w| log p(y_w|x) + beta * odds_ratio_loss

    Source: Hong et al., 2403.07691, equation 6. Its code (and TRL's) takes the first term over the prompt as
    well, and averages it over the tokens of a batch; here, as in the paper's text, over each response.

    Attributes:
        beta: weight of the odds ratio, the paper's lambda.
    """

    takes = (Pair,)
    beta: float = 0.1
    name: str = "orpo"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_positive(beta=self.beta)

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        return encode_pair(record, tokenizer, where)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        chosen, rejected = split_pairs(batch.sequence_logprobs / batch.lengths)
        each = self.beta * odds_ratio_loss(chosen, rejected) - chosen
        return (each * split_pairs(batch.weights)[0]).sum()


simpo = Simpo
orpo = Orpo
