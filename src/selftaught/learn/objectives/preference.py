"""Preferences between two responses, against a reference: DPO and its variants, SPPO, SPIN.

All are functions of four numbers per pair, the log-probabilities of both responses under the policy and the
reference; `h` below is log p(chosen)/p_ref(chosen) - log p(rejected)/p_ref(rejected).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from selftaught.errors import BadInput
from selftaught.learn.checks import check_positive, check_range
from selftaught.learn.objectives.base import Batch, Objective, Row, encode_completion
from selftaught.records import Pair

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

__all__ = ["dpo", "spin", "sppo"]


def logistic_loss(
    h: Tensor, beta: float, label_smoothing: Tensor | float = 0.0, margin: Tensor | float = 0.0
) -> Tensor:
    """`[pairs]`: -(1 - e) log s(beta h - m) - e log s(-(beta h - m)).

    DPO (Rafailov et al., 2305.18290, equation 7) at e = m = 0; conservative DPO (Mitchell, "A note on DPO with
    noisy preferences", 2023) with label smoothing e; an offset m is a margin (Amini et al., 2402.10571).
    """
    from torch.nn.functional import logsigmoid

    lead = beta * h - margin
    return -(1 - label_smoothing) * logsigmoid(lead) - label_smoothing * logsigmoid(-lead)


def robust_loss(h: Tensor, beta: float, label_smoothing: Tensor | float, margin: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: [-(1 - e) log s(beta h) + e log s(-beta h)] / (1 - 2e), unbiased if a share e of labels is flipped.

    Source: Chowdhury et al., "Provably robust DPO", 2403.00409.
    """
    from torch.nn.functional import logsigmoid

    lead = beta * h - margin
    return (-(1 - label_smoothing) * logsigmoid(lead) + label_smoothing * logsigmoid(-lead)) / (1 - 2 * label_smoothing)


def hinge_loss(h: Tensor, beta: float, margin: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: max(0, 1 + m - beta h). Source: SLiC (Zhao et al., 2305.10425) in the form of RSO, 2309.06657."""
    return (1 + margin - beta * h).relu()


def ipo_loss(mean_h: Tensor, beta: float, margin: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: (g - (1/2 + m) / beta)^2, where g is h with each log-ratio averaged over its tokens.

    Source: Azar et al., "A general theoretical paradigm to understand learning from human preferences",
    2310.12036, equation 17 (beta is its tau); averaging over tokens is what its authors confirmed to TRL.
    """
    return (mean_h - (0.5 + margin) / beta) ** 2


def sppo_loss(chosen: Tensor, rejected: Tensor, beta: float, label_smoothing: Tensor | float = 0.0) -> Tensor:
    """`[pairs]`: (a - (1/2 - e) / beta)^2 + (b + (1/2 - e) / beta)^2 on the log-ratios a, b of both responses.

    Source: Wu et al., "Self-play preference optimization", 2405.00675, equation 4.7: 1 / beta is its eta and
    1 - e the probability that the chosen response wins.
    """
    lead = (0.5 - label_smoothing) / beta
    return (chosen - lead) ** 2 + (rejected + lead) ** 2


def encode_pair(record: Pair, tokenizer: ChatTokenizer, where: str) -> list[Row]:
    """The chosen row and the rejected row of a pair.

    Raises:
        BadInput: both responses are the same, a label_smoothing outside 0..0.5, or a weight below 0.
    """
    chosen, rejected = (encode_completion(tokenizer, text, record.ends) for text in (record.chosen, record.rejected))
    if chosen == rejected:
        raise BadInput("its chosen and its rejected response are the same", where=where, fix="drop it")
    if not 0 <= record.label_smoothing <= 0.5:
        got = f"its label_smoothing must be in 0..0.5, got {record.label_smoothing}"
        raise BadInput(got, where=where, fix="use 0 to 0.5")
    if record.weight < 0:
        got = f"its weight must be ≥ 0, got {record.weight}"
        raise BadInput(got, where=where, fix="swap chosen and rejected, with weight above 0")
    prompt = tuple(tokenizer.encode_prompt(record.prompt))
    features = {"label_smoothing": record.label_smoothing, "margin": record.margin}
    return [Row(prompt, ids, record.weight, features) for ids in (chosen, rejected)]


def split_pairs(values: Tensor) -> tuple[Tensor, Tensor]:
    """Split `[rows]` into `[pairs]` of the chosen and `[pairs]` of the rejected."""
    chosen, rejected = values.view(-1, 2).unbind(1)
    return chosen, rejected


def label_smoothing_of(batch: Batch, default: float) -> Tensor:
    """`[pairs]`: the label smoothing of each pair, `default` for pairs without one."""
    import torch

    own = split_pairs(batch.row_features["label_smoothing"])[0]
    return torch.where(own > 0, own, torch.full_like(own, default))


@dataclass(frozen=True, slots=True)
class Dpo(Objective):
    """Direct preference optimization (2305.18290) on `Pair` records, averaged over the pairs of a step.

    Attributes:
        beta: strength of the pull to the reference; for "ipo" its tau, for "sppo" 1 / eta.
        loss_type: "sigmoid" (DPO, and conservative DPO with label smoothing), "robust", "hinge", "ipo" or "sppo".
        label_smoothing: assumed share of flipped labels, for pairs without a `label_smoothing` of their own.
        reference: see `Objective`.
    """

    takes = (Pair,)
    beta: float = 0.1
    loss_type: Literal["sigmoid", "robust", "hinge", "ipo", "sppo"] = "sigmoid"
    label_smoothing: float = 0.0
    reference: Policy | None = None
    name: str = "dpo"

    def validate(self) -> None:
        """See `Objective.validate`."""
        check_positive(beta=self.beta)
        check_range(0, 0.5, label_smoothing=self.label_smoothing)

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Both responses."""
        self.check_pair(record, where)
        return encode_pair(record, tokenizer, where)

    def check_pair(self, record: Pair, where: str) -> None:
        """Raise `BadInput` for a pair whose label smoothing or margin the loss cannot use."""
        smoothing, loss = record.label_smoothing, self.loss_type
        if smoothing and loss in ("hinge", "ipo"):
            raise BadInput(
                f"has label smoothing, which {loss} has no term for", where=where, fix="use sigmoid or robust"
            )
        if smoothing == 0.5 and loss == "robust":
            raise BadInput(
                "has a label_smoothing of 0.5, a coin toss", where=where, fix="drop it, or use less than 0.5"
            )
        if record.margin and loss == "sppo":
            raise BadInput("has a margin, which sppo has no term for", where=where, fix="use sigmoid, robust or hinge")

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The reference."""
        return frozenset({"reference"})

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        return (self.per_pair(batch) * split_pairs(batch.weights)[0]).sum()

    def per_pair(self, batch: Batch) -> Tensor:
        """`[pairs]`, the loss of each pair before its weight."""
        chosen, rejected = split_pairs(batch.log_ratios)
        h, margin = chosen - rejected, split_pairs(batch.row_features["margin"])[0]
        if self.loss_type == "ipo":
            chosen, rejected = split_pairs(batch.log_ratios / batch.lengths)
            return ipo_loss(chosen - rejected, self.beta, margin)
        if self.loss_type == "hinge":
            return hinge_loss(h, self.beta, margin)
        smoothing = label_smoothing_of(batch, self.label_smoothing)
        if self.loss_type == "sppo":
            return sppo_loss(chosen, rejected, self.beta, smoothing)
        return (robust_loss if self.loss_type == "robust" else logistic_loss)(h, self.beta, smoothing, margin)


dpo = Dpo


def spin(beta: float = 0.1, *, reference: Policy | None = None) -> Dpo:
    """Self-play fine-tuning: DPO with the demonstration chosen, the model's own answer rejected, itself the reference.

    Source: Chen et al., 2401.01335, equation 4.7; beta is its lambda.
    """
    return Dpo(beta, name="spin", reference=reference)


def sppo(beta: float = 0.001, *, label_smoothing: float = 0.0, reference: Policy | None = None) -> Dpo:
    """Self-play preference optimization (2405.00675), eta = 1000.

    Args:
        beta: 1 / eta.
        label_smoothing: how often the chosen response loses, for pairs without a `label_smoothing` of their own.
        reference: see `Objective`.
    """
    return Dpo(beta, loss_type="sppo", label_smoothing=label_smoothing, name="sppo", reference=reference)
