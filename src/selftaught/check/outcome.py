"""What a check keeps of a finished system, and of all systems on one seed."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from selftaught.check.claim import Claim
from selftaught.check.legs import Alarm, Beats, Metric, NoWorse, Ordered, Scores, Statistic, SystemResult, name_of


@dataclass(frozen=True)
class Outcome:
    """A system on one seed, once its run is closed.

    Attributes:
        scores: problem id -> number, by the metric that computed it.
        tokens: that it spent.
        compute: that is matched at equal compute, see `SystemResult`.
        answer_compute: of the answers to the test problems.
        answers: number of them.
        seconds: that its run took.
        observations: problem id -> observations, by the index of the `Statistic` among the claim's legs.
        values: by the index of the precondition.
        alarms: names of the alarms that its run raised.
    """

    scores: Mapping[Metric, Scores]
    tokens: int
    compute: int
    seconds: float = 0.0
    observations: Mapping[int, Mapping[str, Sequence[Any]]] = field(default_factory=dict)
    values: Mapping[int, float | None] = field(default_factory=dict)
    alarms: frozenset[str] = frozenset()
    answer_compute: int = 0
    answers: int = 0


@dataclass
class SeedResult:
    """All systems on one seed.

    Attributes:
        seed: its number.
        build: version of the starting model.
        task: name of the task.
        train: number of its train problems.
        method: the claiming method.
        published: baselines as published, by name.
        fitted: baselines at equal compute.
        unfitted: why a baseline could not be given the method's compute, by name.
        measured: every baseline as declared, by name, whatever contrasts it takes part in: what preconditions and
            statistics read.
        shown: systems that are shown beside and not of the claim.
        ablations: the method with other options.
        tokens: of all but the ablations, at the method's and the baselines' own expense.
        seconds: likewise.
        ablation_seconds: of the ablations.
        notes: what the user should know.
        extra_metrics: of the method.
    """

    seed: int
    build: str = ""
    task: str = ""
    train: int = 0
    method: Outcome = field(default_factory=lambda: Outcome({}, 0, 0))
    published: dict[str, Outcome] = field(default_factory=dict)
    fitted: dict[str, Outcome] = field(default_factory=dict)
    unfitted: dict[str, str] = field(default_factory=dict)
    measured: dict[str, Outcome] = field(default_factory=dict)
    shown: dict[str, Outcome] = field(default_factory=dict)
    ablations: dict[str, Outcome] = field(default_factory=dict)
    tokens: int = 0
    compute: int = 0
    seconds: float = 0.0
    ablation_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    extra_metrics: Mapping[str, float] = field(default_factory=dict)

    def leave_out(self, name: str, why: str) -> None:
        """Note that a baseline cannot be given the method's compute."""
        self.unfitted[name] = why
        self.notes.append(f"{name} is not compared at equal compute: {why}")

    def add_cost(self, outcome: Outcome) -> None:
        """Add what a system of the claim cost."""
        self.tokens += outcome.tokens
        self.compute += outcome.compute


def outcome_of(
    claim: Claim, name: str | None, found: SystemResult, *, seconds: float | None = None, fitted: bool = False
) -> Outcome:
    """What the claim needs to know of a finished system.

    Args:
        name: of the baseline; None: the claiming method.
        seconds: that it took; None: what its run took.
        fitted: whether it was fitted to the method's compute; preconditions and statistics are about what is declared.
    """
    legs, preconditions = claim.all_legs, () if fitted else claim.preconditions
    statistics = {} if fitted else {i: x for i, x in enumerate(legs) if isinstance(x, Statistic) and _about(x, name)}
    conditions = {i: one for i, one in enumerate(preconditions) if name in _systems(one.of, one.over)}
    alarms = [line.partition(":")[0] for row in found.run.history for line in row.get("alarms", ())]
    return Outcome(
        scores={metric: dict(metric(found)) for metric in metrics_of(claim, name)},
        tokens=found.tokens,
        compute=found.compute,
        seconds=found.run.seconds()["total"] if seconds is None else seconds,
        observations={i: leg.observations(found) for i, leg in statistics.items()},
        values={i: _number(one.value(found)) for i, one in conditions.items()},
        answer_compute=found.answer_compute,
        answers=len(found.answers),
        alarms=frozenset(alarms) if any(isinstance(leg, Alarm) for leg in legs) else frozenset(),
    )


def metrics_of(claim: Claim, name: str | None) -> list[Metric]:
    """The distinct metrics that a system is scored by, the claim's first.

    Args:
        name: of the baseline; None: the claiming method.
    """
    found = [claim.metric]
    for leg in claim.all_legs:
        if isinstance(leg, (Beats, NoWorse, Ordered)) and leg.metric and (name is None or name in names_in(leg)):
            found.append(leg.metric)
    return list(dict.fromkeys(found))


def names_in(leg: Beats | NoWorse | Ordered) -> list[str | None]:
    """Names of the systems that a leg compares; None is the claiming method."""
    if isinstance(leg, Ordered):
        return [None if one is None else name_of(one) for one in leg.systems]
    return [None, name_of(leg.baseline)]


def _about(leg: Statistic, name: str | None) -> bool:
    return name is None or (leg.over is not None and name == name_of(leg.over))


def _systems(of: Any, over: Any) -> list[str | None]:
    """The systems that a precondition reads: the method, unless it says another, and what is subtracted."""
    return [None if of is None else name_of(of), *([name_of(over)] if over is not None else [])]


def _number(value: float | None) -> float | None:
    return None if value is None or math.isnan(value) else float(value)


def mean_score(found: Sequence[Outcome], metric: Metric) -> float:
    """The mean over seeds of the mean over problems."""
    means = [math.fsum(one.scores[metric].values()) / len(one.scores[metric]) for one in found]
    return math.fsum(means) / len(means)
