"""Supervised fine-tuning: weighted likelihood of responses, and unlikelihood of bad ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.learn.checks import check_range
from selftaught.learn.objectives.base import Batch, Group, Objective, Row, count_tokens
from selftaught.learn.objectives.demos import row_from_demo
from selftaught.records import Demo, Label

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["sft", "unlikelihood"]


def nll(logprobs: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
    """`[rows]`: -w sum_t log p(y_t | x, y_<t)."""
    return -(logprobs * mask).sum(-1) * weights


def unlikelihood_loss(logprobs: Tensor, mask: Tensor) -> Tensor:
    """`[rows]`: -sum_t log(1 - p(y_t | x, y_<t)). Source: Welleck et al., 1908.04319, its token-level loss."""
    return -(log1mexp(logprobs) * mask).sum(-1)


def log1mexp(logprobs: Tensor) -> Tensor:
    """log(1 - exp(l)) for l <= 0, exact near both ends; l = 0 counts as the nearest number below it.

    Source: Maechler, "Accurately computing log(1 - exp(-|a|))", 2012, equation 7.
    """
    import torch

    below = logprobs.clamp(max=-torch.finfo(logprobs.dtype).eps)
    near = below > -0.6931  # both branches get safe arguments, or the unused one would send NaN back
    by_expm1 = torch.log(-torch.expm1(torch.where(near, below, below.new_tensor(-0.5))))
    by_log1p = torch.log1p(-torch.exp(torch.where(near, below.new_tensor(-1.0), below)))
    return torch.where(near, by_expm1, by_log1p)


@dataclass(frozen=True, slots=True)
class Sft(Objective):
    """Supervised fine-tuning on `Demo` records: weighted negative log-likelihood, averaged over the step's tokens.

    L = - sum_i w_i sum_t log p(y_it | x_i, y_i<t) / sum_i |y_i|, over the tokens that `Demo.masked` leaves
    """

    takes = (Demo,)
    name: str = "sft"

    def rows(self, record: Demo, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The demonstration under the model's chat template; the answer and its end bear the loss, unless masked."""
        return [row_from_demo(record, tokenizer, where)]

    def normalizer(self, group: Group) -> float:
        """Completion tokens."""
        return count_tokens(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return nll(batch.logprobs, batch.mask, batch.weights).sum()


@dataclass(frozen=True, slots=True)
class Unlikelihood(Objective):
    """Likelihood of good responses, and `alpha` times the unlikelihood of every token of bad ones.

    L = [ - sum_good sum_t log p(y_t) - alpha sum_bad sum_t log(1 - p(y_t)) ] / tokens

    Source: Welleck et al., "Neural text generation with unlikelihood training", 1908.04319, its token-level loss.
    Its negatives are single tokens; here they are all tokens of a response labeled bad.

    Attributes:
        alpha: weight of the unlikelihood.
    """

    takes = (Label,)
    alpha: float = 1.0
    name: str = "unlikelihood"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_range(0, float("inf"), alpha=self.alpha)

    def rows(self, record: Label, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:  # noqa: ARG002
        """The response, with its label."""
        prompt, completion = tokenizer.encode_prompt(record.prompt), tokenizer.encode_target(record.response)
        return [Row(tuple(prompt), tuple(completion), row_features={"good": float(record.good)})]

    def normalizer(self, group: Group) -> float:
        """Completion tokens."""
        return count_tokens(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        good = batch.row_features["good"]
        likelihood = nll(batch.logprobs, batch.mask, good)
        return (likelihood + self.alpha * (1 - good) * unlikelihood_loss(batch.logprobs, batch.mask)).sum()


sft = Sft
unlikelihood = Unlikelihood
