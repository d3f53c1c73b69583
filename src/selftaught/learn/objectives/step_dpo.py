"""Step-level preferences: DPO on single reasoning steps that share what comes before them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.checks import check_positive
from selftaught.learn.objectives.base import Batch, Group, Row
from selftaught.learn.objectives.preference import Dpo, encode_pair, split_pairs
from selftaught.records import Pair, Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

__all__ = ["advantage_margin", "step_dpo", "visit_label_smoothing"]


def visit_label_smoothing(chosen: float, rejected: float) -> float:
    """Label smoothing from a search's visit counts of two siblings: 1 / (N_w / N_l + 1), at most a half.

    Source: Xie et al., "Monte Carlo tree search boosts reasoning via iterative preference learning", 2405.00451,
    and its code (github.com/YuxiXie/MCTS-DPO), which caps it at a half.

    Raises:
        BadInput: a count that is not above 0.
    """
    check_positive(chosen=chosen, rejected=rejected)
    return min(rejected / (chosen + rejected), 0.5)


def advantage_margin(chosen: float, rejected: float, scale: float = 1.0) -> float:
    """The margin of a pair of steps: scale * (A_w - A_l), the difference of their advantages in the search.

    Source: Wang et al., "CPL", 2409.08642 (Step-APO). Its sign and scale are taken from a summary and not
    checked against the paper.
    """
    return scale * (chosen - rejected)


@dataclass(frozen=True, slots=True)
class StepDpo(Dpo):
    """DPO on `Pair` records whose responses share a beginning: only what follows it bears the loss.

    The loss is `Dpo`'s, with the shared tokens as part of the prompt. For "sigmoid" that changes no value (they
    cancel), only the cost; "ipo" averages over the rest. `Pair.margin` takes an `advantage_margin`,
    `Pair.label_smoothing` a `visit_label_smoothing`. Sources: Lai et al., "Step-DPO", 2406.18629; 2405.00451.

    Attributes:
        learn_eos: whether the responses are complete, so that their end of sequence is learned; steps are not.
        group_by_prompt: average over the pairs of a prompt first, and then over prompts, so that each search tree has
            the same weight (the code of 2405.00451); `batch_size` then counts prompts.
    """

    beta: float = 0.4
    learn_eos: bool = False
    group_by_prompt: bool = False
    name: str = "step-dpo"

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """One group for each pair; with `group_by_prompt`, for each prompt, in the order of their first pairs."""
        found = Dpo.groups(self, records, tokenizer)
        if not self.group_by_prompt:
            return found
        by_prompt: dict[Prompt, Group] = {}
        for record, group in zip(records, found, strict=True):
            by_prompt[record.prompt] = (*by_prompt.get(record.prompt, ()), *group)
        return list(by_prompt.values())

    def rows(self, record: Pair, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """What follows the shared beginning.

        Raises:
            BadInput: one response is the beginning of the other.
        """
        self.check_pair(record, where)
        rows = encode_pair(record, tokenizer, where)
        drop_eos = record.ends and not self.learn_eos
        chosen, rejected = (row.completion[:-1] if drop_eos else row.completion for row in rows)
        shared = next((i for i, (a, b) in enumerate(zip(chosen, rejected, strict=False)) if a != b), None)
        if shared is None:
            problem = "one response is the beginning of the other"
            raise BadInput(problem, where=where, fix="drop it, or set learn_eos=True")
        prompt = rows[0].prompt + chosen[:shared]
        return [
            Row(prompt, ids[shared:], row.weight, row.row_features)
            for row, ids in zip(rows, (chosen, rejected), strict=True)
        ]

    def loss(self, batch: Batch) -> Tensor:
        """See `Objective.loss`; with `group_by_prompt`, the sum over prompts of the mean over their pairs."""
        if not self.group_by_prompt:
            return Dpo.loss(self, batch)
        losses = self.per_pair(batch) * split_pairs(batch.weights)[0]
        pairs = losses.split([size // 2 for size in batch.sizes])
        return sum((one.mean() for one in pairs), losses.new_zeros(()))


step_dpo = StepDpo
