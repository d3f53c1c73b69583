"""A suite as plain data that any process can open: whose model, in which folder, on how many problems."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from selftaught.console import Console
from selftaught.engines import EngineConfig, create_engine
from selftaught.engines.scripted import scripted_learner
from selftaught.learn.learner import train_policy
from selftaught.models import resolve
from selftaught.worlds import synthetic_worlds
from selftaught.worlds.kit.calibration import training, training_data
from selftaught.worlds.kit.calibration.lab import Lab, Sizes, twin_policy
from selftaught.worlds.kit.calibration.plan import plan_of

TRAININGS = {
    7: (training.two_rounds,),
    8: (training.two_rounds,),
    9: (training_data.learn_majority,),
    10: (training_data.learn_all, training_data.learn_wrong),
    15: (training_data.learn_chosen,),
    16: (training.two_rounds,),
}
"""Number of a check -> the trainings of each of its seeds, which need nothing of each other."""


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
    policy = twin_policy(suite.world, suite.folder) if twin else resolve(suite.model, console.print)
    made = twin or partial(create_engine, policy, EngineConfig(dtype="float32", max_batch_size=256))
    learner = scripted_learner if twin else train_policy
    with closing(made()) as engine:
        yield Lab(world.module("world").WORLD, plan, policy, suite.folder, engine, console, suite.sizes, learner)


def play_trainings(suite: Suite, numbers: tuple[int, ...], seed: int) -> None:
    """Play the trainings of some checks on one seed, in a process of its own; the checks find them in the folder.

    Args:
        seed: from 0; the suite's own seeds of trainings begin at 1.
    """
    plays = dict.fromkeys(play for number in numbers for play in TRAININGS.get(number, ()))
    with opened(suite, Console(quiet=True)) as lab:
        for play in plays:
            play(lab, seed + 1)
