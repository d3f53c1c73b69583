"""What an objective is: how records become rows of tokens, and a pure function from their log-probabilities to a loss.

The trainer evaluates rows and hands the results over by group; it knows no objective. An objective adds
what it wants to know about a row as `numbers` (one per row) and `tokens` (one per target token); they come
back in the `Batch`, padded as the log-probabilities are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from selftaught.errors import BadInput

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer

ANCHORS = ("reference", "start", "teacher")  # what frozen weights say of a row, computed once before training
NEEDS = (*ANCHORS, "entropy", "value")


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to evaluate.

    Attributes:
        prompt: token ids that are conditioned on, never learnt.
        target: token ids that bear the loss, end of sequence included.
        weight: scale of the loss of this row.
        numbers: facts about the row, back in `Batch.numbers` as `[rows]`.
        tokens: facts about each target token, back in `Batch.tokens` as `[rows, tokens, ...]`.
        anchor: prompt that the reference and the teacher are given in place of `prompt`; empty for the same.
        probe: evaluated without gradient before each step, for `Objective.survey`, and not for the loss.
    """

    prompt: tuple[int, ...]
    target: tuple[int, ...]
    weight: float = 1.0
    numbers: Mapping[str, float] = field(default_factory=dict)
    tokens: Mapping[str, Any] = field(default_factory=dict)
    anchor: tuple[int, ...] = ()
    probe: bool = False


Group = tuple[Row, ...]  # rows whose losses depend on each other: they are always evaluated together


@dataclass(frozen=True, slots=True)
class Batch:
    """Whole groups of rows, evaluated: `rows` of them, padded on the right to `tokens` target tokens.

    Attributes:
        logprobs: `[rows, tokens]`, natural-log probability of each target token; 0 where it pads.
        mask: `[rows, tokens]`, 1 for a target token, 0 for padding.
        weights: `[rows]`.
        sizes: how many rows each group has, in order.
        numbers: `[rows]` each, as the rows gave them.
        tokens: `[rows, tokens, ...]` each, as the rows gave them; also what was needed of
            "reference" and "start" (`[rows, tokens]` log-probabilities of the targets) and "teacher"
            (`[rows, tokens, k]` log-probabilities of the teacher's k likeliest tokens; "label" is 1 at the
            target's own, if it is one of them).
        entropy: `[rows, tokens]` in nats, of the distribution each target token was drawn from; if needed.
        student: `[rows, tokens, k]`, log-probabilities of the teacher's k likeliest tokens; if needed.
        values: `[rows, tokens, outputs]`, what the head reads before each target token; if needed.
        survey: what `Objective.survey` summed up over the probes of the whole step, and their number.
    """

    logprobs: Tensor
    mask: Tensor
    weights: Tensor
    sizes: tuple[int, ...] = ()
    numbers: Mapping[str, Tensor] = field(default_factory=dict)
    tokens: Mapping[str, Tensor] = field(default_factory=dict)
    entropy: Tensor | None = None
    student: Tensor | None = None
    values: Tensor | None = None
    survey: tuple[Tensor, int] | None = None

    @property
    def sums(self) -> Tensor:
        """`[rows]`, log-probability of each whole target."""
        return (self.logprobs * self.mask).sum(-1)

    @property
    def lengths(self) -> Tensor:
        """`[rows]`, target tokens in each row."""
        return self.mask.sum(-1)

    @property
    def ratios(self) -> Tensor:
        """`[rows]`, log p(y|x) - log p_ref(y|x)."""
        return ((self.logprobs - self.tokens["reference"]) * self.mask).sum(-1)

    def by_group(self, values: Tensor) -> tuple[Tensor, ...]:
        """`values` `[rows, ...]`, one tensor for each group."""
        return values.split(list(self.sizes))

    def pick(self, rows: Sequence[int]) -> Batch:
        """Some of the rows, each a group of its own."""

        def some(values: Any) -> Any:
            return values if values is None else values[list(rows)]

        names = ("logprobs", "mask", "weights", "entropy", "student", "values")
        kept: dict[str, Any] = {name: some(getattr(self, name)) for name in names}
        kept |= {held: {n: some(x) for n, x in getattr(self, held).items()} for held in ("numbers", "tokens")}
        return Batch(**kept, sizes=(1,) * len(rows), survey=self.survey)


class Objective(Protocol):
    """What is learnt from records. Implementations are frozen dataclasses: their fields are the configuration."""

    @property
    def name(self) -> str:
        """Short name, as it stands in manifests."""
        ...

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """The rows of each record, in the order of the records; an empty group where a record teaches nothing."""
        ...

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:
        """Which of `NEEDS` the loss reads, beyond the log-probabilities."""
        ...

    def size(self, group: Group) -> float:
        """What a group counts in the mean: a step's summed loss is divided by the sizes of its groups."""
        ...

    def survey(self, batch: Batch) -> Tensor:
        """A sum over probe rows, added up over the step; given to every loss of the step."""
        ...

    def loss(self, batch: Batch) -> Tensor:
        """The summed loss of a batch, a scalar. The trainer divides it by the sizes of the step's groups."""
        ...


class Base:
    """What most objectives share: one group for each record of one type, a mean over groups, no needs."""

    __slots__ = ()
    takes: ClassVar[tuple[type, ...]] = ()
    outputs: ClassVar[int] = 1  # of the head, for objectives that need "value"

    def groups(self, records: Sequence[Any], tokenizer: ChatTokenizer) -> list[Group]:
        """See `Objective.groups`.

        Raises:
            BadInput: a record of another type than this objective takes, or one it can learn nothing from.
        """
        check_types(records, self.takes, type(self).__name__.lower())
        return [tuple(self.rows(record, tokenizer, f"training record {i}")) for i, record in enumerate(records)]

    def rows(self, record: Any, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """The rows of one record; `where` names it in errors."""
        raise NotImplementedError

    def needs(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """See `Objective.needs`."""
        return frozenset()

    def size(self, group: Group) -> float:
        """See `Objective.size`."""
        return float(bool(group))

    def survey(self, batch: Batch) -> Tensor:
        """See `Objective.survey`."""
        return batch.logprobs.new_zeros(())


def target_ids(tokenizer: ChatTokenizer, text: str, ends: bool) -> tuple[int, ...]:
    """Token ids of a response to learn; without an end of sequence where the response is not whole."""
    return tuple(tokenizer.encode_target(text) if ends else tokenizer.encode_answer(text))


def tokens_of(group: Group) -> float:
    """Target tokens of a group: the size of objectives that are means over tokens."""
    return float(sum(len(row.target) for row in group))


def rows_of(group: Group) -> float:
    """Rows of a group that bear a loss."""
    return float(sum(not row.probe for row in group))


def check_types(records: Sequence[Any], takes: tuple[type, ...], name: str) -> None:
    """Raise `BadInput` for the first record of a type that is not taken."""
    for i, record in enumerate(records):
        if not isinstance(record, takes):
            wanted = " or ".join(kind.__name__ for kind in takes)
            raise BadInput(
                f"got a {type(record).__name__}, and {name} learns from {wanted} records",
                where=f"training record {i}",
                fix="make records of that type, or choose another objective",
            )


def check_positive(**values: float) -> None:
    """Raise `BadInput` for a setting that is not a finite number above 0."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise BadInput(f"got {value}", where=name, fix="use a number above 0")


def check_within(low: float, high: float, **values: float) -> None:
    """Raise `BadInput` for a setting outside `low <= value < high`."""
    for name, value in values.items():
        if not low <= value < high:
            raise BadInput(f"got {value}", where=name, fix=f"use at least {low:g} and less than {high:g}")
