"""The legs of a claim: single statements that a check decides, each from an estimate with its interval."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal, get_args

from selftaught.errors import BadInput, suggest

if TYPE_CHECKING:
    from selftaught.models import Policy
    from selftaught.run.run import Run
    from selftaught.run.solver import SolverResult

Contrast = Literal["as published", "equal compute"]
"""How a baseline is matched with the method: with its declared options, or made to fit the method's compute."""

CONTRASTS: tuple[Contrast, ...] = get_args(Contrast)

NAMED_BASELINES = ("greedy", "sample", "majority", "best-logprob")
"""Baselines that need no method, see `Claim`."""

FIXED_BASELINES = frozenset({"greedy", "sample"})
"""Baselines that cost one answer per problem: no contrast at equal compute exists."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A method, or the same method with other options, that a claim compares with.

    Attributes:
        name: label in the table.
        method: id of the method; empty for the claiming method itself.
        options: options of that method; for the claiming method itself, changes to the claim's options.
        contrasts: the contrasts it takes part in. "as published": with exactly these options, so equal samples, steps
            or rounds are up to the claim. "equal compute": `fit_with` is changed so that it spends as much compute as
            the method, never more.
        fit_with: the numeric option that is changed at equal compute. Empty: "rounds" of a recipe (whose last round is
            cut to fit), "samples" of a solver, where the method has that option; none if `options` or its preset sets
            a recipe's rounds. A baseline without one runs with its options in both contrasts.
    """

    name: str
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    contrasts: tuple[Contrast, ...] = CONTRASTS
    fit_with: str = ""

    def __post_init__(self) -> None:
        if not self.contrasts:
            raise BadInput("a baseline needs a contrast", where=self.name, fix=f"use {' or '.join(CONTRASTS)}")
        for contrast in self.contrasts:
            if contrast not in CONTRASTS:
                raise BadInput(f"unknown contrast {contrast!r}", where=self.name, fix=suggest(contrast, CONTRASTS))


VOTE_AT_EQUAL_COMPUTE = Baseline(
    "vote", method="self-consistency", options={"samples": 4}, contrasts=("equal compute",)
)
"""For solvers and judges whose papers compare with a single sample: as many samples as fit, and their vote."""

AnyBaseline = str | Baseline


@dataclass(frozen=True)
class SystemResult:
    """A method or baseline that has finished on one seed; metrics are computed from it.

    Attributes:
        run: its run, still open; `run.history` holds what each round logged.
        policy: the policy that answered: a recipe's champion, else the starting model.
        answers: one verified final answer per test problem, in the order of `run.task.test`; empty for a study.
        tokens: generated, judge and trained tokens it spent, including those of `answers`.
        returned: the return value of a recipe or study.
        compute: what is matched at equal compute, in sampled tokens (see `Ledger.compute`): of a recipe or study all
            before the test problems are answered, of a solver the answers.
        answer_compute: of the answers.
    """

    run: Run
    policy: Policy
    answers: Sequence[SolverResult]
    tokens: int
    returned: Any = None
    compute: int = 0
    answer_compute: int = 0


Scores = Mapping[str, float]
"""Problem id -> number."""

Metric = Callable[[SystemResult], Scores]
"""Scores a finished system: problem id -> number, for every test problem."""

ExtraMetrics = Callable[[SystemResult], Mapping[str, float]]
"""Named numbers that describe what a finished system did."""


def accuracy(result: SystemResult) -> dict[str, float]:
    """Return 1 for each test problem whose final answer is RIGHT, else 0."""
    return {one.attempt.problem.id: float(one.attempt.right) for one in result.answers}


@dataclass(frozen=True, slots=True)
class Beats:
    """The method's mean metric is better than the baseline's, in the claim's direction.

    Attributes:
        baseline: what it beats; see `Claim` for names.
        metric: in place of the claim's.
        min_effect: in place of the claim's.
    """

    baseline: AnyBaseline
    metric: Metric | None = None
    min_effect: float | None = None


@dataclass(frozen=True, slots=True)
class NoWorse:
    """The method's mean metric is not worse than the baseline's by the margin or more (a non-inferiority test).

    Attributes:
        baseline: what it is compared with; see `Claim` for names.
        margin: largest acceptable loss, > 0, in units of the metric.
        metric: in place of the claim's.
    """

    baseline: AnyBaseline
    margin: float
    metric: Metric | None = None

    def __post_init__(self) -> None:
        if not self.margin > 0:
            raise BadInput(f"margin must be > 0, got {self.margin}", where="NoWorse")


