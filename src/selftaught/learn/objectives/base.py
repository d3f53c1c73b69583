"""The objective protocol."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to train on.

    Attributes:
        prompt: token ids that are conditioned on, never learnt.
        target: token ids that bear the loss, end of sequence included.
        weight: scale of the loss of this row.
    """

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    weight: float = 1.0


class Objective(Protocol):
    """What is learnt from records. Implementations are frozen dataclasses: their fields are the configuration."""

    @property
    def name(self) -> str:
        """Short name, as it stands in manifests."""
        ...

    def rows(self, record: Any, tokenizer: ChatTokenizer) -> Sequence[Row]:
        """The sequences one record is trained on."""
        ...

    def loss(self, logprobs: Tensor, mask: Tensor, weights: Tensor) -> Tensor:
        """The summed loss of a batch, to be divided by the number of target tokens of the optimiser's step.

        Args:
            logprobs: `[rows, tokens]`, natural-log probability of each target token.
            mask: `[rows, tokens]`, 1 where a token bears the loss, 0 where it pads.
            weights: `[rows]`.
        """
        ...
