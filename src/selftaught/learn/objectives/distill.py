"""Distillation: toward a teacher's distribution of each next token, instead of or in addition to the labels.

Distributions come as log-probabilities of the teacher's k likeliest tokens, for teacher and student alike. The mass
that either gives to all other tokens counts as one more token, so that a divergence of truncated distributions is
never more than that of the whole ones, and equal to it if k is the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from selftaught.errors import BadInput
from selftaught.learn.checks import check_positive, check_range
from selftaught.learn.objectives.base import Batch, EMAConfig, Group, Objective, Row, count_tokens
from selftaught.learn.objectives.demos import row_from_demo
from selftaught.records import Demo

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

__all__ = ["distill"]

MIN_OTHER_MASS = 1e-5  # mass of the other tokens that is distinguishable from rounding


def with_other_tokens(logprobs: Tensor) -> Tensor:
    """Append the log-probability of all other tokens: `[..., k + 1]` from `[..., k]`."""
    import torch

    other = (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=MIN_OTHER_MASS).log()
    return torch.cat([logprobs, other], -1)


def forward_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """`[...]`: KL(teacher || student) = sum_v p (log p - log q), from log-probabilities `[..., tokens]`."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def reverse_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """`[...]`: KL(student || teacher)."""
    return forward_kl(student, teacher)


def js_divergence(teacher: Tensor, student: Tensor, beta: float = 0.5) -> Tensor:
    """`[...]`: b KL(teacher || m) + (1 - b) KL(student || m), m = b teacher + (1 - b) student, 0 < b < 1.

    Source: Agarwal et al., "On-policy distillation of language models", 2306.13649, equation 1.
    """
    import math

    import torch

    mixed = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * forward_kl(teacher, mixed) + (1 - beta) * forward_kl(student, mixed)


def mix_by_difficulty(teacher: Tensor, student: Tensor, label: Tensor, share: float, threshold: float) -> Tensor:
    """`[..., tokens]`: log of (1 - l) student + l (share teacher + (1 - share) label), l growing with difficulty.

    l = 1 - exp(-d) where the difficulty d = KL(teacher || student) is above the threshold, else 0; it has no
    gradient. Source: self-evolution knowledge distillation for machine translation (Song et al., 2412.15303): the
    mixture is the paper's, the form of l is ours and was not checked against it.

    Args:
        label: `[..., tokens]`, 1 at the token of the data, 0 elsewhere.
    """
    difficulty = forward_kl(teacher, student).detach()
    ease = 1 - (-difficulty).expm1().neg() * (difficulty > threshold)
    prior = share * teacher.exp() + (1 - share) * label
    return (ease[..., None] * student.exp() + (1 - ease[..., None]) * prior).clamp(min=1e-30).log()


@dataclass(frozen=True, slots=True)
class Distill(Objective):
    """On `Demo` records, averaged over tokens: w * divergence from the teacher - (1 - w) * log-likelihood.

    Attributes:
        teacher: see `Objective`; a past checkpoint is a teacher too.
        divergence: "forward_kl" (KL(teacher || student)), "reverse_kl" or "js" (2306.13649).
        beta: the teacher's share in "js".
        teacher_weight: w. Above 1 the labels are subtracted, which helps if many are wrong
            (Das and Sanghavi, "Understanding self-distillation in the presence of label noise", 2301.13304).
        mixed_teacher_share: share of the teacher in what is mixed into the student at hard tokens (see
            `mix_by_difficulty`); 1 mixes in the teacher alone, below 0 nothing.
        hard_threshold: nats of KL(teacher || student) above which a token is hard.
        teacher_top_k: see `Objective`.
        temperature: T, at which both distributions are compared, and T^2 scales the divergence (Hinton et al.,
            1503.02531). Other than 1 it compares the shares among the teacher's k likeliest tokens alone.
        teacher_update: "none" for a fixed teacher; "ema" or "future" for an average of the weights in training (see
            `learn.teachers`).
        ema_decay: of the moving average.
        lookahead_steps: virtual steps of "future".
    """

    takes = (Demo,)
    teacher: Policy | None = None
    divergence: Literal["forward_kl", "reverse_kl", "js"] = "forward_kl"
    beta: float = 0.5
    teacher_weight: float = 1.0
    mixed_teacher_share: float = -1.0
    hard_threshold: float = 0.0
    teacher_top_k: int = 64
    temperature: float = 1.0
    teacher_update: Literal["none", "ema", "future"] = "none"
    ema_decay: float = 0.999
    lookahead_steps: int = 1
    name: str = "distill"

    def validate(self) -> None:
        """See `Objective.validate`."""
        weights = {"teacher_weight": self.teacher_weight, "hard_threshold": self.hard_threshold}
        check_range(0, float("inf"), **weights, teacher_top_k=self.teacher_top_k)
        check_range(0, 1, ema_decay=self.ema_decay)
        check_positive(beta=self.beta, temperature=self.temperature, lookahead_steps=self.lookahead_steps)
        if self.beta >= 1:
            raise BadInput(f"must be below 1, got {self.beta}", where="beta", fix="use more than 0 and less than 1")
        if self.teacher_update != "none" and self.teacher is not None:
            problem = "a moving teacher starts from the student"
            raise BadInput(problem, where="teacher_update", fix="give no teacher")
        if self.mixed_teacher_share > 1:
            got = f"must be ≤ 1, got {self.mixed_teacher_share}"
            raise BadInput(got, where="mixed_teacher_share", fix="use at most 1")

    @property
    def ema_teacher(self) -> EMAConfig | None:
        """See `Objective.ema_teacher`."""
        if self.teacher_update == "none":
            return None
        return EMAConfig(self.ema_decay, self.lookahead_steps if self.teacher_update == "future" else 0)

    def rows(self, record: Demo, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The demonstration."""
        if record.weight < 0:
            raise BadInput(f"its weight must be ≥ 0, got {record.weight}", where=where, fix="use 0 or more")
        return [row_from_demo(record, tokenizer, where)]

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The teacher."""
        return frozenset({"teacher"})

    def normalizer(self, group: Group) -> float:
        """Completion tokens."""
        return count_tokens(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        each = self.teacher_weight * self.per_token(batch) - (1 - self.teacher_weight) * batch.logprobs
        return (each * batch.mask * batch.weights[:, None]).sum()

    def per_token(self, batch: Batch) -> Tensor:
        """`[rows, tokens]`, the divergence; values at padding are arbitrary."""
        import torch

        assert batch.student is not None
        teacher, student = (self._at_temperature(x) for x in (batch.token_features["teacher"], batch.student))
        if self.mixed_teacher_share >= 0:
            known = batch.token_features["label"]
            label = known if self.temperature != 1 else torch.cat([known, 1 - known.sum(-1, keepdim=True)], -1)
            student = mix_by_difficulty(teacher, student, label, self.mixed_teacher_share, self.hard_threshold)
        if self.divergence == "js":
            distance = js_divergence(teacher, student, self.beta)
        else:
            distance = (forward_kl if self.divergence == "forward_kl" else reverse_kl)(teacher, student)
        return distance * self.temperature**2

    def _at_temperature(self, logprobs: Tensor) -> Tensor:
        if self.temperature == 1:
            return with_other_tokens(logprobs)
        return (logprobs / self.temperature).log_softmax(-1)


distill = Distill
