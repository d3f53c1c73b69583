"""A suite as plain data that any process can open: whose model, in which folder, on how many problems."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import NamedTuple

from selftaught.console import Console
from selftaught.engines import EngineConfig, create_engine
from selftaught.engines.scripted import scripted_learner
from selftaught.learn.learner import train_policy
from selftaught.models import resolve
from selftaught.worlds import synthetic_worlds
from selftaught.worlds.kit.calibration import base_model, critics, judges, search_check, training, training_data
from selftaught.worlds.kit.calibration.lab import Lab, NotApplicable, Sizes, twin_policy
from selftaught.worlds.kit.calibration.plan import plan_of

TRAININGS: Mapping[Callable[[Lab, int], object], tuple[int, ...]] = {
    training.two_rounds: (7, 8, 16),
    training_data.learn_majority: (9,),
    training_data.learn_all: (10,),
    training_data.learn_wrong: (10,),
    training_data.learn_chosen: (15,),
}
"""What trains on a seed -> numbers of the checks that need it."""

MEASUREMENTS: Mapping[Callable[[Lab], object], tuple[int, ...]] = {
    search_check.step_search: (14,),
    critics.critiques_of: (12, 13),
    training_data.limit_of_vote: (9,),
    base_model.samples_of: (2, 3, 5, 6),
    base_model.temperatures: (4,),
    base_model.p_true: (6,),
    judges.demonstrations: (19,),
    judges.second_look: (18,),
    judges.verification_gap: (17,),
    critics.blind_correction: (11,),
    training.start_of: (7, 8, 9, 10, 15, 16),
}
"""What measures the model as it is -> numbers of the checks that need it. No two share a run, here or above."""


@dataclass(frozen=True)
class Suite:
    """What a suite examines.

    Attributes:
        world: name of a synthetic world.
        model: anything `models.resolve` takes; unused for a twin.
        folder: of its runs and findings.
        sizes: see `Sizes`.
        twin: whether the writer's twin is examined in the model's place.
    """

    world: str
    model: str
    folder: Path
    sizes: Sizes
    twin: bool = False


@contextmanager
def opened(suite: Suite, console: Console) -> Iterator[Lab]:
    """The lab of a suite, its engine open."""
    world = synthetic_worlds()[suite.world]
    plan = plan_of(world)
    twin = plan.twin_engine if suite.twin else None
    plan = replace(plan, control_model="") if twin else plan  # a twin is of one writer, and the control has another
    policy = twin_policy(suite.world, suite.folder) if twin else resolve(suite.model, console.print)
    made = twin or partial(create_engine, policy, EngineConfig(dtype="float32", max_batch_size=256))
    learner = scripted_learner if twin else train_policy
    with closing(made()) as engine:
        yield Lab(world.module("world").WORLD, plan, policy, suite.folder, engine, console, suite.sizes, learner)


class Part(NamedTuple):
    """A part of a suite that another process can play.

    Attributes:
        play: what plays it.
        seed: of a training, else None.
    """

    play: Callable[..., object]
    seed: int | None = None


def parts_of(numbers: Sequence[int], seeds: range) -> list[Part]:
    """The parts that some checks need, those that take long first.

    Args:
        seeds: of trainings.
    """
    parts = [Part(play) for play, of in MEASUREMENTS.items() if {*of} & {*numbers}]
    return parts + [Part(play, seed) for play, of in TRAININGS.items() if {*of} & {*numbers} for seed in seeds]


def play_part(suite: Suite, parts: Sequence[Part], number: int) -> None:
    """Play a part in a process of its own; the checks then find it in the folder.

    Args:
        number: its place among the parts.
    """
    play, seed = parts[number]
    with opened(suite, Console(quiet=True)) as lab, suppress(NotApplicable):
        play(lab) if seed is None else play(lab, seed)
