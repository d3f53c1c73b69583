"""What a method's paper claims, declared beside its function and tested by `selftaught check`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from selftaught.errors import BadInput, suggest

if TYPE_CHECKING:
    from selftaught.models import Policy
    from selftaught.run.run import Run
    from selftaught.run.solver import SolverResult

PLAIN = ("greedy", "sample", "majority", "best-logprob")
"""Baselines that every model brings along, see `Claim`."""


@dataclass(frozen=True, slots=True)
class Rival:
    """A baseline that is a method itself.

    Attributes:
        name: what the table calls it.
        method: id of the method; empty for the claiming method itself, under other options.
        options: of that method; for the claiming method itself, changes to the claim's own options.
        grows: a number among the options of a solver (of samples, say) that is raised until the rival takes at least
            the claiming method's tokens.
    """

    name: str
    method: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    grows: str = ""


@dataclass(frozen=True)
class Outcome:
    """A system that has come to its end on one seed: what a metric is computed from.

    Attributes:
        run: the run it happened in, still open.
        policy: what answered: the champion of a recipe, else the starting model.
        answers: one final answer for each test problem, judged, in the order of `run.task.test`; none for a study.
        tokens: generated, judge and trained tokens that it took, those of `answers` included.
        returned: what a recipe or study returned.
    """

    run: Run
    policy: Policy
    answers: Sequence[SolverResult]
    tokens: int
    returned: Any = None


Metric = Callable[[Outcome], Mapping[str, float]]
"""From a finished system to a number for each test problem, by problem id."""

Figures = Callable[[Outcome], Mapping[str, float]]
"""From a finished system to named figures that describe what it did."""


def accuracy(outcome: Outcome) -> dict[str, float]:
    """1 where the final answer is RIGHT, else 0."""
    return {one.attempt.problem.id: float(one.attempt.right) for one in outcome.answers}


@dataclass(frozen=True)
class Claim:
    """A claim that can fail.

    Attributes:
        text: the claim in a sentence.
        baselines: what the method must beat, each on the same test problems. By name:
            "greedy", the starting model's most probable answer;
            "sample", one sample of it at temperature 0.7;
            "majority", its vote among samples that took at least the method's tokens;
            "best-logprob", of those samples the one of the highest mean log-probability;
            or a `Rival`, another method, or the same under other options. A rival that trains gets the same
            train problems and goes on until it has spent the method's tokens.
        metric: `accuracy`, or another number per test problem.
        voted: whether the starting model's vote at equal tokens stands beside the method, by its accuracy; None for:
            where that is the metric. True suits a metric that is the accuracy of answers reached another way.
        direction: whether the claim is that the metric is "higher" or "lower" than the baselines'.
        options: the method's options where its defaults are too dear for a minute.
        ablations: name -> changes to `options`: reported on demand beside the baselines, without a say.
        smallest: the smallest effect of interest, in units of the metric; a claim is not reproduced once any
            effect as large as this is ruled out.
        figures: what else is measured of the method and reported beside, without a say.
        harder: whether the test problems are the world's harder ones, of which there are none to learn from.

    Raises:
        BadInput: no baseline, or one whose name is not known.
    """

    text: str
    baselines: tuple[str | Rival, ...]
    metric: Metric = accuracy
    voted: bool | None = None
    direction: Literal["higher", "lower"] = "higher"
    options: Mapping[str, Any] = field(default_factory=dict)
    ablations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    smallest: float = 0.02
    figures: Figures | None = None
    harder: bool = False

    def __post_init__(self) -> None:
        if not self.baselines:
            raise BadInput("a claim needs something to be held against", where="baselines", fix='name one ("greedy")')
        for name in self.baselines:
            if isinstance(name, str) and name not in PLAIN:
                raise BadInput(f"unknown baseline {name!r}", where="claim", fix=suggest(name, PLAIN))
        if self.direction not in ("higher", "lower") or not self.smallest > 0:
            raise BadInput("direction is higher or lower, and smallest is more than 0", where="claim")
