"""What a check works on: the method and its claim, the world, engine and learner, and the folders of its runs."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, cast

from selftaught import models
from selftaught.check.baselines import trains_nothing
from selftaught.check.cached_engine import CachedEngine, SampleCache
from selftaught.check.claim import Claim
from selftaught.check.legs import Baseline
from selftaught.check.sample_store import SampleStore
from selftaught.console import Console, Meter
from selftaught.control import Budget
from selftaught.engines import Engine
from selftaught.errors import BadInput
from selftaught.identity import code_hash
from selftaught.method import Method, find
from selftaught.models import Policy
from selftaught.records import content_hash
from selftaught.run.config import own_version, package_versions
from selftaught.run.context import Learner
from selftaught.run.run import Run
from selftaught.tasks import Task, with_retries
from selftaught.worlds.world import BEST_ON_DEV, LAST, SHARED_TEST_SEED, World


@dataclass(frozen=True)
class Check:
    """A method's claim, the world to test it on, and the engine and learner to use.

    Attributes:
        bases: the builds of the starting model.
        folder: of the runs that are this claim's alone.
        shared: of runs that other claims have too: plain samples of the starting model, other methods as baselines.
        ablate: whether the claim's ablations run.
        store: samples of the starting models.
        cache: samples of this seed.
    """

    method: Method
    claim: Claim
    world: World
    bases: tuple[Policy, ...]
    folder: Path
    shared: Path
    engine: Engine
    learner: Learner
    console: Console
    ablate: bool
    store: SampleStore
    cache: SampleCache = field(default_factory=dict)

    @cached_property
    def options(self) -> dict[str, Any]:
        """The method's options, defaults included."""
        return self.method.bind(dict(self.claim.options))

    @property
    def by_problem(self) -> bool:
        """Whether the problem is the random unit; else the seed is one too."""
        return trains_nothing(self.method)

    @property
    def champion(self) -> str:
        """Which policy of a recipe answers: "last" or "dev"."""
        return self.claim.champion or self.world.champion

    @property
    def ablations(self) -> list[Baseline]:
        """The method with other options, where they are to be run."""
        return [Baseline(name, "", more) for name, more in self.claim.ablations.items()] if self.ablate else []

    def base(self, seed: int) -> Policy:
        """The starting model of a seed."""
        return self.bases[seed % len(self.bases)]

    @contextmanager
    def run(
        self, seed: int, name: str, *, shared: bool = False, mark: str = "", budget: Budget | None = None
    ) -> Iterator[Run]:
        """Open the run of a system on a seed; its samples are shared with those of other systems.

        Args:
            shared: whether other claims have it too; another process that has it open is waited for.
            mark: hash of what sets it apart from other runs of that name.
        """
        if not shared:
            with self._run(seed, seed, self.folder, name, mark, budget) as run:
                yield run
            return
        lock = self.shared / f"seed-{seed}" / f"{slug(name)}{mark}.lock"
        with locked(lock), self._run(seed, seed, self.shared, name, mark, budget) as run:
            yield run

    @contextmanager
    def start(self, seed: int) -> Iterator[Run]:
        """Open the run of the starting model's plain samples; one for all seeds of a build if they share their test."""
        build = seed % len(self.bases)
        number, name = (SHARED_TEST_SEED, f"start-{build}") if self.world.shared_test else (seed, "start")
        lock = self.shared / f"seed-{number}" / f"{name}.lock"
        with locked(lock), self._run(number, seed, self.shared, name, "", None) as run:
            yield run

    @contextmanager
    def _run(self, seed: int, base_of: int, folder: Path, name: str, mark: str, budget: Budget | None) -> Iterator[Run]:
        settings = replace(self.world.settings, seed=seed, gate=LAST if self.champion == "last" else BEST_ON_DEV)
        settings = replace(settings, budget=budget) if budget else settings
        task = load_task(self.method, self.world, seed, self.claim)
        with Run(
            folder / f"seed-{seed}" / (slug(name) + mark), model=self.base(base_of), task=task,
            engine=cast(Engine, CachedEngine(self.engine, self.cache, self.store, [b.version for b in self.bases])),
            settings=settings, learner=self.learner, console=PrefixedMeters(self.console, f"seed {seed + 1}, {name}"),
        ) as run:  # fmt: skip
            require_test(run.task)
            yield run


