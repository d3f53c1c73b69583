"""Preferences over a list of responses with graded scores."""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.learn.checks import check_positive
from selftaught.learn.objectives.base import Batch, Objective, Row
from selftaught.records import Ranking
from selftaught.tasks.steps import LINES, StepFormat

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

__all__ = ["tpo"]


def lambda_rank_loss(rewards: Tensor, scores: Tensor, margins: Tensor | None = None) -> Tensor:
    """Scalar: - sum over v_i > v_j of lambda_ij log s(m_ij), for one list of `[responses]`.

    lambda_ij = |2^v_i - 2^v_j| |1 / log(1 + rank_i) - 1 / log(1 + rank_j)|, where rank is 1 for the highest
    reward of the current policy; lambda has no gradient.

    Args:
        rewards: `[responses]`, r.
        scores: `[responses]`, v.
        margins: `[responses, responses]`, m; r_i - r_j by default.

    Source: Liao et al., "TPO", 2410.12854, after LiPO (Liu et al., 2402.01878). TPO's code (github.com/MrBlankness/TPO)
    weights all pairs equally instead.
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
    """The step number, from 0, of each token of a completion; its end of sequence is in the last step."""
    ends = [len(tokenizer.encode_answer(prefix)) for prefix in accumulate(steps.split(text))][:-1]
    return tuple(bisect_right(ends, place) for place in range(len(tokenizer.encode_target(text))))


def step_similarity(ids: Tensor, steps: Tensor, mask: Tensor) -> Tensor:
    """`[responses, responses, steps]`: the cosine, 0..1, of two responses' token counts in the step of each number.

    A step that one of them lacks has similarity 0.

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
class Tpo(Objective):
    """Tree preference optimization (2410.12854) on `Ranking` records: mean `lambda_rank_loss` of r = beta log p/p_ref.

    What responses of a tree share at their beginning cancels. With the adaptive step reward (`step_contrast` above 0)
    steps in which two responses differ count more toward their margin, step k of one against step k of the other:

        m_ij = sum over k of (1 + step_contrast (1 - cos_ijk)) (r_ik - r_jk)

    Here cos is `step_similarity`, of the text. The authors' code takes the cosine of the policy's own last hidden
    states, averaged over a step, which no function of log-probabilities has; it compares with the list's first response
    alone, averages over tokens and steps where this sums, and weights by 1 + cos, for which `step_contrast` is -1/2
    (and beta double): steps count more the more similar they are. Its sign here is that of the paper's aim, to find the
    steps that discriminate; the paper's own formula is not checked. Ranks are those of r, without these weights.

    Attributes:
        beta: scale of the log-ratios.
        reference: see `Objective`.
        step_contrast: extra weight of a step with no similarity to the other response's, over one that is the same;
            0 for no step reward, above -1.
        step_format: how a response splits into steps.
    """

    takes = (Ranking,)
    beta: float = 0.5
    reference: Policy | None = None
    step_contrast: float = 0.0
    step_format: StepFormat = LINES
    name: str = "tpo"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_positive(beta=self.beta)
        if not -1 < self.step_contrast < math.inf:
            got = f"must be above -1, got {self.step_contrast}"
            raise BadInput(got, where="step_contrast", fix="use 0, or a number above -1")

    def rows(self, record: Ranking, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Every response with its score; none if all scores are equal."""
        if len(record.responses) != len(record.scores) or not all(map(math.isfinite, record.scores)):
            raise BadInput("needs one finite score for each response", where=where, fix="score every response")
        if len(set(record.scores)) < 2:
            return []
        prompt, rows = tuple(tokenizer.encode_prompt(record.prompt)), []
        for text, score in zip(record.responses, record.scores, strict=True):
            ids, features = tuple(tokenizer.encode_target(text)), {}
            if self.step_contrast:
                features = {"id": ids, "step": step_numbers(text, self.step_format, tokenizer)}
            rows.append(Row(prompt, ids, 1.0, {"score": score}, features))
        return rows

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The reference."""
        return frozenset({"reference"})

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        rewards, scores = batch.by_group(self.beta * batch.log_ratios), batch.by_group(batch.row_features["score"])
        margins = self.margins(batch) if self.step_contrast else [None] * len(batch.sizes)
        each = (lambda_rank_loss(*group) for group in zip(rewards, scores, margins, strict=True))
        return sum(each, batch.logprobs.new_zeros(()))

    def margins(self, batch: Batch) -> list[Tensor]:
        """For each list `[responses, responses]`: the margin of each response over each other, step by step."""
        tokens = self.beta * (batch.logprobs - batch.token_features["reference"]) * batch.mask
        features = (tokens, batch.token_features["id"].long(), batch.token_features["step"].long(), batch.mask)
        found = []
        for token_rewards, ids, steps, mask in zip(*map(batch.by_group, features), strict=True):
            weights = 1 + self.step_contrast * (1 - step_similarity(ids, steps, mask))
            shape = len(token_rewards), weights.shape[-1]
            rewards = token_rewards.new_zeros(shape).scatter_add(-1, steps, token_rewards)
            found.append((weights * (rewards[:, None] - rewards)).sum(-1))
        return found


tpo = Tpo
