"""Run a check: each system on each seed is a run in its own folder, so repeating the command resumes."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from selftaught import models
from selftaught.check.baselines import BASELINE_FUNCTIONS, run_system
from selftaught.check.cached_engine import CachedEngine, SampleCache
from selftaught.check.claim import Baseline, Claim, Metric, SystemResult, accuracy
from selftaught.check.results import BaselineComparison, Result, Scores, clustered_effect, decide_verdict
from selftaught.console import Console, Meter
from selftaught.control import Budget
from selftaught.engines import Engine, EngineConfig, create_engine
from selftaught.errors import BadInput
from selftaught.identity import code_hash
from selftaught.learn.learner import train_policy as local_learner
from selftaught.method import Method, find
from selftaught.models import Policy
from selftaught.records import content_hash
from selftaught.run.config import own_version
from selftaught.run.context import Learner
from selftaught.run.run import Run
from selftaught.tasks import Task, with_retries
from selftaught.worlds.world import World

SEEDS = 5
MAX_ROUNDS = 1000  # of a baseline that trains; its budget ends it earlier
LONG_CHECK_SECONDS = 120.0  # seconds from which the remaining time is announced
VERSIONED_PACKAGES = ("selftaught", "torch", "transformers")


@dataclass(frozen=True, slots=True)
class SystemScores:
    """Scores of a system on one seed by problem id, and the tokens it spent."""

    scores: Scores
    tokens: int


@dataclass
class SeedResult:
    """Results of all systems on one seed, their cost (ablations separately), notes and the method's extra metrics."""

    task: str = ""
    systems: dict[str, SystemScores] = field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    ablation_seconds: float = 0.0
    notes: list[str] = field(default_factory=list)
    extra_metrics: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """A method's claim, the world to test it on, and the engine and learner to use."""

    method: Method
    claim: Claim
    world: World
    base: Policy
    folder: Path
    engine: Engine
    learner: Learner
    console: Console
    ablations: Sequence[Baseline]
    cache: SampleCache

    @property
    def options(self) -> dict[str, Any]:
        """The method's options, defaults included."""
        return self.method.bind(dict(self.claim.options))

    @property
    def baseline_names(self) -> list[str]:
        """The claim's baselines, then the vote at equal tokens where it can be compared (`Claim.vote_baseline`)."""
        named, claim = _names(self.claim), self.claim
        votes = self.method.shape != "study" and (
            claim.metric is accuracy if claim.vote_baseline is None else claim.vote_baseline
        )
        return [*named, "majority"] if votes and "majority" not in named else named


def check(
    method: Method, world: World, *, seeds: int = SEEDS, ablate: bool = False, folder: Path = Path("runs/check"),
    engine: Engine | EngineConfig | None = None, learner: Learner = local_learner, console: Console | None = None,
    cache: SampleCache | None = None, jobs: int = 1,
) -> Result:  # fmt: skip
    """Test a method's claim.

    On each seed, the method and its baselines run on the same problems, which differ between seeds. The vote and
    best-of-n baselines get at least the method's tokens; baselines that train stop once they have spent them.

    Args:
        seeds: number of seeds, at least 2; few seeds give a wide interval.
        ablate: also run the claim's ablations.
        folder: holds a folder for each seed and system; a check that was cut off continues there.
        engine: an engine, which stays open; or the options to create one, by default those of the local engine.
        learner: function that trains policies.
        cache: the starting model's samples in earlier checks on the same engine; new ones are added.
        jobs: seeds run in parallel beforehand (see `check.parallel`); used to report time.

    Raises:
        BadInput: the method declares no claim, there are fewer than two seeds, or a run raises it.
    """
    if seeds < 2:
        raise BadInput(f"{seeds} seed gives no interval", where="--seeds", fix="use at least 2 (default 5)")
    with _open_check(method, world, ablate, folder, engine, learner, console or Console(), cache) as what:
        trials = _run_all_seeds(what, seeds, remember=cache is not None)
    return _result(what, trials, jobs)


def run_seed(
    method: Method, world: World, seed: int, *, ablate: bool = False, folder: Path = Path("runs/check"),
    engine: EngineConfig | None = None, console: Console | None = None, cache: SampleCache | None = None,
) -> None:  # fmt: skip
    """Run the method and its baselines on one seed, for a `check` that finds it in `folder`; see there."""
    with _open_check(method, world, ablate, folder, engine, local_learner, console or Console(), cache) as what:
        _run_seed(what, seed)


@contextmanager
def _open_check(
    method: Method, world: World, ablate: bool, folder: Path, engine: Engine | EngineConfig | None, learner: Learner,
    console: Console, cache: SampleCache | None,
) -> Iterator[Check]:  # fmt: skip
    claim = method.claim
    if claim is None:
        raise BadInput("the method declares no claim", where=method.id, fix="add claim=Claim(...) to its decorator")
    base = models.resolve(world.model, console.print)
    rivals = [Baseline(name, "", options) for name, options in claim.ablations.items()] if ablate else []
    with _open_engine(engine, base) as used:
        check_can_train(method, world, used)
        own = folder / f"{method.id}.{world.name}-{_config_hash(method, claim, world, base, used)}"
        yield Check(method, claim, world, base, own, used, learner, console, rivals, {} if cache is None else cache)


