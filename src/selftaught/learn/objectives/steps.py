"""Preferences between single steps of reasoning that go on from the same place."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Row, check_positive
from selftaught.learn.objectives.preference import Dpo, paired_rows
from selftaught.records import Pair

if TYPE_CHECKING:
    from selftaught.models.chat import ChatTokenizer


def visit_softness(chosen: float, rejected: float) -> float:
    """Label smoothing from how often a search visited two siblings: 1 / (N_w / N_l + 1), at most a half.

    Source: Xie et al., "Monte Carlo tree search boosts reasoning via iterative preference learning", 2405.00451,
    and its code (github.com/YuxiXie/MCTS-DPO), which caps it at a half.

    Raises:
        BadInput: a count that is not above 0.
    """
    check_positive(chosen=chosen, rejected=rejected)
    return min(rejected / (chosen + rejected), 0.5)


def advantage_margin(chosen: float, rejected: float, scale: float = 1.0) -> float:
    """The lead to ask of a pair of steps: scale * (A_w - A_l), the difference of their advantages in the search.

    Source: Wang et al., "CPL", 2409.08642 (Step-APO). Its sign and scale are taken from a summary and not
    checked against the paper.
    """
    return scale * (chosen - rejected)


@dataclass(frozen=True, slots=True)
class StepDpo(Dpo):
    """DPO on `Pair` records whose responses share a beginning: only what follows it bears the loss.

    The loss is `Dpo`'s, with the shared tokens as part of the prompt. For "sigmoid" that changes no value (they
    cancel), only what it costs; "ipo" averages over what is left. `Pair.margin` takes an `advantage_margin`,
    `Pair.softness` a `visit_softness`. Sources: Lai et al., "Step-DPO", 2406.18629; 2405.00451.

    Attributes:
        ends: whether the responses are whole, so that their end of sequence is learnt; steps are not.
    """

    ends: bool = False
    name: str = "step-dpo"

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """What follows the shared beginning.

        Raises:
            BadInput: one response is the beginning of the other.
        """
        self.check(record, where)
        rows = paired_rows(record, tokenizer, where)
        chosen, rejected = (row.target[:-1] if record.ends and not self.ends else row.target for row in rows)
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
        if shared is None:
            raise BadInput("one response is the beginning of the other", where=where, fix="drop it, or set ends=True")
        prompt = rows[0].prompt + chosen[:shared]
        return [
            Row(prompt, ids[shared:], row.weight, row.numbers)
            for row, ids in zip(rows, (chosen, rejected), strict=True)
        ]


def step_dpo(beta: float = 0.4, **settings: Any) -> StepDpo:
    """Step-level DPO (2406.18629); see `StepDpo`."""
    return StepDpo(beta, **settings)
