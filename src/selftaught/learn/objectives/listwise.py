"""Preferences over a list of responses with graded scores."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Base, Batch, Row, check_positive
from selftaught.records import Ranking
from selftaught.tasks.steps import LINES, StepFormat

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy


def lambda_rank(rewards: Tensor, scores: Tensor, margins: Tensor | None = None) -> Tensor:
    """Scalar: - sum over v_i > v_j of lambda_ij log s(m_ij), for one list of `[responses]`.

    lambda_ij = |2^v_i - 2^v_j| |1 / log(1 + rank_i) - 1 / log(1 + rank_j)|, where rank is 1 for the highest
    reward as the policy has it now; lambda bears no gradient.

    Args:
        rewards: `[responses]`, r.
        scores: `[responses]`, v.
        margins: `[responses, responses]`, m; r_i - r_j if not given.

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
    margins = rewards[:, None] - rewards if margins is None else margins
    return -(weight * logsigmoid(margins))[better].sum()


def step_numbers(text: str, steps: StepFormat, tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """For each token of a response to learn the number, from 0, of the step it is in; its end is in the last."""
    ends = [len(tokenizer.encode_answer(begun)) for begun in accumulate(steps.split(text))][:-1]
    return tuple(bisect_right(ends, place) for place in range(len(tokenizer.encode_target(text))))


def step_likeness(ids: Tensor, steps: Tensor, mask: Tensor) -> Tensor:
    """`[responses, responses, steps]`: the cosine, 0..1, of two responses' token counts in the step of each number.

    A step that one of them lacks is like nothing: 0.

    Args:
        ids: `[responses, tokens]`, token ids.
        steps: `[responses, tokens]`, the number of each token's step.
        mask: `[responses, tokens]`, 1 for a token, 0 for padding.
    """
    import torch
    from torch.nn.functional import normalize

    known, index = ids.unique(return_inverse=True)
    counts = mask.new_zeros(len(ids), int(steps.max()) + 1, len(known))
    rows = torch.arange(len(ids), device=ids.device)[:, None].expand_as(ids)
    counts.index_put_((rows, steps, index), mask, accumulate=True)
    unit = normalize(counts, dim=-1)
    return torch.einsum("ikv,jkv->ijk", unit, unit)


@dataclass(frozen=True, slots=True)
class Tpo(Base):
    """Listwise preference optimisation on `Ranking` records: the mean `lambda_rank` of lists, of r = beta log p/p_ref.

    What responses of a tree share at their beginning cancels. With the adaptive step reward (`contrast` above 0)
    steps in which two responses differ count more towards their margin, step k of one against step k of the other:

        m_ij = sum over k of (1 + contrast (1 - cos_ijk)) (r_ik - r_jk)

    Here cos is `step_likeness`, of the text. The authors' code takes the cosine of the policy's own last hidden states,
    averaged over a step, which no function of log-probabilities has; it compares with the list's first response alone,
    averages over tokens and steps where this sums, and weighs by 1 + cos, for which `contrast` is -1/2 (and beta
    double): steps count more the more alike they are. Its sign here is that of the paper's aim, to find the steps
    that discriminate; the paper's own formula is not checked. Ranks are those of r, which has no weights.

    Attributes:
        beta: scale of the log-ratios.
        reference: the policy to stay near; None for the one that training starts from.
        contrast: how much more a step counts that is like nothing in the other response than one that is the same;
            0 for no step reward, above -1.
        steps: how a response goes in steps.
    """

    takes = (Ranking,)
    beta: float = 0.5
    reference: Policy | None = None
    contrast: float = 0.0
    steps: StepFormat = LINES
    name: str = "tpo"

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        if not -1 < self.contrast < math.inf:
            raise BadInput(f"got {self.contrast}", where="contrast", fix="use 0, or a number above -1")

    def rows(self, record: Ranking, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Every response with its score; none where all scores are equal."""
        if len(record.responses) != len(record.scores) or not all(map(math.isfinite, record.scores)):
            raise BadInput("it has not one finite score for each response", where=where, fix="score every response")
        if len(set(record.scores)) < 2:
            return []
        prompt, rows = tuple(tokenizer.encode_prompt(record.prompt)), []
        for text, score in zip(record.responses, record.scores, strict=True):
            ids = tuple(tokenizer.encode_target(text))
            facts = {"id": ids, "step": step_numbers(text, self.steps, tokenizer)} if self.contrast else {}
            rows.append(Row(prompt, ids, 1.0, {"score": score}, facts))
        return rows

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The reference."""
        return frozenset({"reference"})

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        rewards, scores = batch.by_group(self.beta * batch.ratios), batch.by_group(batch.numbers["score"])
        margins = self.margins(batch) if self.contrast else [None] * len(batch.sizes)
        each = (lambda_rank(*group) for group in zip(rewards, scores, margins, strict=True))
        return sum(each, batch.logprobs.new_zeros(()))

    def margins(self, batch: Batch) -> list[Tensor]:
        """For each list `[responses, responses]`: by how much each response leads each other, step by step."""
        tokens = self.beta * (batch.logprobs - batch.tokens["reference"]) * batch.mask
        facts = (tokens, batch.tokens["id"].long(), batch.tokens["step"].long(), batch.mask)
        found = []
        for gains, ids, steps, mask in zip(*map(batch.by_group, facts), strict=True):
            weights = 1 + self.contrast * (1 - step_likeness(ids, steps, mask))
            rewards = gains.new_zeros(len(gains), weights.shape[-1]).scatter_add(-1, steps, gains)
            found.append((weights * (rewards[:, None] - rewards)).sum(-1))
        return found


def tpo(
    beta: float = 0.5, reference: Policy | None = None, *, contrast: float = 0.0, steps: StepFormat = LINES
) -> Tpo:  # fmt: skip
    """Tree preference optimisation (2410.12854); see `Tpo`."""
    return Tpo(beta, reference, contrast, steps)
