"""The worlds in which a method's claim is checked: a model, a task, sizes and settings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from selftaught.control import Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput, nearest
from selftaught.learn import Training
from selftaught.models import Policy
from selftaught.models.remote import PREFIX, remote_policy
from selftaught.run.settings import Settings
from selftaught.tasks import Task, load_task


@dataclass(frozen=True)
class World:
    """Where claims are checked.

    Attributes:
        name: as `selftaught check --model` takes it.
        model: what learns; anything `models.resolve` takes.
        task: what it learns, as `load_task` takes it; or a function from the seed to a task.
        settings: of every run, but for the seed.
        train: problems to learn from.
        dev: problems that the champion is chosen on.
        test: problems that the claim is tested on, other ones on each seed.
        instruction: appended to every question; None for `load_task`'s own.
        harder: a task of the same kind with harder problems, which only claims that say so are tested on.
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
        """The task with the problems of a seed.

        Args:
            harder: whether its test problems are the harder ones.

        Raises:
            BadInput: there are none, or the task is not to be had.
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
        """The settings of a run on that seed."""
        return replace(self.settings, seed=seed)


BEST_ON_DEV = Gate(level=1.0)
"""The champion is whatever did best on dev: whether it is better, the test problems of all seeds decide."""

TINY = World(
    name="tiny",
    model="tiny",
    # Sums and products with carries: so few facts that a hundred problems teach most of them.
    task="tiny:family=chain|add,level=3",
    generalization="tiny:family=chain|add,level=4",  # level 5 is absent from the training text; accuracy there is ~0
    train=96,
    dev=96,
    test=160,
    settings=Settings(
        sampling=Sampling(max_tokens=96),
        training=Training(epochs=1, learning_rate=3e-4, batch=8, micro_tokens=2048, precision="float32"),
        gate=BEST_ON_DEV,
    ),
)

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
        training=Training(epochs=3, learning_rate=5e-5, batch=8),
        gate=BEST_ON_DEV,
    ),
)

WORLDS = {world.name: world for world in (TINY, SMOLLM2)}


def world(name: str) -> World:
    """The world called `name`; for a model behind an endpoint (`openai:NAME`), the task of SmolLM2's world.

    Raises:
        BadInput: there is none.
    """
    if name.startswith(PREFIX):
        remote_policy(name.removeprefix(PREFIX))  # refuses a bad name or address
        return replace(SMOLLM2, name="".join(c if c.isalnum() or c in "-." else "-" for c in name), model=name)
    if name not in WORLDS:
        raise BadInput(f"no claim can be checked on {name!r}", where="--model", fix=nearest(name, WORLDS))
    return WORLDS[name]