@contextmanager
def _open_engine(engine: Engine | EngineConfig | None, base: Policy) -> Iterator[Engine]:
    """The engine itself, left open; or one created for `base`, closed at the end."""
    if isinstance(engine, Engine):
        yield engine
        return
    with closing(create_engine(base, engine)) as made:
        yield made


def check_can_train(method: Method, world: World, engine: Engine) -> None:
    """Refuse a method that trains, itself or in a baseline, if the engine cannot sample what it trains.

    Raises:
        BadInput: it cannot.
    """
    if engine.capabilities.trained_policies or method.claim is None:
        return
    methods = [method, *(find(b.method) for b in method.claim.baselines if isinstance(b, Baseline) and b.method)]
    if training := [one.id for one in methods if one.shape in ("recipe", "study")]:
        raise BadInput(
            f"{training[0]} trains policies, and engine {engine.name} cannot sample them from {world.name}",
            where=method.id,
            fix="check it on a model whose weights are here, or check a solver",
        )


def _config_hash(method: Method, claim: Claim, world: World, base: Policy, engine: Engine) -> str:
    """Hash of options, model, problems, settings and code: a change of any of them starts in a new folder."""
    with _task(method, world, 0, claim) as task:
        problems = task.fingerprint
    made_by = own_version(), code_hash(method.function), engine.name, engine.dtype
    return content_hash(method.bind(dict(claim.options)), base.version, problems, world.settings, made_by)[:8]


def _run_all_seeds(what: Check, seeds: int, *, remember: bool) -> list[SeedResult]:
    """Run the seeds one after another and report progress."""
    trials: list[SeedResult] = []
    say = what.console.print
    say(f"{what.method.id} on {what.world.name}, {seeds} seeds, in {what.folder}\n  claim: {what.claim.text}")
    for seed in range(seeds):
        trials.append(_run_seed(what, seed))
        for key in [key for key in what.cache if not remember or key[0] != what.base.version]:
            del what.cache[key]  # the next seed has other problems, and trained policies are of this method alone
        left = (seeds - seed - 1) * sum(t.seconds + t.ablation_seconds for t in trials) / len(trials)
        if seed == 0 and left > LONG_CHECK_SECONDS:
            say(f"  about {left / 60:.0f} min left; it can be interrupted, the same command resumes")
        scores = ", ".join(f"{name} {_mean(found.scores):.3f}" for name, found in trials[-1].systems.items())
        for note in trials[-1].notes:
            say(f"  note: {note}")
        spent = sum(t.tokens for t in trials)
        say(f"  seed {seed + 1}/{seeds}: {scores}; {spent:,} tokens spent" + (f", {left:.0f} s left" if left else ""))
    return trials


def _run_seed(what: Check, seed: int) -> SeedResult:
    """Run the method and its baselines on one seed."""
    trial = SeedResult()
    with _run(what, seed, "method") as run:
        trial.task = run.task.name
        mine = run_system(run, what.method, what.claim.options)
        limit = mine.tokens
        spent = (
            limit - sum(one.tokens for one in mine.answers) if what.method.shape not in ("solver", "judge") else limit
        )
        trial.systems[what.method.id] = _scores_of(what.claim.metric, mine)
        trial.extra_metrics = what.claim.extra_metrics(mine) if what.claim.extra_metrics else {}
        for name in what.baseline_names:
            if name in BASELINE_FUNCTIONS:
                metric = what.claim.metric if name in _names(what.claim) else accuracy
                trial.systems[name] = _scores_of(metric, BASELINE_FUNCTIONS[name](run, limit))
        _add_cost(trial, run)
    for rival in [b for b in what.claim.baselines if isinstance(b, Baseline)]:
        _run_baseline(what, seed, rival, trial, Budget(limit if rival.match_tokens_with else spent))
    for ablation in what.ablations:
        _run_baseline(what, seed, ablation, trial, None)
    return trial


def _run_baseline(what: Check, seed: int, rival: Baseline, trial: SeedResult, budget: Budget | None) -> None:
    """Run a baseline in its own run; with a budget, one that trains continues until the budget is spent.

    The run folder's name includes a hash of method, options, budget and code, so a changed claim starts a new run.
    """
    method = find(rival.method) if rival.method else what.method
    own = dict(method.preset.options) if method.preset else {}
    options = {**own, **({} if rival.method else what.claim.options), **rival.options}
    trains = method.shape == "recipe" and budget is not None
    if trains and "rounds" not in {**own, **rival.options} and any(o.name == "rounds" for o in method.options):
        options["rounds"] = MAX_ROUNDS
    limit = budget if trains else None
    mark = "-" + content_hash(method.id, options, limit, code_hash(method.function))[:8]
    with _run(what, seed, rival.name, mark=mark, budget=limit) as run:
        outcome = run_system(run, method, options)
        while rival.match_tokens_with and budget and 0 < outcome.tokens < (budget.tokens or 0):
            options[rival.match_tokens_with] = math.ceil(
                options[rival.match_tokens_with] * (budget.tokens or 0) / outcome.tokens
            )
            outcome = run_system(run, method, options)
        trial.systems[rival.name] = _scores_of(what.claim.metric, outcome)
        _add_cost(trial, run, ablation=budget is None)
        if budget and outcome.tokens < (budget.tokens or 0):
            trial.notes.append(f"{rival.name} spent {outcome.tokens:,} tokens, the method {budget.tokens:,}")


