"""Preferences with a likelihood term: DPO that also keeps the chosen response likely."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.learn.checks import check_range
from selftaught.learn.objectives.base import Batch
from selftaught.learn.objectives.preference import Dpo, split_pairs

if TYPE_CHECKING:
    from torch import Tensor

__all__ = ["rpo"]


@dataclass(frozen=True, slots=True)
class Rpo(Dpo):
    """`Dpo` + nll_coef * mean negative log-likelihood per token of the chosen response.

    L = L_DPO - nll_coef / |y_w| log p(y_w|x)

    Source: Pang et al., "Iterative reasoning preference optimization", 2404.19733, equation 1, where nll_coef is alpha.
    TRL's `loss_type=["sigmoid", "sft"]` averages the second term over the tokens of a batch instead.

    Attributes:
        nll_coef: weight of the likelihood term; 0 is DPO.
    """

    nll_coef: float = 1.0
    name: str = "rpo"

    def validate(self) -> None:
        """See `Objective.validate`."""
        Dpo.validate(self)
        check_range(0, math.inf, nll_coef=self.nll_coef)

    def per_pair(self, batch: Batch) -> Tensor:
        """`[pairs]`, the loss of each pair before its weight."""
        chosen, _ = split_pairs(batch.sequence_logprobs / batch.lengths)
        return Dpo.per_pair(self, batch) - self.nll_coef * chosen


rpo = Rpo
