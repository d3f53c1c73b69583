"""Unpaired preferences: KTO, from responses that are each labeled good or bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.checks import check_positive
from selftaught.learn.objectives.base import Batch, Group, Objective, Row, check_types
from selftaught.records import Label

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy

__all__ = ["kto"]


def kto_loss(log_ratios: Tensor, good: Tensor, kl: Tensor | float, beta: float) -> Tensor:
    """`[rows]`: 1 - s(beta (r - z)) if good, 1 - s(beta (z - r)) if bad.

    r is log p(y|x)/p_ref(y|x) and z >= 0 an estimate of KL(p || p_ref) without gradient.

    Source: Ethayarajh et al., "KTO", 2402.01306, equation 7.
    """
    sign = 2 * good - 1
    return 1 - (beta * sign * (log_ratios - kl)).sigmoid()


@dataclass(frozen=True, slots=True)
class Kto(Objective):
    """Kahneman-Tversky optimization on `Label` records, averaged over the records of a step.

    z is max(0, mean log p(y'|x)/p_ref(y'|x)) over the records of a step, each prompt with the response of the
    next record whose prompt differs, evaluated before the step (2402.01306).

    Attributes:
        beta: strength of the pull to the reference.
        desirable_weight, undesirable_weight: weights of good and bad responses; the paper wants desirable_weight *
            (number of good) over undesirable_weight * (number of bad) between 1 and 3/2.
        estimate_kl: whether to estimate z; without, it is 0 (APO-zero, unpaired: 2408.06266).
        reference: see `Objective`.
    """

    takes = (Label,)
    beta: float = 0.1
    desirable_weight: float = 1.0
    undesirable_weight: float = 1.0
    estimate_kl: bool = True
    reference: Policy | None = None
    name: str = "kto"

    def validate(self) -> None:
        """See `Objective.validate`."""
        weights = {"desirable_weight": self.desirable_weight, "undesirable_weight": self.undesirable_weight}
        check_positive(beta=self.beta, **weights)

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """Each response, and as a probe the record's prompt with another prompt's response.

        Raises:
            BadInput: a record of another type; all records have the same prompt, so that no other response exists.
        """
        check_types(records, self.takes, self.name)
        prompts = [tuple(tokenizer.encode_prompt(record.prompt)) for record in records]
        completions = [tuple(tokenizer.encode_target(record.response)) for record in records]
        made = []
        for i, record in enumerate(records):
            weight = self.desirable_weight if record.good else self.undesirable_weight
            group = [Row(prompts[i], completions[i], weight, {"good": float(record.good)})]
            if self.estimate_kl:
                group.append(Row(prompts[i], completions[_other_prompt(prompts, i)], no_grad_probe=True))
            made.append(tuple(group))
        return made

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The reference."""
        return frozenset({"reference"})

    def probe_sum(self, batch: Batch) -> Tensor:
        """The sum of the probes' log-ratios."""
        return batch.log_ratios.sum()

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        probes = batch.probe_statistics
        kl = 0.0 if probes is None else (probes[0] / probes[1]).clamp(min=0)
        return (kto_loss(batch.log_ratios, batch.row_features["good"], kl, self.beta) * batch.weights).sum()


def _other_prompt(prompts: Sequence[tuple[int, ...]], i: int) -> int:
    """The next record after `i`, cyclically, with another prompt."""
    order = (j % len(prompts) for j in range(i + 1, i + len(prompts)))
    if (found := next((j for j in order if prompts[j] != prompts[i]), None)) is None:
        raise BadInput(
            "all records have the same prompt, and KTO compares a prompt with the response to another",
            where="kto",
            fix="give records of two prompts or more, or use kto(estimate_kl=False)",
        )
    return found


kto = Kto
