"""What a world offers the calibration suite beside its model and its task."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from selftaught.engines import Engine
from selftaught.records import Message, Problem, Prompt
from selftaught.worlds import SyntheticWorld

CALIBRATION_SEEDS = range(900_000, 901_000)
"""Seeds of the suite's problems, samples and trainings. Claims never use them."""

Scores = Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Decision:
    """One choice in a reply, as the writer of the training text makes it.

    Attributes:
        start: index of its first character in the reply.
        end: index after its last character.
        logprob: natural logarithm of the writer's probability of what stands there, given all before it.
        skill: label of the kind of choice, such as "result:blind" or "way".
        right: the text that would be right there; empty where nothing is right or wrong.
        p_right: the writer's probability of it, 0..1.
    """

    start: int
    end: int
    logprob: float
    skill: str
    right: str = ""
    p_right: float = 0.0


class WrittenReply(NamedTuple):
    """A reply that the writer of the training text drew from its own distribution, with its choices in order."""

    prompt: Prompt
    text: str
    decisions: tuple[Decision, ...]


@dataclass(frozen=True)
class CalibrationPlan:
    """What a world offers the suite; a check that lacks something is not applicable, and does not hold.

    Attributes:
        replies: seed -> replies by the writer of the training text, endless, as the model was trained on.
        longer: task specification of longer problems than are trained on; by default `World.generalization`.
        search_long: task of problems long enough for search over steps to pay.
        search_short: task of problems so short that it does not.
        checkable: task of problems whose answers are easier to check than to find.
        lookup_only: task of problems on which checking takes the same knowledge as solving.
        wait: text that makes the model look at its last step again, inserted after it.
        control_model: a model of the same world whose text had no `wait`; anything `models.resolve` takes.
        demonstrations: (problem, seed) -> messages to show before it: worked problems that go the good way.
        twin: seed -> scores by problem of one method, run on a tabular twin of the model; the same problems for all
            seeds. None draws pairs of samples of the model itself.
        twin_engine: makes an engine that samples that twin, to calibrate a writer before a model is trained on it.
        text: the beginning of the training text, hashed into the world's version; None hashes the world's code.
    """

    replies: Callable[[int], Iterator[WrittenReply]] | None = None
    longer: str = ""
    search_long: str = ""
    search_short: str = ""
    checkable: str = ""
    lookup_only: str = ""
    wait: str = ""
    control_model: str = ""
    demonstrations: Callable[[Problem, int], Sequence[Message]] | None = None
    twin: Callable[[int], Scores] | None = None
    twin_engine: Callable[[], Engine] | None = None
    text: Callable[[], Iterable[str]] | None = None


def plan_of(world: SyntheticWorld) -> CalibrationPlan:
    """The plan in the world's folder (`calibration.py` with `PLAN`); an empty one where there is none."""
    return world.module("calibration").PLAN if (world.folder / "calibration.py").is_file() else CalibrationPlan()