def _task(method: Method, world: World, seed: int, claim: Claim) -> Task:
    """The world's problems of a seed; for a method that plays, with an environment that lets the model try again."""
    task = world.load(seed, generalization=claim.generalization)
    return with_retries(task) if "env" in method.needs and task.environment is None else task


@contextmanager
def _run(what: Check, seed: int, name: str, *, mark: str = "", budget: Budget | None = None) -> Iterator[Run]:
    settings = what.world.with_seed(seed)
    settings = replace(settings, budget=budget) if budget else settings
    task = _task(what.method, what.world, seed, what.claim)
    with Run(
        what.folder / f"seed-{seed}" / (_slug(name) + mark), model=what.base, task=task,
        engine=CachedEngine(what.engine, what.cache), settings=settings, learner=what.learner,
        console=_PrefixedMeters(what.console, f"seed {seed + 1}, {name}"),
    ) as run:  # fmt: skip
        if not run.task.test:
            raise BadInput("the task has no test problems", where=run.task.name)
        yield run


class _PrefixedMeters(Console):
    """A console that shows progress bars only, each prefixed with the system it belongs to."""

    def __init__(self, console: Console, whose: str) -> None:
        super().__init__(quiet=True)
        self._console, self._whose = console, whose

    @contextmanager
    def meter(self, what: str, total: int) -> Iterator[Meter]:
        """Show the progress of `total` steps of `what`."""
        with self._console.meter(f"{self._whose}: {what}", total) as meter:
            yield meter


def _scores_of(metric: Metric, outcome: SystemResult) -> SystemScores:
    return SystemScores(dict(metric(outcome)), outcome.tokens)


def _add_cost(trial: SeedResult, run: Run, *, ablation: bool = False) -> None:
    """Add a run's cost; the time of ablations is kept separately, as they do not affect the claim."""
    if ablation:
        trial.ablation_seconds += run.seconds()["total"]
    else:
        trial.tokens += run.ledger.usage.spent
        trial.seconds += run.seconds()["total"]
    if run.settings.budget.tokens is None:  # a baseline stopped by its budget ended as intended
        trial.notes += [note for note in run.notes if note not in trial.notes]


def _result(what: Check, trials: Sequence[SeedResult], jobs: int) -> Result:
    claim, mine = what.claim, what.method.id
    baselines = tuple(_compared(name, name in _names(claim), mine, trials) for name in what.baseline_names)
    verdict, against = decide_verdict(
        baselines, sign=1 if claim.direction == "higher" else -1, min_effect=claim.min_effect
    )
    return Result(
        id=mine,
        model=what.world.name,
        task=trials[0].task,
        claim=claim.text,
        verdict=verdict,
        score=_mean({i: _mean(t.systems[mine].scores) for i, t in enumerate(trials)}),
        baselines=baselines,
        ablations=tuple(_compared(rival.name, False, mine, trials) for rival in what.ablations),
        against=against,
        options=what.options,
        min_effect=claim.min_effect,
        seeds=len(trials),
        problems=sum(len(t.systems[mine].scores) for t in trials),
        tokens=sum(t.tokens for t in trials),
        method_tokens=sum(t.systems[mine].tokens for t in trials),
        seconds=max(sum(t.seconds for t in trials[i::jobs]) for i in range(jobs)),
        ablation_seconds=max(sum(t.ablation_seconds for t in trials[i::jobs]) for i in range(jobs)),
        jobs=jobs,
        versions=_versions(what.base),
        extra_metrics={
            name: _mean({i: t.extra_metrics[name] for i, t in enumerate(trials)}) for name in trials[0].extra_metrics
        },
    )


def _names(claim: Claim) -> list[str]:
    return [b if isinstance(b, str) else b.name for b in claim.baselines]


def _compared(name: str, claimed: bool, mine: str, trials: Sequence[SeedResult]) -> BaselineComparison:
    """Compare the method with one system over all seeds."""
    ours, theirs = ([t.systems[who].scores for t in trials] for who in (mine, name))
    effect, interval = clustered_effect(ours, theirs)
    score = _mean({i: _mean(scores) for i, scores in enumerate(theirs)})
    return BaselineComparison(name, score, effect, interval, sum(t.systems[name].tokens for t in trials), claimed)


def _versions(base: Policy) -> dict[str, str]:
    """Versions of Python, the packages involved and the starting model."""
    found = {"python": sys.version.split()[0], "model": base.version}
    for name in VERSIONED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout on the path
            found[name] = "unknown"
    return found


def _mean(scores: Mapping[Any, float]) -> float:
    return math.fsum(scores.values()) / len(scores)


def _slug(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name)
