"""Supervised fine-tuning: weighted maximum likelihood of demonstrations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.learn.objectives.base import Row
from selftaught.records import Demo

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer


@dataclass(frozen=True, slots=True)
class Sft:
    """Weighted negative log-likelihood of the target tokens, averaged over the tokens of a step.

    L = - sum_i w_i sum_t log p(y_it | x_i, y_i<t) / sum_i |y_i|
    """

    name: str = "sft"

    def rows(self, record: Demo, tokenizer: ChatTokenizer) -> Sequence[Row]:
        """The demonstration under the model's chat template; only the answer and its end bear the loss."""
        prompt = tokenizer.encode_prompt(record.prompt)
        return [Row(tuple(prompt), tuple(tokenizer.encode_target(record.target)), record.weight)]

    def loss(self, logprobs: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        """See `Objective.loss`."""
        return -(logprobs * mask * weights[:, None]).sum()


def sft() -> Sft:
    """Supervised fine-tuning on `Demo` records."""
    return Sft()
