"""Judges: a linear head on the model's hidden states that scores answers, their steps, or the question alone.

A head is read before a target token: before the first, the prompt alone was seen; before the end of sequence, the
whole answer. All weights of the model are trained with it, or an adapter, as for any objective.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.errors import BadInput, suggest
from selftaught.learn.objectives.base import Base, Batch, Group, Row, check_within
from selftaught.learn.objectives.preference import in_pairs, paired_rows
from selftaught.learn.objectives.rollouts import Rollouts
from selftaught.records import Label, Pair, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

KINDS = ("classification", "regression")


@dataclass(frozen=True, slots=True)
class Steps:
    """The steps of a response, which is their texts put together, with a score each (0..1 to classify)."""

    prompt: Prompt
    steps: tuple[str, ...]
    scores: tuple[float, ...]
    attempts: tuple[str, ...] = ()


def classification(values: Tensor, targets: Tensor) -> Tensor:
    """-t log s(v) - (1 - t) log(1 - s(v)) of each value, for targets 0..1 (soft ones too)."""
    from torch.nn.functional import binary_cross_entropy_with_logits

    return binary_cross_entropy_with_logits(values, targets, reduction="none")


def regression(values: Tensor, targets: Tensor) -> Tensor:
    """(v - t)^2 of each value."""
    return (values - targets) ** 2


def bradley_terry(chosen: Tensor, rejected: Tensor, margin: Tensor | float = 0.0, centre: float = 0.0) -> Tensor:
    """`[pairs]`: -log s(a - b - m) + centre (a + b)^2 on the scores a, b of both responses.

    Sources: Ouyang et al., 2203.02155, equation 1; margin: Touvron et al., 2307.09288, equation 2; centring:
    Eisenstein et al., 2312.09244.
    """
    from torch.nn.functional import logsigmoid

    return -logsigmoid(chosen - rejected - margin) + centre * (chosen + rejected) ** 2


@dataclass(frozen=True, slots=True)
class _Head(Base):
    """A head of one number per place."""

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The head."""
        return frozenset({"value"})

    def read(self, batch: Batch) -> Tensor:
        """`[rows]`, what the head reads before each row's last target token, its end of sequence."""
        import torch

        assert batch.values is not None
        last = batch.lengths.long() - 1
        return batch.values[torch.arange(len(last), device=last.device), last, 0]


@dataclass(frozen=True, slots=True)
class OutcomeReward(_Head):
    """Outcome reward model on `Label` records: whether a whole response is good, read at its end.

    Source: Cobbe et al., "Training verifiers to solve math word problems", 2110.14168.
    """

    takes = (Label,)
    name: str = "outcome-reward"

    def rows(self, record: Label, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:  # noqa: ARG002
        """The response."""
        prompt, target = tokenizer.encode_prompt(record.prompt), tokenizer.encode_target(record.response)
        return [Row(tuple(prompt), tuple(target), numbers={"good": float(record.good)})]

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return (classification(self.read(batch), batch.numbers["good"]) * batch.weights).sum()


@dataclass(frozen=True, slots=True)
class ProcessReward(_Head):
    """Process reward or value model on `Steps` records: a score at the end of each step, averaged over steps.

    A step ends with the last token of the text up to there. Source: Lightman et al., "Let's verify step by step",
    2305.20050; values by regression as in Feng et al., 2309.17179.

    Attributes:
        kind: "classification" of scores in 0..1, or "regression" of any.
    """

    takes = (Steps,)
    kind: str = "classification"
    name: str = "process-reward"

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise BadInput(f"unknown {self.kind!r}", where="kind", fix=suggest(self.kind, KINDS))

    def rows(self, record: Steps, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The response with its scores at the places where its steps end."""
        low, high = (0, 1) if self.kind == "classification" else (-math.inf, math.inf)
        if len(record.steps) != len(record.scores) or not all(low <= s <= high for s in record.scores):
            raise BadInput("it has not one score for each step, in 0..1", where=where, fix="score every step")
        target = tokenizer.encode_target("".join(record.steps))
        scores, marked = [0.0] * len(target), [0.0] * len(target)
        for i, score in enumerate(record.scores):
            whole = i == len(record.steps) - 1
            end = len(target) - 1 if whole else len(tokenizer.encode_answer("".join(record.steps[: i + 1])))
            if end == 0 or marked[end]:
                raise BadInput(f"its step {i + 1} has no tokens of its own", where=where, fix="drop or join it")
            scores[end], marked[end] = score, 1.0
        facts = {"score": tuple(scores), "marked": tuple(marked)}
        return [Row(tuple(tokenizer.encode_prompt(record.prompt)), tuple(target), tokens=facts)]

    def size(self, group: Group) -> float:
        """Steps."""
        return float(sum(sum(row.tokens["marked"]) for row in group))

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        assert batch.values is not None
        judge = classification if self.kind == "classification" else regression
        return (judge(batch.values[..., 0], batch.tokens["score"]) * batch.tokens["marked"] * batch.mask).sum()


@dataclass(frozen=True, slots=True)
class PairwiseReward(_Head):
    """Bradley-Terry reward model on `Pair` records: see `bradley_terry`.

    Attributes:
        centre: weight of the squared sum of both scores, which keeps scores around 0.
    """

    takes = (Pair,)
    centre: float = 0.0
    name: str = "pairwise-reward"

    def __post_init__(self) -> None:
        check_within(0, math.inf, centre=self.centre)

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        return paired_rows(record, tokenizer, where)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        chosen, rejected = in_pairs(self.read(batch))
        margin, weight = in_pairs(batch.numbers["margin"])[0], in_pairs(batch.weights)[0]
        return (bradley_terry(chosen, rejected, margin, self.centre) * weight).sum()


@dataclass(frozen=True, slots=True)
class Knows(_Head):
    """P(IK) on `Rollouts` records: how likely an answer will be right, read off the question alone.

    The target is the mean reward (0..1) of the rollouts. Source: Kadavath et al., "Language models (mostly) know
    what they know", 2207.05221, section 5.
    """

    takes = (Rollouts,)
    name: str = "knows"

    def rows(self, record: Rollouts, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The question, with the end of sequence as its only target token, which is not learnt."""
        record.check(where)
        if not all(0 <= reward <= 1 for reward in record.rewards):
            raise BadInput("it has rewards outside 0..1", where=where, fix="reward right answers 1, wrong ones 0")
        rate = sum(record.rewards) / len(record.rewards)
        return [Row(tuple(tokenizer.encode_prompt(record.prompt)), (tokenizer.eos_id,), numbers={"rate": rate})]

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return (classification(self.read(batch), batch.numbers["rate"]) * batch.weights).sum()
