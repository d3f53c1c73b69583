"""Preferences without pairs: KTO, from responses that are each good or bad."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Base, Batch, Group, Row, check_positive, check_types
from selftaught.records import Label

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.policy import Policy


def kto_loss(ratios: Tensor, good: Tensor, kl: Tensor | float, beta: float) -> Tensor:
    """`[rows]`: 1 - s(beta (r - z)) where good, 1 - s(beta (z - r)) where bad.

    r is log p(y|x)/p_ref(y|x) and z >= 0 an estimate of KL(p || p_ref) that bears no gradient.

    Source: Ethayarajh et al., "KTO", 2402.01306, equation 7.
    """
    sign = 2 * good - 1
    return 1 - (beta * sign * (ratios - kl)).sigmoid()


@dataclass(frozen=True, slots=True)
class Kto(Base):
    """Kahneman-Tversky optimisation on `Label` records, averaged over the records of a step.

    z is max(0, mean log p(y'|x)/p_ref(y'|x)) over the records of a step, each prompt with the response of the
    next record whose prompt differs, evaluated before the step (2402.01306).

    Attributes:
        beta: strength of the anchor to the reference.
        good, bad: weights of the two kinds; the paper wants good * (number of good) over bad * (number of bad)
            between 1 and 3/2.
        kl: whether to estimate z; without, it is 0 (APO-zero, unpaired: 2408.06266).
        reference: the policy to stay near; None for the one that training starts from.
    """

    takes = (Label,)
    beta: float = 0.1
    good: float = 1.0
    bad: float = 1.0
    kl: bool = True
    reference: Policy | None = None
    name: str = "kto"

    def __post_init__(self) -> None:
        check_positive(beta=self.beta, good=self.good, bad=self.bad)

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """Each response, and as a probe the record's prompt with another's response.

        Raises:
            BadInput: a record of another type; all records have the same prompt, so that there is no other's response.
        """
        check_types(records, self.takes, "kto")
        prompts = [tuple(tokenizer.encode_prompt(record.prompt)) for record in records]
        targets = [tuple(tokenizer.encode_target(record.response)) for record in records]
        made = []
        for i, record in enumerate(records):
            weight = self.good if record.good else self.bad
            group = [Row(prompts[i], targets[i], weight, {"good": float(record.good)})]
            if self.kl:
                group.append(Row(prompts[i], targets[_other(prompts, i)], probe=True))
            made.append(tuple(group))
        return made

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """The reference."""
        return frozenset({"reference"})

    def survey(self, batch: Batch) -> Tensor:
        """The sum of the probes' log-ratios."""
        return batch.ratios.sum()

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`."""
        kl = 0.0 if batch.survey is None else (batch.survey[0] / batch.survey[1]).clamp(min=0)
        return (kto_loss(batch.ratios, batch.numbers["good"], kl, self.beta) * batch.weights).sum()


def _other(prompts: Sequence[tuple[int, ...]], i: int) -> int:
    """The next record, from `i` on and around, with another prompt."""
    found = next(
        (j % len(prompts) for j in range(i + 1, i + len(prompts)) if prompts[j % len(prompts)] != prompts[i]), None
    )
    if found is None:
        raise BadInput(
            "all records have the same prompt, and KTO compares a prompt with the response to another",
            where="kto",
            fix="give records of two prompts or more, or use Kto(kl=False)",
        )
    return found
