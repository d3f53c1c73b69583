"""Preferences over a list of responses with graded scores."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Base, Batch, Row, check_positive
from selftaught.records import Ranking

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy


def lambda_rank(rewards: Tensor, scores: Tensor) -> Tensor:
    """Scalar: - sum over v_i > v_j of lambda_ij log s(r_i - r_j), for one list of `[responses]`.

    lambda_ij = |2^v_i - 2^v_j| |1 / log(1 + rank_i) - 1 / log(1 + rank_j)|, where rank is 1 for the highest
    reward as the policy has it now; lambda bears no gradient.

    Source: Liao et al., "TPO", 2410.12854, after LiPO (Liu et al., 2402.01878). TPO's code (github.com/MrBlankness/TPO)
    weighs all pairs alike instead.
    """
    import torch
    from torch.nn.functional import logsigmoid

    rank = torch.empty_like(rewards)
    rank[rewards.detach().argsort(descending=True, stable=True)] = torch.arange(
        1, len(rewards) + 1, dtype=rewards.dtype, device=rewards.device
    )
    gain, discount = 2**scores, 1 / torch.log1p(rank)
    weight = (gain[:, None] - gain).abs() * (discount[:, None] - discount).abs()
    better = scores[:, None] > scores
    return -(weight * logsigmoid(rewards[:, None] - rewards))[better].sum()


@dataclass(frozen=True, slots=True)
class Tpo(Base):
    """Listwise preference optimisation on `Ranking` records: `lambda_rank` of beta log p/p_ref, averaged over lists.

    What responses of a tree share at their beginning cancels. The paper's adaptive step reward, a weight of each
    step by how its embedding differs from the compared step's, is not here.

    Attributes:
        beta: scale of the log-ratios.
        reference: the policy to stay near; None for the one that training starts from.
    """

    takes = (Ranking,)
    beta: float = 0.5
    reference: Policy | None = None
    name: str = "tpo"

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)

    def rows(self, record: Ranking, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Every response with its score; none where all scores are equal."""
        if len(record.responses) != len(record.scores) or not all(map(math.isfinite, record.scores)):
            raise BadInput("it has not one finite score for each response", where=where, fix="score every response")
        if len(set(record.scores)) < 2:
            return []
        prompt = tuple(tokenizer.encode_prompt(record.prompt))
        scored = zip(record.responses, record.scores, strict=True)
        return [Row(prompt, tuple(tokenizer.encode_target(text)), 1.0, {"score": score}) for text, score in scored]

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The reference."""
        return frozenset({"reference"})

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        rewards, scores = batch.by_group(self.beta * batch.ratios), batch.by_group(batch.numbers["score"])
        return sum((lambda_rank(r, v) for r, v in zip(rewards, scores, strict=True)), batch.logprobs.new_zeros(()))


def tpo(beta: float = 0.5, reference: Policy | None = None) -> Tpo:
    """Tree preference optimisation (2410.12854); see `Tpo`."""
    return Tpo(beta, reference)
