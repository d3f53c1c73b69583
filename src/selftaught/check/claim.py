"""Claims: what a method must beat. Declared beside its function and tested by `selftaught check`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from selftaught.check.legs import (
    NAMED_BASELINES,
    VOTE_AT_EQUAL_COMPUTE,
    Alarm,
    AnyBaseline,
    Baseline,
    Beats,
    Contrast,
    ExtraMetrics,
    Leg,
    Metric,
    NoWorse,
    Ordered,
    Precondition,
    Scores,
    Statistic,
    SystemResult,
    accuracy,
    baselines_of,
    name_of,
)
from selftaught.errors import BadInput, suggest

if TYPE_CHECKING:
    from selftaught.run.solver import Solver

__all__ = [
    "NAMED_BASELINES",
    "VOTE_AT_EQUAL_COMPUTE",
    "Ability",
    "Alarm",
    "AnyBaseline",
    "Baseline",
    "Beats",
    "Claim",
    "Contrast",
    "ExtraMetrics",
    "Leg",
    "Metric",
    "NoWorse",
    "Ordered",
    "Precondition",
    "Scores",
    "Statistic",
    "SystemResult",
    "Variant",
    "accuracy",
]

Ability = Literal["planted", "learnt", "real"]
"""Where the ability a claim rests on comes from: the synthetic world's text, the method's training, a real model."""

Variant = Literal["", "hard", "checkable"]
"""Which of a world's tasks a claim is about; "" is the usual one. See `World.variants`."""


@dataclass(frozen=True)
class Claim:
    """A falsifiable claim about a method.

    Attributes:
        text: the claim in one sentence.
        baselines: short form of `legs`: what the method must beat, each on the same test problems. By name:
            "greedy", the starting model's greedy answer;
            "sample", one sample of it at temperature 0.7 and top-k 40, as in all that follow;
            "majority", majority vote over samples of it: as published as many as the method's option `samples`, at
            equal compute as many as fit the method's compute;
            "best-logprob", the one of those samples with the highest mean log-probability;
            or a `Baseline`, another method or the same one with other options, on the same train problems.
        legs: statements that must all hold, in place of or beside `baselines`: `Beats`, `NoWorse`, `Ordered`,
            `Statistic`, `Alarm`.
        preconditions: manipulation checks; where one fails the verdict is "not testable here".
        solver: how a recipe's champion answers the test problems, where its policies are meant for a solver; None:
            greedily.
        metric: `accuracy`, or another number per test problem.
        vote_baseline: whether to show the starting model's vote, scored by accuracy. None: only if the metric is
            accuracy. Set True if the metric is the accuracy of answers reached another way.
        direction: whether the claim is that the metric is "higher" or "lower" than the baselines'.
        options: the method's options in a check, where its defaults take too long.
        ablations: name -> changes to `options`. Run with `--ablate` and reported; they do not affect the verdict.
        min_effect: smallest effect of interest, in units of the metric. The verdict is "no effect" once every effect
            at least this large is ruled out.
        extra_metrics: further metrics of the method to report; they do not affect the verdict.
        generalization: test on the world's harder problems, of which there are no train problems.
        variant: train and test on another task of the world, if it has one: "hard", where one says that a method
            reaches problems that others do not; "checkable", where a model is to learn from its own feedback.
        ability: see `Ability`; None: "planted" for what trains nothing, "learnt" for recipes. On a world with a real
            model it is always "real".
        amortized_over: number of questions over which training is spread at equal compute, where only one of the method
            and a baseline trains. The other may then spend its share of the training on each question. With 0 such a
            baseline cannot be compared at equal compute, and the verdict on that contrast is "not testable here" unless
            the baseline's `contrasts` leave it out.
        train: train problems of a seed that the claim needs, for the method and its baselines; 0: the world's number.
        champion: the policy of a recipe that answers: the "last" one, or the one that is best on "dev"; None: what the
            world says.

    Raises:
        BadInput: there is no leg, a baseline is unknown, two differ under one name, or a number is out of range.
    """

    text: str
    baselines: tuple[AnyBaseline, ...] = ()
    metric: Metric = accuracy
    vote_baseline: bool | None = None
    direction: Literal["higher", "lower"] = "higher"
    options: Mapping[str, Any] = field(default_factory=dict)
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    min_effect: float = 0.02
    extra_metrics: ExtraMetrics | None = None
    generalization: bool = False
    variant: Variant = ""
    solver: Solver | None = None
    legs: tuple[Leg, ...] = ()
    preconditions: tuple[Precondition, ...] = ()
    ability: Ability | None = None
    champion: Literal["last", "dev"] | None = None
    amortized_over: int = 0
    train: int = 0

    def __post_init__(self) -> None:
        if not self.baselines and not self.legs:
            raise BadInput("a claim needs at least one baseline", where="baselines", fix='name one, such as "greedy"')
        if self.direction not in ("higher", "lower"):
            raise BadInput(f'direction must be "higher" or "lower", got {self.direction!r}', where="claim")
        if not self.min_effect > 0:
            raise BadInput(f"min_effect must be > 0, got {self.min_effect}", where="claim")
        if self.variant not in (known := get_args(Variant)):
            raise BadInput(f"unknown variant {self.variant!r}", where="claim", fix=suggest(self.variant, known))
        for name in ("amortized_over", "train"):
            if getattr(self, name) < 0:
                raise BadInput(f"{name} must be ≥ 0, got {getattr(self, name)}", where="claim")
        _check_baselines(self)

    @property
    def all_legs(self) -> tuple[Leg, ...]:
        """`Beats` for each of `baselines`, then `legs`."""
        return (*map(Beats, self.baselines), *self.legs)

    @property
    def all_baselines(self) -> dict[str, AnyBaseline]:
        """Every baseline that a leg or a precondition needs, by name, in the order of their first mention."""
        return _baselines((*self.all_legs, *self.preconditions))

    @property
    def leg_baselines(self) -> dict[str, AnyBaseline]:
        """Those that a leg compares with."""
        return _baselines(self.all_legs)

    @property
    def sign(self) -> int:
        """1 where higher is claimed, -1 where lower."""
        return 1 if self.direction == "higher" else -1


def _baselines(parts: Sequence[Leg | Precondition]) -> dict[str, AnyBaseline]:
    """Baselines by name; a name stands for the `Baseline` of that name, wherever it is declared."""
    found: dict[str, AnyBaseline] = {}
    for baseline in (one for part in parts for one in baselines_of(part)):
        if not isinstance(baseline, str) or name_of(baseline) not in found:
            found[name_of(baseline)] = baseline
    return found


def _check_baselines(claim: Claim) -> None:
    """Refuse an unknown name, and one name for two baselines."""
    declared: dict[str, Baseline] = {}
    named = [one for part in (*claim.all_legs, *claim.preconditions) for one in baselines_of(part)]
    for one in named:
        if isinstance(one, Baseline) and declared.setdefault(one.name, one) != one:
            raise BadInput(f"two baselines are called {one.name!r}", where="claim", fix="give each its own name")
    for one in named:
        if isinstance(one, str) and one not in NAMED_BASELINES and one not in declared:
            known = (*NAMED_BASELINES, *declared)
            raise BadInput(f"unknown baseline {one!r}", where="claim", fix=suggest(one, known))
