"""Preferences between two responses, against a reference: DPO and its variants, SPPO, SPIN.

All are functions of four numbers per pair, the log-probabilities of both responses under the policy and the
reference; `h` below is log p(chosen)/p_ref(chosen) - log p(rejected)/p_ref(rejected).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput, suggest
from selftaught.learn.objectives.base import Base, Batch, Row, check_positive, check_within, target_ids
from selftaught.records import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

LOSSES = ("sigmoid", "robust", "hinge", "ipo", "sppo")


def logistic(h: Tensor, beta: float, softness: Tensor | float = 0.0, margin: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: -(1 - e) log s(beta h - m) - e log s(-(beta h - m)).

    DPO (Rafailov et al., 2305.18290, equation 7) at e = m = 0; conservative DPO (Mitchell, "A note on DPO with
    noisy preferences", 2023) with label smoothing e; an offset m asks for a lead (Amini et al.,
    2402.10571).
    """
    from torch.nn.functional import logsigmoid

    lead = beta * h - margin
    return -(1 - softness) * logsigmoid(lead) - softness * logsigmoid(-lead)


def robust(h: Tensor, beta: float, softness: Tensor | float, margin: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: [-(1 - e) log s(beta h) + e log s(-beta h)] / (1 - 2e), unbiased if a share e of labels is flipped.

    Source: Chowdhury et al., "Provably robust DPO", 2403.00409.
    """
    from torch.nn.functional import logsigmoid

    lead = beta * h - margin
    return (-(1 - softness) * logsigmoid(lead) + softness * logsigmoid(-lead)) / (1 - 2 * softness)


def hinge(h: Tensor, beta: float, margin: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: max(0, 1 + m - beta h). Source: SLiC (Zhao et al., 2305.10425) in the form of RSO, 2309.06657."""
    return (1 + margin - beta * h).relu()


def ipo(mean_h: Tensor, beta: float, margin: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: (g - (1/2 + m) / beta)^2, where g is h with each log-ratio averaged over its tokens.

    Source: Azar et al., "A general theoretical paradigm to understand learning from human preferences",
    2310.12036, equation 17 (beta is its tau); averaging over tokens is what its authors confirmed to TRL.
    """
    return (mean_h - (0.5 + margin) / beta) ** 2


def sppo(chosen: Tensor, rejected: Tensor, beta: float, softness: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: (a - (1/2 - e) / beta)^2 + (b + (1/2 - e) / beta)^2 on the log-ratios a, b of both responses.

    Source: Wu et al., "Self-play preference optimization", 2405.00675, equation 4.7: 1 / beta is its eta and
    1 - e the probability that the chosen response wins.
    """
    lead = (0.5 - softness) / beta
    return (chosen - lead) ** 2 + (rejected + lead) ** 2


def paired_rows(record: Pair, tokenizer: ChatTokenizer, where: str) -> list[Row]:
    """The chosen row and the rejected row of a pair.

    Raises:
        BadInput: both responses are the same, a softness outside 0..0.5, or a weight below 0.
    """
    chosen, rejected = (target_ids(tokenizer, text, record.ends) for text in (record.chosen, record.rejected))
    if chosen == rejected:
        raise BadInput("its chosen and its rejected response are the same", where=where, fix="drop it")
    if not 0 <= record.softness <= 0.5:
        raise BadInput(f"its softness is {record.softness}", where=where, fix="use 0 to 0.5")
    if record.weight < 0:
        raise BadInput(
            f"its weight is {record.weight}", where=where, fix="swap chosen and rejected, with weight above 0"
        )
    prompt = tuple(tokenizer.encode_prompt(record.prompt))
    numbers = {"softness": record.softness, "margin": record.margin}
    return [Row(prompt, ids, record.weight, numbers) for ids in (chosen, rejected)]


def in_pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """`[rows]` as `[pairs]` of the chosen and `[pairs]` of the rejected."""
    chosen, rejected = values.view(-1, 2).unbind(1)
    return chosen, rejected


@dataclass(frozen=True, slots=True)
class Dpo(Base):
    """Direct preference optimisation on `Pair` records, averaged over the pairs of a step.

    Attributes:
        beta: strength of the anchor to the reference; for "ipo" its tau, for "sppo" 1 / eta.
        loss_type: "sigmoid" (DPO, and conservative DPO with label smoothing), "robust", "hinge", "ipo", "sppo".
        label_smoothing: assumed share of flipped labels, for pairs whose own `softness` is 0.
        reference: the policy to stay near; None for the one that training starts from.
    """

    takes = (Pair,)
    beta: float = 0.1
    loss_type: str = "sigmoid"
    label_smoothing: float = 0.0
    reference: Policy | None = None
    name: str = "dpo"

    def __post_init__(self) -> None:
        check_positive(beta=self.beta)
        check_within(0, 0.5, label_smoothing=self.label_smoothing)
        if self.loss_type not in LOSSES:
            raise BadInput(f"unknown {self.loss_type!r}", where="loss_type", fix=suggest(self.loss_type, LOSSES))

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        self.check(record, where)
        return paired_rows(record, tokenizer, where)

    def check(self, record: Pair, where: str) -> None:
        """Raise `BadInput` for a pair with a softness or a margin that the loss has no place for."""
        if record.softness and self.loss_type in ("hinge", "ipo"):
            raise BadInput(f"it is soft, which {self.loss_type} cannot learn", where=where, fix="use sigmoid or robust")
        if record.softness == 0.5 and self.loss_type == "robust":
            raise BadInput("its softness is 0.5, a coin toss", where=where, fix="drop it, or use less than 0.5")
        if record.margin and self.loss_type == "sppo":
            raise BadInput("it has a margin, which sppo cannot learn", where=where, fix="use sigmoid, robust or hinge")

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The reference."""
        return frozenset({"reference"})

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return (self.per_pair(batch) * in_pairs(batch.weights)[0]).sum()

    def per_pair(self, batch: Batch) -> Tensor:
        """`[pairs]`, the loss of each pair before its weight."""
        import torch

        chosen, rejected = in_pairs(batch.ratios)
        margin, own = in_pairs(batch.numbers["margin"])[0], in_pairs(batch.numbers["softness"])[0]
        softness = torch.where(own > 0, own, torch.full_like(own, self.label_smoothing))
        if self.loss_type == "ipo":
            chosen, rejected = in_pairs(batch.ratios / batch.lengths)
            return ipo(chosen - rejected, self.beta, margin)
        if self.loss_type == "hinge":
            return hinge(chosen - rejected, self.beta, margin)
        if self.loss_type == "sppo":
            return sppo(chosen, rejected, self.beta, softness)
        return (robust if self.loss_type == "robust" else logistic)(chosen - rejected, self.beta, softness, margin)


def dpo(beta: float = 0.1, **settings: Any) -> Dpo:
    """Direct preference optimisation (2305.18290); see `Dpo`."""
    return Dpo(beta, **settings)


def spin(beta: float = 0.1, **settings: Any) -> Dpo:
    """Self-play fine-tuning: the demonstration is chosen, the model's own answer rejected, itself the reference.

    Source: Chen et al., 2401.01335, equation 4.7; beta is its lambda, the loss is DPO's.
    """
    return Dpo(beta, name="spin", **settings)


def sppo_objective(beta: float = 0.001, **settings: Any) -> Dpo:
    """Self-play preference optimisation (2405.00675), eta = 1000; a pair's softness is how often the chosen loses."""
    return Dpo(beta, loss_type="sppo", name="sppo", **settings)
