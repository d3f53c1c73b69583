"""Distillation: towards a teacher's distribution of each next token, with or beside the labels.

Distributions come as log-probabilities of the teacher's k likeliest tokens, for teacher and student alike; what
either gives to all other tokens is counted as one more token, so that a divergence of truncated distributions is
never more than that of the whole ones, and equal to it where k is the whole vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.errors import BadInput, suggest
from selftaught.learn.objectives.base import (
    Base,
    Batch,
    Group,
    Row,
    check_positive,
    check_within,
    target_ids,
    tokens_of,
)
from selftaught.records import Demo

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

DIVERGENCES = ("forward", "reverse", "js")
LEAST = 1e-5  # mass of the other tokens that is told from rounding


def with_rest(logprobs: Tensor) -> Tensor:
    """`[..., k + 1]` from `[..., k]`: the log-probability of all other tokens behind those of the k."""
    import torch

    rest = (1 - logprobs.exp().sum(-1, keepdim=True)).clamp(min=LEAST).log()
    return torch.cat([logprobs, rest], -1)


def forward_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """`[...]`: KL(teacher || student) = sum_v p (log p - log q), from log-probabilities `[..., tokens]`."""
    return (teacher.exp() * (teacher - student)).sum(-1)


def reverse_kl(teacher: Tensor, student: Tensor) -> Tensor:
    """`[...]`: KL(student || teacher)."""
    return forward_kl(student, teacher)


def js(teacher: Tensor, student: Tensor, beta: float = 0.5) -> Tensor:
    """`[...]`: b KL(teacher || m) + (1 - b) KL(student || m), m = b teacher + (1 - b) student, 0 < b < 1.

    Source: Agarwal et al., "On-policy distillation of language models", 2306.13649, equation 1.
    """
    import math

    import torch

    mixed = torch.logaddexp(teacher + math.log(beta), student + math.log1p(-beta))
    return beta * forward_kl(teacher, mixed) + (1 - beta) * forward_kl(student, mixed)


def evolved(teacher: Tensor, student: Tensor, label: Tensor, share: float, threshold: float) -> Tensor:
    """`[..., tokens]`: log of (1 - l) student + l (share teacher + (1 - share) label), l growing with difficulty.

    l = 1 - exp(-d) where the difficulty d = KL(teacher || student) is above the threshold, else 0; it bears no
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
class Distill(Base):
    """On `Demo` records, averaged over tokens: soft * divergence from the teacher - (1 - soft) * log-likelihood.

    Attributes:
        teacher: the policy to learn from; None for the weights that training starts from.
        divergence: "forward" (KL(teacher || student)), "reverse" or "js" (2306.13649).
        beta: the teacher's share in "js".
        soft: weight of the teacher against the labels; above 1 it takes the labels off, which helps if many are wrong
            (Das and Sanghavi, "Understanding self-distillation in the presence of label noise", 2301.13304).
        adaptive: share of the teacher in what is mixed into the student where a token is hard (see `evolved`); 1
            mixes in the teacher alone, below 0 nothing.
        threshold: nats of KL(teacher || student) from which a token is hard.
        top_k: of how many of its likeliest tokens the teacher tells; 0 for all.
        temperature: T, at which both distributions are compared, and T^2 weighs the divergence (Hinton et al.,
            1503.02531). Other than 1 it compares the shares among the teacher's k likeliest tokens alone.
        moving: "" for a teacher that stands still, "ema" or "future" for one that moves with the student (see
            `learn.teachers`); a past checkpoint is a `teacher` that stands still.
        decay: of the moving average.
        ahead: virtual steps of "future".
    """

    takes = (Demo,)
    teacher: Policy | None = None
    divergence: str = "forward"
    beta: float = 0.5
    soft: float = 1.0
    adaptive: float = -1.0
    threshold: float = 0.0
    top_k: int = 64
    temperature: float = 1.0
    moving: str = ""
    decay: float = 0.999
    ahead: int = 1
    name: str = "distill"

    def __post_init__(self) -> None:
        if self.divergence not in DIVERGENCES:
            raise BadInput(
                f"unknown {self.divergence!r}", where="divergence", fix=suggest(self.divergence, DIVERGENCES)
            )
        check_within(0, float("inf"), soft=self.soft, threshold=self.threshold, top_k=self.top_k)
        if not 0 < self.beta < 1:
            raise BadInput(f"got {self.beta}", where="beta", fix="use more than 0 and less than 1")
        if self.moving not in ("", "ema", "future"):
            raise BadInput(f"unknown {self.moving!r}", where="moving", fix=suggest(self.moving, ("ema", "future")))
        if self.moving and self.teacher is not None:
            raise BadInput("a moving teacher starts from the student", where="moving", fix="give no teacher")
        check_positive(temperature=self.temperature, ahead=self.ahead)
        check_within(0, 1, decay=self.decay)
        if self.adaptive > 1:
            raise BadInput(f"got {self.adaptive}", where="adaptive", fix="use at most 1")

    def rows(self, record: Demo, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The demonstration."""
        if record.weight < 0:
            raise BadInput(f"its weight is {record.weight}", where=where, fix="use 0 or more")
        prompt = tokenizer.encode_prompt(record.prompt)
        return [Row(tuple(prompt), target_ids(tokenizer, record.target, record.ends), record.weight)]

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The teacher."""
        return frozenset({"teacher"})

    def size(self, group: Group) -> float:
        """Target tokens."""
        return tokens_of(group)

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        each = self.soft * self.per_token(batch) - (1 - self.soft) * batch.logprobs
        return (each * batch.mask * batch.weights[:, None]).sum()

    def per_token(self, batch: Batch) -> Tensor:
        """`[rows, tokens]`, the divergence; what stands at padding means nothing."""
        import torch

        assert batch.student is not None
        teacher, student = (self._tempered(x) for x in (batch.tokens["teacher"], batch.student))
        if self.adaptive >= 0:
            known = batch.tokens["label"]
            label = known if self.temperature != 1 else torch.cat([known, 1 - known.sum(-1, keepdim=True)], -1)
            student = evolved(teacher, student, label, self.adaptive, self.threshold)
        if self.divergence == "js":
            apart = js(teacher, student, self.beta)
        else:
            apart = (forward_kl if self.divergence == "forward" else reverse_kl)(teacher, student)
        return apart * self.temperature**2

    def _tempered(self, logprobs: Tensor) -> Tensor:
        return with_rest(logprobs) if self.temperature == 1 else (logprobs / self.temperature).log_softmax(-1)


def distill(teacher: Policy | None = None, **settings: object) -> Distill:
    """Distillation from `teacher`; see `Distill`."""
    return Distill(teacher, **settings)  # pyright: ignore[reportArgumentType]
