"""What a world offers the calibration suite beside its model and its task."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from selftaught.records import Message, Problem
from selftaught.worlds import SyntheticWorld

CALIBRATION_SEEDS = range(900_000, 901_000)
"""Seeds of the suite's problems, samples and trainings. Claims never use them."""

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice in a solution, as the writer of the training text makes it.

    Attributes:
        start: index of its first character in the solution.
        end: index after its last character.
        logprob: natural logarithm of the writer's probability of what stands there, given all before it.
        skill: label of the kind of choice, such as "sure", "blind", or "way" for a choice between right ways.
        right: whether what stands there is right; None for a choice between right ways.
        p_right: the writer's probability that this choice is right, 0..1; None for a choice between right ways.
    """

    start: int
    end: int
    logprob: float
    skill: str
    right: bool | None = None
    p_right: float | None = None


class Writer(Protocol):
    """The writer of the world's training text, whose distributions are known exactly."""

    def write(self, problem: Problem, rng: random.Random) -> str:
        """A solution as the training text has it."""
        ...

    def decisions(self, problem: Problem, text: str) -> Sequence[Decision]:
        """The choices in a solution, whoever wrote it, up to the first thing that the writer never writes."""
        ...


@dataclass(frozen=True)
class CalibrationPlan:
    """What a world offers the suite; a check that lacks something is not applicable, and does not hold.

    Attributes:
        writer: the writer of the training text.
        longer: task specification of longer problems than are trained on; by default `World.generalization`.
        search_long: task of problems long enough for search over steps to pay.
        search_short: task of problems so short that it does not.
        checkable: task of problems whose answers are easier to check than to find.
        lookup_only: task of problems on which checking takes the same knowledge as solving.
        wait: text that makes the model look at its last step again, inserted after it.
        control_model: a model of the same world whose text had no `wait`; anything `models.resolve` takes.
        demonstrations: (problem, seed) -> messages to show before it: worked problems that go the good way.
        twin: seed -> scores by problem of one system, run twice on a tabular twin of the model; None draws pairs from
            the model's own samples.
        text: the beginning of the training text, hashed into the world's version; None hashes the world's code.
    """

    writer: Writer | None = None
    longer: str = ""
    search_long: str = ""
    search_short: str = ""
    checkable: str = ""
    lookup_only: str = ""
    wait: str = ""
    control_model: str = ""
    demonstrations: Callable[[Problem, int], Sequence[Message]] | None = None
    twin: Callable[[int], tuple[Scores, Scores]] | None = None
    text: Callable[[], Iterable[str]] | None = None


def plan_of(world: SyntheticWorld) -> CalibrationPlan:
    """The plan in the world's folder (`calibration.py` with `PLAN`); an empty one where there is none."""
    return world.module("calibration").PLAN if (world.folder / "calibration.py").is_file() else CalibrationPlan()
