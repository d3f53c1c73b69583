"""Settings for checking claims: model, task, sizes and run settings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast

from selftaught.control import Gate
from selftaught.engines.base import Sampling
from selftaught.errors import BadInput, suggest
from selftaught.learn import TrainConfig
from selftaught.models import Policy
from selftaught.models.remote import PREFIX, remote_policy
from selftaught.run.settings import Settings
from selftaught.tasks import Task, load_task
from selftaught.worlds import synthetic_worlds

Champion = Literal["last", "dev"]
SHARED_TEST_SEED = 700_000
"""Seed of a test set that all seeds share; calibration uses 900,000 to 900,999, claims small ones."""


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
        test: held-out problems for the claim.
        instruction: appended to every question; None for `load_task`'s default.
        generalization: a task of the same kind with harder problems, for claims with `generalization=True`.
        variants: other tasks to train and test on, for claims that name one (`Claim.variant`): "hard", problems of
            which the starting model solves few; "checkable", problems whose answers are easier to check than to find.
            A claim that names one that is not here has the usual task.
        solver_test: test problems for methods that train nothing, whose interval is over problems; 0: `test`. On a
            real model they get no train and dev problems, so that all of a small file can be test problems.
        study_dev: dev problems of studies, which measure on them; 0: `dev`.
        looks: numbers of seeds after which a method that trains is looked at; a claim decided at one ends there.
        solver_seeds: seeds of a method that trains nothing.
        shared_test: whether all seeds share one test set, drawn apart from their train and dev problems; else each
            seed has its own. Not for a task that is a function.
        builds: further models, built as `model` was from other seeds; seed s starts from the (s modulo their number)-th
            of all of them.
        champion: the policy of a recipe that answers the test problems, unless its claim says otherwise: the "last"
            one, or the one that is best on "dev".
        version: of a synthetic world that passed its calibration, such as "tiny/1".
        real: whether the model is an external one, trained on human text.
        quick: changes to these attributes for `selftaught check --quick`.
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
    variants: Mapping[str, str] = field(default_factory=dict)
    solver_test: int = 0
    study_dev: int = 0
    looks: tuple[int, ...] = (5,)
    solver_seeds: int = 5
    shared_test: bool = False
    builds: tuple[str | Path | Policy, ...] = ()
    champion: Champion = "dev"
    version: str = ""
    real: bool = False
    quick: Mapping[str, Any] = field(default_factory=dict)

    def load(
        self, seed: int, *, generalization: bool = False, shape: str = "recipe", train: int = 0, variant: str = ""
    ) -> Task:
        """Load the task with the problems of a seed.

        Args:
            generalization: test on the harder problems.
            variant: train and test on this one of `variants`, if the world has it.
            shape: of the method that is checked, for the sizes.
            train: train problems in place of the world's number; 0: that one. A task that is a function has its own.

        Raises:
            BadInput: the world has no harder problems, or the task cannot be loaded.
        """
        if other := self.variants.get(variant):
            return replace(self, task=other).load(seed, generalization=generalization, shape=shape, train=train)
        if generalization and not self.generalization:
            raise BadInput("this world has no harder problems", where=self.name)
        if callable(self.task):
            return self.task(seed)
        if train:
            return replace(self, train=train).load(seed, generalization=generalization, shape=shape)
        solver = shape in ("solver", "judge")
        test = (self.solver_test if solver else 0) or self.test
        dev = (self.study_dev if shape == "study" else 0) or self.dev
        spared = solver and self.real and not generalization  # it learns from none: those of one's own file are few
        if self.shared_test:
            with self._load(self.task, SHARED_TEST_SEED, 0, 0, test) as shared:
                own = self._apart(shared, seed, dev)
        else:
            own = self._load(self.task, seed, 0 if spared else self.train, 0 if spared else dev, test)
        if not generalization:
            return own
        with self._load(self.generalization, SHARED_TEST_SEED if self.shared_test else seed, 0, 0, test) as other:
            return own.tested_on(other)

    def _load(self, spec: str, seed: int, train: int, dev: int, test: int) -> Task:
        return load_task(spec, train=train, dev=dev, test=test, seed=seed, instruction=self.instruction)

    def _apart(self, other: Task, seed: int, dev: int) -> Task:
        """The task with the test problems of `other`, and train and dev problems of the seed that are not among them.

        Raises:
            BadInput: there are too few.
        """
        held = {problem.id for problem in other.test}
        number = seed + 1 if seed == SHARED_TEST_SEED else seed  # of which a file gives the test problems first
        spare = max(16, (self.train + dev) // 10)
        while True:
            own = self._load(cast(str, self.task), number, self.train + spare, dev + spare, 0)
            train, dev_ = ([p for p in split if p.id not in held] for split in (own.train, own.dev))
            if len(train) >= self.train and len(dev_) >= dev:
                return own.with_splits(train[: self.train], dev_[:dev], other.test)
            if len(own.train) < self.train + spare or len(own.dev) < dev + spare:  # it has no more
                fix = "use a task with more problems, or shared_test=False"
                raise BadInput("too few problems besides the shared test set", where=self.name, fix=fix)
            spare *= 2

    @property
    def models(self) -> tuple[str | Path | Policy, ...]:
        """All builds of the model, `model` first."""
        return (self.model, *self.builds)

    def model_of(self, seed: int) -> str | Path | Policy:
        """The build that a seed starts from."""
        return self.models[seed % len(self.models)]

    def quickly(self) -> World:
        """The world with its smaller sizes.

        Raises:
            BadInput: it declares none.
        """
        if not self.quick:
            raise BadInput("this world has no quick sizes", where=self.name, fix="leave out --quick, or use --seeds 3")
        return replace(self, **self.quick)

    def with_seed(self, seed: int) -> Settings:
        """Settings of a run with that seed."""
        return replace(self.settings, seed=seed)


BEST_ON_DEV = Gate(max_p_value=1.0)
"""Promote the best policy on dev in every case; the claim's test problems decide whether it is better."""
LAST = Gate(max_p_value=1.0, always=True)
"""Promote every policy: the last one is the champion."""

SMOLLM2 = World(
    name="smollm2-135m",
    model="smollm2-135m",
    task="chain_sum:min_terms=2,max_terms=2,max_digits=2",
    generalization="chain_sum:min_terms=3,max_terms=3,max_digits=2",
    train=192,
    dev=160,
    test=300,
    real=True,
    quick={"looks": (2,), "solver_seeds": 1, "test": 100},
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
        return endpoint_world(remote_policy(name.removeprefix(PREFIX)))
    if name not in worlds():
        raise BadInput(f"unknown world {name!r}", where="--model", fix=suggest(name, worlds()))
    return worlds()[name]


def endpoint_world(policy: Policy) -> World:
    """The world of a model behind an endpoint: the task of SmolLM2's."""
    name = "".join(c if c.isalnum() or c in "-." else "-" for c in f"{PREFIX}{policy.remote}")
    return replace(SMOLLM2, name=name, model=policy)


def with_version(world: World) -> World:
    """The world with the version that its calibration gave it; one that is not frozen, or has changed, has none."""
    from selftaught.worlds.kit.calibration.freeze import world_version

    return replace(world, version=world_version(world.name))
