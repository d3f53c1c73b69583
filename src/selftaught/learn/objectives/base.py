"""The objective interface: records become rows of tokens, and a pure function maps their log-probabilities to a loss.

The trainer knows no objective. It evaluates the rows and passes the results to `Objective.loss`, group by group. An
objective attaches what its loss needs to know about a row as `row_features` (one number per row) and `token_features`
(one value per completion token); both come back in the `Batch`, padded like the log-probabilities.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from selftaught.errors import BadInput
from selftaught.learn.checks import check_choices

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.heads import HeadConfig
    from selftaught.models.policy import Policy
    from selftaught.records import Record

FROZEN_OUTPUTS = ("reference", "initial", "teacher")  # outputs of frozen weights, computed once before training
REQUIREMENTS = (*FROZEN_OUTPUTS, "entropy", "value")


@dataclass(frozen=True, slots=True)
class Row:
    """One sequence to evaluate.

    Attributes:
        prompt: token ids to condition on; they bear no loss.
        completion: token ids that bear the loss, end of sequence included; but for those that `loss_mask` leaves out.
        weight: scale of this row's loss.
        row_features: numbers about the row, back in `Batch.row_features` as `[rows]`.
        token_features: values for each completion token, back in `Batch.token_features` as `[rows, tokens, ...]`.
        reference_prompt: prompt for the reference and the teacher instead of `prompt`; empty for the same.
        no_grad_probe: evaluate the row without gradient before each step, for `Objective.probe_sum`, and leave it out
            of the loss.
        loss_mask: whether each completion token bears the loss; empty if all do.
    """

    prompt: tuple[int, ...]
    completion: tuple[int, ...]
    weight: float = 1.0
    row_features: Mapping[str, float] = field(default_factory=dict)
    token_features: Mapping[str, Any] = field(default_factory=dict)
    reference_prompt: tuple[int, ...] = ()
    no_grad_probe: bool = False
    loss_mask: tuple[bool, ...] = ()

    @property
    def loss_tokens(self) -> int:
        """Number of completion tokens that bear the loss."""
        return sum(self.loss_mask) if self.loss_mask else len(self.completion)


Group = tuple[Row, ...]  # rows whose losses depend on each other: they are always evaluated together


@dataclass(frozen=True, slots=True)
class Batch:
    """Evaluated rows of whole groups, padded on the right to `tokens` completion tokens.

    Attributes:
        logprobs: `[rows, tokens]`, natural-log probability of each completion token; 0 at padding.
        mask: `[rows, tokens]`, 1 for a completion token that bears the loss, 0 for others and padding.
        weights: `[rows]`.
        sizes: number of rows in each group, in order.
        row_features: `[rows]` each, as the rows gave them.
        token_features: `[rows, tokens, ...]` each, as the rows gave them. If required, also "reference" and "initial"
            (`[rows, tokens]`, log-probabilities of the completion tokens) and "teacher" (`[rows, tokens, k]`,
            log-probabilities of the teacher's k likeliest tokens; "label" is 1 at the completion token if it is one of
            them).
        entropy: `[rows, tokens]` in nats, of the distribution at each completion token, if required.
        student: `[rows, tokens, k]`, log-probabilities of the teacher's k likeliest tokens, if required.
        values: `[rows, tokens, outputs]`, output of the value head before each completion token, if required.
        probe_statistics: `Objective.probe_sum` over all probes of the step, and their number.
    """

    logprobs: Tensor
    mask: Tensor
    weights: Tensor
    sizes: tuple[int, ...] = ()
    row_features: Mapping[str, Tensor] = field(default_factory=dict)
    token_features: Mapping[str, Tensor] = field(default_factory=dict)
    entropy: Tensor | None = None
    student: Tensor | None = None
    values: Tensor | None = None
    probe_statistics: tuple[Tensor, int] | None = None

    @property
    def sequence_logprobs(self) -> Tensor:
        """`[rows]`, log-probability of each whole completion."""
        return (self.logprobs * self.mask).sum(-1)

    @property
    def lengths(self) -> Tensor:
        """`[rows]`, completion tokens in each row that bear the loss."""
        return self.mask.sum(-1)

    @property
    def log_ratios(self) -> Tensor:
        """`[rows]`, log p(y|x) - log p_ref(y|x)."""
        return ((self.logprobs - self.token_features["reference"]) * self.mask).sum(-1)

    def by_group(self, values: Tensor) -> tuple[Tensor, ...]:
        """Split `values` `[rows, ...]` into one tensor for each group."""
        return values.split(list(self.sizes))

    def select(self, rows: Sequence[int]) -> Batch:
        """Some of the rows, each as a group of its own."""

        def some(values: Any) -> Any:
            return values if values is None else values[list(rows)]

        names = ("logprobs", "mask", "weights", "entropy", "student", "values")
        kept: dict[str, Any] = {name: some(getattr(self, name)) for name in names}
        for features in ("row_features", "token_features"):
            kept[features] = {name: some(values) for name, values in getattr(self, features).items()}
        return Batch(**kept, sizes=(1,) * len(rows), probe_statistics=self.probe_statistics)


class EMAConfig(NamedTuple):
    """A teacher that averages the weights in training (see `learn.teachers`).

    Attributes:
        decay: share of the average that each step keeps.
        lookahead_steps: virtual steps before each real one; 0 averages after each step.
    """

    decay: float
    lookahead_steps: int


class Objective:
    """What is learned from records: how they become rows, and the loss.

    Subclass it as a frozen dataclass, whose fields are the configuration, and write `rows` (or `groups`) and `loss`.
    The defaults of the rest suit a mean over records without a reference. `Literal` fields are checked on creation.

    Attributes:
        takes: the record types that it learns from.
        name: short name, for manifests and error messages.
        reference: the policy whose log-probabilities "reference" requires; None for the one that training starts from.
        teacher: the policy whose distributions "teacher" requires; None for the one that training starts from.
        teacher_top_k: number of likeliest tokens kept of a teacher's distribution; 0 keeps the whole vocabulary.
    """

    __slots__ = ()
    takes: ClassVar[tuple[type, ...]] = ()
    name: str = ""
    reference: Policy | None = None
    teacher: Policy | None = None
    teacher_top_k: int = 0

    def __post_init__(self) -> None:
        check_choices(self)
        self.validate()

    def validate(self) -> None:
        """Raise `BadInput` for settings that mean nothing; `Literal` fields are checked already."""

    @property
    def value_outputs(self) -> int:
        """Numbers per token that the value head predicts, if "value" is required."""
        return 1

    @property
    def head(self) -> HeadConfig | None:
        """What the value head's number means, for `run.score`; None if it is no score of answers."""
        return None

    @property
    def ema_teacher(self) -> EMAConfig | None:
        """The moving average of the weights in training to use as the teacher; None for a fixed teacher."""
        return None

    @property
    def advantage_estimator(self) -> str | None:
        """Name of the estimator (see `objectives.advantages`) for the rewards of multi-turn rollouts.

        None where the objective takes rewards itself.
        """
        return None

    @property
    def clip_range(self) -> tuple[float, float]:
        """How far below and above 1 probability ratios are clipped, for the clipped fraction in the metrics."""
        return math.inf, math.inf

    def groups(self, records: Sequence[Record], tokenizer: ChatTokenizer) -> list[Group]:
        """Encode the records: one group for each, in order; an empty group where a record teaches nothing.

        Raises:
            BadInput: a record of a type that the objective does not take, or one that it cannot learn from.
        """
        check_types(records, self.takes, self.name)
        return [tuple(self.rows(record, tokenizer, f"training record {i}")) for i, record in enumerate(records)]

    def rows(self, record: Any, tokenizer: ChatTokenizer, where: str = "") -> Sequence[Row]:
        """Encode one record; `where` names it in errors."""
        raise NotImplementedError

    def requires(self, rows: Sequence[Row]) -> frozenset[str]:  # noqa: ARG002
        """Which of `REQUIREMENTS` the loss reads beyond the log-probabilities."""
        return frozenset()

    def normalizer(self, group: Group) -> float:
        """What a group adds to the divisor of the step's loss; by default 1, for a mean over records."""
        return float(bool(group))

    def probe_sum(self, batch: Batch) -> Tensor:
        """A sum over probe rows. Its total over the step is in `Batch.probe_statistics` of every loss."""
        return batch.logprobs.new_zeros(())

    def loss(self, batch: Batch) -> Tensor:
        """The summed loss of a batch, a scalar; the trainer divides it by the `normalizer` of the step's groups."""
        raise NotImplementedError


def encode_completion(tokenizer: ChatTokenizer, text: str, ends: bool) -> tuple[int, ...]:
    """Token ids of a response to learn; without an end of sequence if the response is not complete."""
    return tuple(tokenizer.encode_target(text) if ends else tokenizer.encode_answer(text))


def count_tokens(group: Group) -> float:
    """Completion tokens of a group that bear the loss: the normalizer of a mean over tokens."""
    return float(sum(row.loss_tokens for row in group))


def count_rows(group: Group) -> float:
    """Rows of a group that bear a loss: the normalizer of a mean over rows."""
    return float(sum(not row.no_grad_probe for row in group))


def check_types(records: Sequence[Record], takes: tuple[type, ...], name: str) -> None:
    """Raise `BadInput` for the first record of a type that the objective does not take."""
    for i, record in enumerate(records):
        if not isinstance(record, takes):
            wanted = " or ".join(kind.__name__ for kind in takes)
            raise BadInput(
                f"got a {type(record).__name__}, and {name} learns from {wanted} records",
                where=f"training record {i}",
                fix="make records of that type, or choose another objective",
            )