def open_check(
    method: Method, world: World, engine: Engine, *, ablate: bool, folder: Path, learner: Learner, console: Console
) -> Check:
    """Make what a check works on.

    Raises:
        BadInput: the method declares no claim, the engine cannot sample what it trains, the model cannot be loaded,
            or the task has no test problems.
    """
    claim = claim_of(method)
    check_can_train(method, world, engine)
    bases = tuple(models.resolve(model, console.print) for model in world.models)
    store = SampleStore(folder, f"{engine.name} {engine.dtype}")
    own, shared = (folder / name for name in _folder_names(method, claim, world, bases, engine))
    return Check(method, claim, world, bases, own, shared, engine, learner, console, ablate, store)


def claim_of(method: Method) -> Claim:
    """The claim of a method.

    Raises:
        BadInput: it declares none.
    """
    if method.claim is None:
        raise BadInput("the method declares no claim", where=method.id, fix="add claim=Claim(...) to its decorator")
    return method.claim


def check_can_train(method: Method, world: World, engine: Engine) -> None:
    """Refuse a method that trains, itself or in a baseline, if the engine cannot sample what it trains.

    Raises:
        BadInput: it cannot.
    """
    if engine.capabilities.trained_policies or method.claim is None:
        return
    rivals = [b for b in method.claim.all_baselines.values() if isinstance(b, Baseline) and b.method]
    for one, baseline in [(method, ""), *((find(b.method), b.name) for b in rivals)]:
        if one.shape in ("recipe", "study"):
            who = f"{one.id}, which its claim compares with," if baseline else one.id
            raise BadInput(
                f"{who} trains policies, and engine {engine.name} cannot sample them from {world.name}",
                where=method.id,
                fix="check it on a model whose weights are here, or check a solver",
            )


def load_task(method: Method, world: World, seed: int, claim: Claim) -> Task:
    """The world's problems of a seed; for a method that plays, with an environment that lets the model try again."""
    task = world.load(
        seed, generalization=claim.generalization, shape=method.shape, train=claim.train, variant=claim.variant
    )
    return with_retries(task) if "env" in method.needs and task.environment is None else task


def require_test(task: Task) -> None:
    """Refuse a task without test problems.

    Raises:
        BadInput: it has none.
    """
    if not task.test:
        raise BadInput("the task has no test problems", where=task.name, fix="give it some: a claim is tested on them")


def method_mark(method: Method, options: Mapping[str, Any], *more: Any) -> str:
    """A hash of a method with its options, code and what else sets a run of it apart."""
    return "-" + content_hash(method.id, options, code_hash(method.function), *more)[:8]


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock file, after waiting for the process that holds it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield


def slug(name: str) -> str:
    """A name as one of a folder."""
    return "".join(c if c.isalnum() else "-" for c in name)


def _folder_names(
    method: Method, claim: Claim, world: World, bases: tuple[Policy, ...], engine: Engine
) -> tuple[str, str]:
    """Folders of the claim's own runs and of shared ones: a change of options, model, problems, settings or code
    starts anew."""
    with load_task(method, world, 0, claim) as task:
        require_test(task)
        problems = task.fingerprint
    champion = claim.champion or world.champion
    made_by = own_version(), engine.name, engine.dtype, package_versions()
    common = [base.version for base in bases], problems, world.settings, world.shared_test, champion, made_by
    shared = content_hash(*common)[:8]
    own = content_hash(method.bind(dict(claim.options)), code_hash(method.function), *common)[:8]
    return f"{method.id}.{world.name}-{own}", f"{world.name}-{shared}"


class PrefixedMeters(Console):
    """A console that shows progress bars only, each prefixed with the system it belongs to."""

    def __init__(self, console: Console, whose: str) -> None:
        super().__init__(quiet=True)
        self._console, self._whose = console, whose

    @contextmanager
    def meter(self, what: str, total: int) -> Iterator[Meter]:
        """Show the progress of `total` steps of `what`."""
        with self._console.meter(f"{self._whose}: {what}", total) as meter:
            yield meter
