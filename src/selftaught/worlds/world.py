"""Settings for checking claims: model, task, sizes and run settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from selftaught.control import Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput, suggest
from selftaught.learn import TrainConfig
from selftaught.models import Policy
from selftaught.models.remote import PREFIX, remote_policy
from selftaught.run.settings import Settings
from selftaught.tasks import Task, load_task
from selftaught.worlds import synthetic_worlds


@dataclass(frozen=True)
class World:
    """A model and a task on which claims are checked.

    Attributes:
        name: value of `selftaught check --model`.
        model: the starting model; anything `models.resolve` takes.
        task: a specification that `load_task` takes, or a function from the seed to a task.
        settings: settings of every run, except the seed.
        train: problems to train on.
        dev: problems for choosing the champion.
        test: held-out problems for the claim, different for each seed.
        instruction: appended to every question; None for `load_task`'s default.
        generalization: a task of the same kind with harder problems, for claims with `generalization=True`.
    """

    name: str
    model: str | Path | Policy
    task: str | Callable[[int], Task]
    settings: Settings
    train: int = 128
    dev: int = 64
    test: int = 200
    instruction: str | None = None
    generalization: str = ""

    def load(self, seed: int, *, generalization: bool = False) -> Task:
        """Load the task with the problems of a seed.

        Args:
            generalization: test on the harder problems.

        Raises:
            BadInput: the world has no harder problems, or the task cannot be loaded.
        """
        how = {"seed": seed, "instruction": self.instruction}
        sizes = {"train": self.train, "dev": self.dev, "test": self.test}
        task = self.task(seed) if callable(self.task) else load_task(self.task, **sizes, **how)
        if not generalization:
            return task
        if not self.generalization:
            raise BadInput("this world has no harder problems", where=self.name)
        with load_task(self.generalization, train=0, dev=0, test=self.test, **how) as other:
            return task.tested_on(other)

    def with_seed(self, seed: int) -> Settings:
        """Settings of a run with that seed."""
        return replace(self.settings, seed=seed)


BEST_ON_DEV = Gate(max_p_value=1.0)
"""Promote the best policy on dev in every case; the claim's test problems decide whether it is better."""

SMOLLM2 = World(
    name="smollm2-135m",
    model="smollm2-135m",
    task="chain_sum:min_terms=2,max_terms=2,max_digits=2",
    generalization="chain_sum:min_terms=3,max_terms=3,max_digits=2",
    train=192,
    dev=160,
    test=300,
    instruction="Finish with 'Answer:' and the result.",
    settings=Settings(
        sampling=Sampling(max_tokens=48),
        training=TrainConfig(epochs=3, learning_rate=5e-5, batch_size=8),
        gate=BEST_ON_DEV,
    ),
)

DEFAULT_WORLD = "tiny"
"""The default world of `selftaught check`."""


@cache
def worlds() -> dict[str, World]:
    """Every world by name: the synthetic ones, then those with external models."""
    own: list[World] = [found.module("world").WORLD for found in synthetic_worlds().values()]
    return {world.name: world for world in (*own, SMOLLM2)}


def find_world(name: str) -> World:
    """The world called `name`; for a model behind an endpoint (`openai:NAME`), the task of SmolLM2's world.

    Raises:
        BadInput: there is none.
    """
    if name.startswith(PREFIX):
        remote_policy(name.removeprefix(PREFIX))  # refuses a bad name or address
        return replace(SMOLLM2, name="".join(c if c.isalnum() or c in "-." else "-" for c in name), model=name)
    if name not in worlds():
        raise BadInput(f"unknown world {name!r}", where="--model", fix=suggest(name, worlds()))
    return worlds()[name]
