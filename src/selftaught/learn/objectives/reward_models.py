"""Reward models: a linear head on the model's hidden states that scores answers, their steps, or the question alone.

The head is read before a completion token: before the first it has seen the prompt alone, before the end of sequence
the whole answer. All weights of the model are trained with it, or an adapter, as for any objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from selftaught.errors import BadInput
from selftaught.learn.checks import check_range
from selftaught.learn.objectives.base import Batch, Group, Objective, Row
from selftaught.learn.objectives.preference import encode_pair, split_pairs
from selftaught.learn.objectives.sampled import check_rewards
from selftaught.models.heads import HeadConfig
from selftaught.records import Label, Pair, RolloutGroup, ScoredSteps

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["orm", "p_ik", "prm", "reward_model"]


def classification_loss(values: Tensor, targets: Tensor) -> Tensor:
    """-t log s(v) - (1 - t) log(1 - s(v)) of each value, for targets in 0..1."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(values, targets, reduction="none")


def regression_loss(values: Tensor, targets: Tensor) -> Tensor:
    """(v - t)^2 of each value."""
    return (values - targets) ** 2


def bradley_terry_loss(
    chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, center_coef: float = 0.0
) -> Tensor:
    """`[pairs]`: -log s(a - b - m) + center (a + b)^2 on the scores a, b of both responses.

    Sources: Ouyang et al., 2203.02155, equation 1; margin: Touvron et al., 2307.09288, equation 2; centering:
    Eisenstein et al., 2312.09244.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - rejected - margin) + center_coef * (chosen + rejected) ** 2


@dataclass(frozen=True, slots=True)
class ValueHeadObjective(Objective):
    """A head of one number per token, by default the log-odds that an answer is good."""

    @property
    def head(self) -> HeadConfig:
        """See `Objective.head`."""
        return HeadConfig("sigmoid")

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The head."""
        return frozenset({"value"})

    def end_values(self, batch: Batch) -> Tensor:
        """`[rows]`, the head's output before each row's last completion token, its end of sequence."""
        import torch

        assert batch.values is not None
        last = batch.lengths.long() - 1
        return batch.values[torch.arange(len(last), device=last.device), last, 0]


