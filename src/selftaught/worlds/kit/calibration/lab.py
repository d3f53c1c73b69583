"""Where the checks run: a world's model, its problems of the reserved seeds, and a folder of resumable runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from selftaught.check.cached_engine import CachedEngine
from selftaught.console import Console
from selftaught.curate import by_problem
from selftaught.engines import Engine
from selftaught.errors import BadInput
from selftaught.learn.learner import train_policy
from selftaught.models import Policy, resolve
from selftaught.records import Attempt, Problem
from selftaught.run.context import Learner
from selftaught.run.run import Run
from selftaught.run.solver import Solver
from selftaught.tasks import Task, load_task
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS, CalibrationPlan
from selftaught.worlds.world import World

SAMPLING: dict[str, Any] = {"temperature": 0.7, "top_k": 0}
"""How the checks sample, where they say nothing else."""


class NotApplicable(Exception):
    """A check lacks something that the world does not offer; the message says what."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """Numbers of problems, samples and seeds.

    Attributes:
        problems: where nothing is trained and the claim is of accuracy.
        some: where each problem takes many samples or several turns.
        test: where a policy is trained, the same for all seeds.
        few: of the test problems, where each takes many samples.
        train: to train on, other ones for each seed.
        dev: for the trainings' own record.
        seeds: trainings.
        votes: samples per problem of a vote.
        repeats: A/A comparisons.
    """

    problems: int = 3500
    some: int = 1500
    test: int = 2000
    few: int = 500
    train: int = 384
    dev: int = 100
    seeds: int = 6
    votes: int = 16
    repeats: int = 200

    def at_most(self, problems: int) -> Sizes:
        """The same with at most so many problems of each kind."""
        names = ("problems", "some", "test", "few", "train", "dev")
        return replace(self, **{name: min(problems, getattr(self, name)) for name in names})


FULL = Sizes()
SMOKE = Sizes(problems=500, some=500)


@dataclass
class Lab:
    """A world's model with what the checks need to examine it.

    Attributes:
        world: the world.
        plan: what it offers the suite.
        policy: the model that is examined.
        folder: holds a run folder for each run.
        engine: samples; shared by all runs, closed by its owner.
        console: shows progress.
        sizes: see `Sizes`.
        learner: trains policies.
        shared: what several checks use, by name.
    """

    world: World
    plan: CalibrationPlan
    policy: Policy
    folder: Path
    engine: Engine
    console: Console = field(default_factory=Console)
    sizes: Sizes = FULL
    learner: Learner = train_policy
    shared: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def run(self, name: str, task: Task, *, seed: int = 0, model: Policy | None = None) -> Iterator[Run]:
        """A run of its own folder, resumed if it exists.

        Args:
            seed: number of the seed among those reserved.
            model: the starting model, if not the one examined.
        """
        settings = replace(self.world.settings, seed=CALIBRATION_SEEDS[seed])
        engine = CachedEngine(self.engine, {})
        with Run(
            self.folder / name, model=model or self.policy, task=task, engine=engine, settings=settings,
            learner=self.learner, console=_Meters(self.console, name),
        ) as run:  # fmt: skip
            yield run

    def measured(self, count: int, spec: str = "") -> Task:
        """A task with `count` test problems of the first reserved seed; for arguments and errors see `problems`."""
        return self.problems(spec, test=count)

    @cached_property
    def fixed(self) -> Task:
        """The test problems of all trainings, and the dev problems."""
        return self.problems(test=self.sizes.test, dev=self.sizes.dev)

    def trained(self, seed: int, longer: bool = False) -> Task:
        """A task to train on: the train problems of a seed, and the same dev and test problems for all seeds.

        Args:
            seed: number of the seed among those reserved, from 1.
            longer: also test on the longer problems.
        """
        held_out = {p.id for p in (*self.fixed.test, *self.fixed.dev)}
        test = (*self.fixed.test, *self.longer) if longer else self.fixed.test
        drawn = self.problems(seed=seed, train=2 * self.sizes.train)
        train = [p for p in drawn.train if p.id not in held_out][: self.sizes.train]
        return drawn.with_splits(train, self.fixed.dev, test)

    @cached_property
    def longer(self) -> tuple[Problem, ...]:
        """Test problems that are longer than those trained on; none where the world has none."""
        spec = self.plan.longer or self.world.generalization
        return self.problems(spec, test=self.sizes.test).test if spec else ()

    def problems(self, spec: str = "", *, seed: int = 0, **sizes: int) -> Task:
        """A task with problems of a reserved seed.

        Args:
            spec: task specification; by default the world's task.
            seed: number of the seed among those reserved.
            sizes: number of problems of each split; none by default.

        Raises:
            NotApplicable: the world has no such task, or fewer problems.
        """
        how: dict[str, Any] = {"train": 0, "dev": 0, "test": 0} | sizes
        number = CALIBRATION_SEEDS[seed]
        try:
            if spec or not callable(self.world.task):
                chosen = spec or str(self.world.task)
                return load_task(chosen, **how, seed=number, instruction=self.world.instruction)
            whole = self.world.load(number)
            parts = {split: whole.split(split)[:count] for split, count in how.items()}
            if few := [split for split, count in how.items() if len(parts[split]) < count]:
                raise BadInput(f"fewer {few[0]} problems than {how[few[0]]}", where=whole.name)
            return whole.with_splits(**parts)
        except BadInput as error:
            raise NotApplicable(str(error)) from error

    def resolve(self, name: str) -> Policy:
        """The policy of a name in the plan.

        Raises:
            NotApplicable: there is none.
        """
        try:
            return resolve(name, self.console.print)
        except BadInput as error:
            raise NotApplicable(str(error)) from error


def twin_policy(world: str, root: Path) -> Policy:
    """The policy that stands for a world's twin: it has no weights."""
    folder = root / f"{world}-twin"
    folder.mkdir(parents=True, exist_ok=True)
    return Policy(f"{world}-twin", folder)


def policy_of(run: Run, version: str) -> Policy:
    """A policy that a run trained, by its version."""
    return run.base if version == run.base.version else resolve(run.folder / "policies" / version)


def greedy(run: Run, policy: Policy, problems: Iterable[Problem]) -> dict[str, float]:
    """Whether each problem's greedy answer is right, as 0 or 1."""
    solved = run.solve(policy, list(problems), "test", temperature=0.0)
    return {one.attempt.problem.id: float(one.attempt.right) for one in solved}


def sampled(
    run: Run,
    policy: Policy,
    problems: Iterable[Problem],
    samples: int,
    *,
    solver: Solver | None = None,
    **sampling: Any,
) -> dict[str, list[Attempt]]:
    """Judged attempts at each problem, grouped by problem."""
    how = SAMPLING | sampling
    solved = run.solve(policy, list(problems), "test", solver=solver, samples=samples, **how)
    return by_problem(one.attempt for one in solved)


class _Meters(Console):
    """A console that shows a run's progress bars only, each prefixed with the run's name."""

    def __init__(self, console: Console, name: str) -> None:
        super().__init__(quiet=True)
        self._console, self._name = console, name

    @contextmanager
    def meter(self, what: str, total: int) -> Iterator[Any]:
        """Show the progress of `total` steps of `what`."""
        with self._console.meter(f"{self._name}: {what}", total) as meter:
            yield meter