@dataclass(frozen=True, slots=True)
class Ordered:
    """Systems rank in this order, each better than the next in the claim's direction.

    Attributes:
        systems: at least two, best first; None is the claiming method itself.
        metric: in place of the claim's.
    """

    systems: tuple[AnyBaseline | None, ...]
    metric: Metric | None = None

    def __post_init__(self) -> None:
        if len(self.systems) < 2:
            raise BadInput("an order needs at least two systems", where="Ordered", fix="name two, best first")


@dataclass(frozen=True, slots=True)
class Statistic:
    """A statistic of the method's observations (AUROC, calibration error, F1, rank correlation, slope) has a bound.

    Its interval comes from resampling problems, and for methods that train also seeds.

    Attributes:
        name: label in the table, such as "AUROC of P(True)".
        observations: problem id -> the problem's observations, such as (confidence, right) pairs.
        function: the statistic of all observations in one list; NaN where it is undefined.
        at_least: lower bound that is claimed.
        at_most: upper bound that is claimed; give one of the two.
        over: subtract the statistic of this baseline; the bound is then on the difference.
    """

    name: str
    observations: Callable[[SystemResult], Mapping[str, Sequence[Any]]]
    function: Callable[[list[Any]], float]
    at_least: float | None = None
    at_most: float | None = None
    over: AnyBaseline | None = None

    def __post_init__(self) -> None:
        _one_bound(self.name, self.at_least, self.at_most)


@dataclass(frozen=True, slots=True)
class Alarm:
    """The method's run raises this alarm of the framework (see `control.alarms`) on most seeds.

    Attributes:
        name: one of `control.alarms.NAMES`, such as "diversity" or "regression".
        share: more than this share of seeds, 0..1, must raise it; decided by an exact binomial test.
    """

    name: str
    share: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.share < 1:
            raise BadInput(f"share must lie between 0 and 1, got {self.share}", where=f"Alarm {self.name}")
        from selftaught.control.alarms import NAMES

        if self.name not in NAMES:
            raise BadInput(f"unknown alarm {self.name!r}", where="claim", fix=suggest(self.name, NAMES))


Leg = Beats | NoWorse | Ordered | Statistic | Alarm


@dataclass(frozen=True, slots=True)
class Precondition:
    """A manipulation check: what must hold before the claim can be tested at all.

    Where one fails the verdict is "not testable here", whatever the legs say.

    Attributes:
        name: what must hold, in words a visitor understands, such as "the fixed arm levels off".
        value: measures it on a finished system; the mean over seeds is compared. None where it cannot be measured: a
            value that is None on every seed fails.
        at_least: least mean that holds.
        at_most: greatest mean that holds; give one bound or both.
        of: the system that is measured, a baseline of the claim by its name or a `Baseline` that runs for this alone;
            None: the method.
        over: a baseline whose value is subtracted.
    """

    name: str
    value: Callable[[SystemResult], float | None]
    at_least: float | None = None
    at_most: float | None = None
    of: AnyBaseline | None = None
    over: AnyBaseline | None = None

    def __post_init__(self) -> None:
        if self.at_least is None and self.at_most is None:
            raise BadInput("a precondition needs a bound", where=self.name, fix="give at_least or at_most")

    def holds(self, value: float | None) -> bool:
        """Whether a mean value is within the bounds."""
        if value is None or value != value:
            return False
        return (self.at_least is None or value >= self.at_least) and (self.at_most is None or value <= self.at_most)


def baselines_of(leg: Leg | Precondition) -> list[AnyBaseline]:
    """The baselines that a leg or a precondition names."""
    if isinstance(leg, (Beats, NoWorse)):
        return [leg.baseline]
    if isinstance(leg, Ordered):
        return [one for one in leg.systems if one is not None]
    if isinstance(leg, Statistic):
        return [leg.over] if leg.over is not None else []
    if isinstance(leg, Precondition):
        return [one for one in (leg.of, leg.over) if one is not None]
    return []


def name_of(baseline: AnyBaseline) -> str:
    """The name of a baseline."""
    return baseline if isinstance(baseline, str) else baseline.name


def _one_bound(name: str, at_least: float | None, at_most: float | None) -> None:
    if (at_least is None) == (at_most is None):
        raise BadInput("a statistic needs one bound", where=name, fix="give at_least or at_most")