@dataclass(frozen=True, slots=True)
class Orm(ValueHeadObjective):
    """Outcome reward model on `Label` records: whether a whole response is good, read at its end.

    L = -good log s(v) - (1 - good) log(1 - s(v)) + lm_coef * good * (mean negative log-likelihood of a token)

    Source: Cobbe et al., "Training verifiers to solve math word problems", 2110.14168; their joint objective adds the
    language modeling loss unweighted.

    Attributes:
        lm_coef: weight of the language modeling loss of good responses, with which the model still answers; 0 leaves
            it out.
    """

    takes = (Label,)
    lm_coef: float = 0.0
    name: str = "orm"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_range(0, math.inf, lm_coef=self.lm_coef)

    def rows(self, record: Label, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:  # noqa: ARG002
        """The response."""
        prompt, completion = tokenizer.encode_prompt(record.prompt), tokenizer.encode_target(record.response)
        return [Row(tuple(prompt), tuple(completion), row_features={"good": float(record.good)})]

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        good = batch.row_features["good"]
        losses = classification_loss(self.end_values(batch), good)
        if self.lm_coef:
            losses = losses - self.lm_coef * good * batch.sequence_logprobs / batch.lengths
        return (losses * batch.weights).sum()


@dataclass(frozen=True, slots=True)
class Prm(ValueHeadObjective):
    """Process reward or value model on `ScoredSteps` records: a score at the end of each step, averaged over steps.

    A step ends with the last token of the text up to there. Source: Lightman et al., "Let's verify step by step",
    2305.20050; values by regression as in Feng et al., 2309.17179.

    Attributes:
        loss_type: "classification" of scores in 0..1, or "regression" of any.
    """

    takes = (ScoredSteps,)
    loss_type: Literal["classification", "regression"] = "classification"
    name: str = "prm"

    @property
    def head(self) -> HeadConfig:
        """See `Objective.head`."""
        return HeadConfig("sigmoid" if self.loss_type == "classification" else "identity")

    def rows(self, record: ScoredSteps, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The response, with its scores at the tokens where its steps end."""
        low, high = (0, 1) if self.loss_type == "classification" else (-math.inf, math.inf)
        if len(record.steps) != len(record.scores) or not all(low <= s <= high for s in record.scores):
            problem = f"needs one score for each step, in {low}..{high}"
            raise BadInput(problem, where=where, fix="score every step")
        completion = tokenizer.encode_target("".join(record.steps))
        scores, is_end = [0.0] * len(completion), [0.0] * len(completion)
        for i, score in enumerate(record.scores):
            whole = i == len(record.steps) - 1
            end = len(completion) - 1 if whole else len(tokenizer.encode_answer("".join(record.steps[: i + 1])))
            if end == 0 or is_end[end]:
                raise BadInput(f"its step {i + 1} has no tokens of its own", where=where, fix="drop or join it")
            scores[end], is_end[end] = score, 1.0
        features = {"score": tuple(scores), "step_end": tuple(is_end)}
        return [Row(tuple(tokenizer.encode_prompt(record.prompt)), tuple(completion), token_features=features)]

    def normalizer(self, group: Group) -> float:
        """Steps."""
        return float(sum(sum(row.token_features["step_end"]) for row in group))

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        assert batch.values is not None
        each = classification_loss if self.loss_type == "classification" else regression_loss
        losses = each(batch.values[..., 0], batch.token_features["score"])
        return (losses * batch.token_features["step_end"] * batch.mask).sum()


@dataclass(frozen=True, slots=True)
class RewardModel(ValueHeadObjective):
    """Bradley-Terry reward model on `Pair` records: see `bradley_terry_loss`.

    Attributes:
        center_coef: weight of the squared sum of both scores, which keeps scores around 0.
    """

    takes = (Pair,)
    center_coef: float = 0.0
    name: str = "reward-model"

    @property
    def head(self) -> HeadConfig:
        """See `Objective.head`."""
        return HeadConfig("identity")

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_range(0, math.inf, center_coef=self.center_coef)

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        return encode_pair(record, tokenizer, where)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        chosen, rejected = split_pairs(self.end_values(batch))
        margin, weight = split_pairs(batch.row_features["margin"])[0], split_pairs(batch.weights)[0]
        return (bradley_terry_loss(chosen, rejected, margin, self.center_coef) * weight).sum()


@dataclass(frozen=True, slots=True)
class PIk(ValueHeadObjective):
    """P(IK) on `RolloutGroup` records: how likely an answer will be right, predicted from the question alone.

    The target is the mean reward (0..1) of the rollouts. Source: Kadavath et al., "Language models (mostly) know
    what they know", 2207.05221, section 5.
    """

    takes = (RolloutGroup,)
    name: str = "p-ik"

    @property
    def head(self) -> HeadConfig:
        """See `Objective.head`."""
        return HeadConfig("sigmoid", ("question",))

    def rows(self, record: RolloutGroup, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The question, with the end of sequence as its only completion token, which is not learned."""
        check_rewards(record, where)
        if not all(0 <= reward <= 1 for reward in record.rewards):
            raise BadInput("has rewards outside 0..1", where=where, fix="reward right answers 1, wrong ones 0")
        rate = sum(record.rewards) / len(record.rewards)
        return [Row(tuple(tokenizer.encode_prompt(record.prompt)), (tokenizer.eos_id,), row_features={"rate": rate})]

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return (classification_loss(self.end_values(batch), batch.row_features["rate"]) * batch.weights).sum()


orm = Orm
prm = Prm
reward_model = RewardModel
p_ik = PIk
