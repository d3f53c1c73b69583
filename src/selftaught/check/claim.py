"""Claims: what a method must beat. Declared beside its function and tested by `selftaught check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from selftaught.errors import BadInput, suggest

if TYPE_CHECKING:
    from selftaught.models import Policy
    from selftaught.run.run import Run
    from selftaught.run.solver import Solver, SolverResult

NAMED_BASELINES = ("greedy", "sample", "majority", "best-logprob")
"""Baselines that need no method, see `Claim`."""


@dataclass(frozen=True, slots=True)
class Baseline:
    """A method, or the same method with other options, that a claim compares with.

    Attributes:
        name: label in the table.
        method: id of the method; empty for the claiming method itself.
        options: options of that method; for the claiming method itself, changes to the claim's options.
        match_tokens_with: a numeric option of a solver (such as its number of samples) that is raised until the
            baseline spends at least the claiming method's tokens.
    """

    name: str
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    match_tokens_with: str = ""


@dataclass(frozen=True)
class SystemResult:
    """A method or baseline that has finished on one seed; metrics are computed from it.

    Attributes:
        run: its run, still open.
        policy: the policy that answered: a recipe's champion, else the starting model.
        answers: one verified final answer per test problem, in the order of `run.task.test`; empty for a study.
        tokens: generated, judge and trained tokens it spent, including those of `answers`.
        returned: the return value of a recipe or study.
    """

    run: Run
    policy: Policy
    answers: Sequence[SolverResult]
    tokens: int
    returned: Any = None


Metric = Callable[[SystemResult], Mapping[str, float]]
"""Scores a finished system: problem id -> number, for every test problem."""

ExtraMetrics = Callable[[SystemResult], Mapping[str, float]]
"""Named numbers that describe what a finished system did."""


def accuracy(result: SystemResult) -> dict[str, float]:
    """Return 1 for each test problem whose final answer is RIGHT, else 0."""
    return {one.attempt.problem.id: float(one.attempt.right) for one in result.answers}


@dataclass(frozen=True)
class Claim:
    """A falsifiable claim about a method.

    Attributes:
        text: the claim in one sentence.
        baselines: what the method must beat, each on the same test problems. By name:
            "greedy", the starting model's greedy answer;
            "sample", one sample of it at temperature 0.7 and top-k 40, as in all that follow;
            "majority", majority vote over samples of it that spend at least the method's tokens;
            "best-logprob", the one of those samples with the highest mean log-probability;
            or a `Baseline`, another method or the same one with other options. A baseline that trains gets the same
            train problems and continues until it has spent the method's tokens, unless its options or its preset fix
            the number of rounds.
        solver: how a recipe's champion answers the test problems, where its policies are meant for a solver; None:
            greedily.
        metric: `accuracy`, or another number per test problem.
        vote_baseline: whether to add the starting model's vote at equal tokens, scored by accuracy. None: only if the
            metric is accuracy. Set True if the metric is the accuracy of answers reached another way.
        direction: whether the claim is that the metric is "higher" or "lower" than the baselines'.
        options: the method's options in a check, where its defaults take too long.
        ablations: name -> changes to `options`. Run with `--ablate` and reported; they do not affect the verdict.
        min_effect: smallest effect of interest, in units of the metric. A claim is "not reproduced" once every effect
            at least this large is ruled out.
        extra_metrics: further metrics of the method to report; they do not affect the verdict.
        generalization: test on the world's harder problems, of which there are no train problems.

    Raises:
        BadInput: there is no baseline or an unknown one, or `direction` or `min_effect` is invalid.
    """

    text: str
    baselines: tuple[str | Baseline, ...]
    metric: Metric = accuracy
    vote_baseline: bool | None = None
    direction: Literal["higher", "lower"] = "higher"
    options: Mapping[str, Any] = field(default_factory=dict)
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    min_effect: float = 0.02
    extra_metrics: ExtraMetrics | None = None
    generalization: bool = False
    solver: Solver | None = None

    def __post_init__(self) -> None:
        if not self.baselines:
            raise BadInput("a claim needs at least one baseline", where="baselines", fix='name one, such as "greedy"')
        for name in self.baselines:
            if isinstance(name, str) and name not in NAMED_BASELINES:
                raise BadInput(f"unknown baseline {name!r}", where="claim", fix=suggest(name, NAMED_BASELINES))
        if self.direction not in ("higher", "lower"):
            raise BadInput(f'direction must be "higher" or "lower", got {self.direction!r}', where="claim")
        if not self.min_effect > 0:
            raise BadInput(f"min_effect must be > 0, got {self.min_effect}", where="claim")
