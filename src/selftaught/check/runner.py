"""Run a check: each system on each seed is a run in its own folder, so repeating the command resumes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

from selftaught import models
from selftaught.check.baselines import trains_nothing
from selftaught.check.kept import copy_seeds, read_seed, take_seeds, write_seed
from selftaught.check.legs import Contrast
from selftaught.check.outcome import SeedResult, mean_score
from selftaught.check.results import Result
from selftaught.check.seed import run_all
from selftaught.check.setup import Check, open_check
from selftaught.check.summary import Decided, summarize
from selftaught.check.verdicts import decisions
from selftaught.console import Console
from selftaught.engines import Engine, EngineConfig, create_engine
from selftaught.errors import BadInput
from selftaught.learn.learner import train_policy as local_learner
from selftaught.measure import Looks
from selftaught.method import Method
from selftaught.run.context import Learner
from selftaught.worlds.world import World

LONG_CHECK_SECONDS = 120.0  # seconds from which the remaining time is announced
FOLDER = Path("runs/check")

Ahead = Callable[[Sequence[int]], None]
"""Plays seeds beforehand, side by side; see `check.parallel`."""


def check(
    method: Method, world: World, *, seeds: int = 0, ablate: bool = False, folder: Path = FOLDER,
    engine: Engine | EngineConfig | None = None, learner: Learner = local_learner, console: Console | None = None,
    jobs: int = 1, ahead: Ahead | None = None, quick: bool = False, kept: Path | None = None, extend: bool = False,
) -> Result:  # fmt: skip
    """Test a method's claim, as published and at equal compute.

    On each seed, the method and its baselines start from the same model and train on the same problems, which differ
    between seeds. After the world's looks the claim is decided, or more seeds follow.

    Args:
        seeds: number of seeds, in place of the world's looks; few seeds give a wide interval.
        ablate: also run the claim's ablations.
        folder: holds a folder for each seed and system; a check that was cut off continues there. Samples of the
            starting model, and other methods as baselines, are shared by the checks in one folder.
        engine: an engine, which stays open; or the options to create one, by default those of the local engine.
        learner: function that trains policies.
        jobs: seeds run in parallel beforehand; used to report time.
        ahead: plays the seeds of the next look beforehand.
        quick: use the world's quick sizes.
        kept: the finished seeds of the result are copied here; see `check.kept`.
        extend: take over the finished seeds in `kept` that are of this check.

    Raises:
        BadInput: the method declares no claim, there are fewer than two seeds of a method that trains, the engine
            cannot serve a baseline, or a run raises it.
    """
    world = world.quickly() if quick else world
    looks = looks_of(method, world, seeds)
    with _opened(method, world, ablate, folder, engine, learner, console or Console()) as what:
        say = what.console.print
        trained = f", {what.claim.train:,} train problems each" if what.claim.train else ""
        say(f"{method.id} on {world.name}, {_planned(looks)}{trained}, in {what.folder}\n  claim: {what.claim.text}")
        if what.claim.variant and what.claim.variant not in world.variants:
            say(f"  note: the claim is about a world's {what.claim.variant!r} problems; {world.name} has its own alone")
        if kept and extend:
            taken, others = take_seeds(what, kept, looks.seeds[-1])
            left = f"; {others} there are of other code, options, models or packages, and are left" if others else ""
            say(f"  {taken} finished seeds taken from {kept}{left}")
        trials: list[SeedResult] = []
        decided: dict[Contrast, Decided] = {}
        for look, number in enumerate(looks.seeds):
            fresh = range(len(trials), number)
            if ahead and (open_seeds := [seed for seed in fresh if read_seed(what, seed) is None]):
                ahead(open_seeds)
            _run_seeds(what, fresh, trials, looks.seeds[-1])
            if _decide(what, trials, looks, look, decided):
                break
        found = summarize(what, trials, decided, jobs=jobs, quick=quick)
        if kept:
            copy_seeds(what, trials, kept)
        return found


def run_seed(
    method: Method, world: World, seed: int, *, ablate: bool = False, folder: Path = FOLDER,
    engine: EngineConfig | None = None, console: Console | None = None,
) -> None:  # fmt: skip
    """Run the method and its baselines on one seed, for a `check` that finds it in `folder`; see there."""
    with _opened(method, world, ablate, folder, engine, local_learner, console or Console()) as what:
        finish_seed(what, seed)


def finish_seed(what: Check, seed: int) -> SeedResult:
    """Play a seed to its end and keep what was found, or read what was kept."""
    found = read_seed(what, seed)
    if found is None:
        found = run_all(what, seed)
        write_seed(what, found)
    return found


def looks_of(method: Method, world: World, seeds: int = 0) -> Looks:
    """The numbers of seeds after which a claim is looked at.

    Args:
        seeds: one look after so many; 0: those of the world.

    Raises:
        BadInput: fewer than two seeds of a method that trains.
    """
    solver = trains_nothing(method)
    planned = (seeds,) if seeds else (world.solver_seeds,) if solver else world.looks
    if planned[0] < (1 if solver else 2):
        raise BadInput(f"{planned[0]} seed gives no interval", where="--seeds", fix="use at least 2, or leave it out")
    return Looks(planned)


@contextmanager
def _opened(
    method: Method, world: World, ablate: bool, folder: Path, engine: Engine | EngineConfig | None, learner: Learner,
    console: Console,
) -> Iterator[Check]:  # fmt: skip
    with open_engine(engine, world, console) as used:
        what = open_check(method, world, used, ablate=ablate, folder=folder, learner=learner, console=console)
        with closing(what.store):
            yield what


@contextmanager
def open_engine(engine: Engine | EngineConfig | None, world: World, console: Console) -> Iterator[Engine]:
    """The engine itself, left open; or one created for the world's model, closed at the end."""
    if isinstance(engine, Engine):
        yield engine
        return
    with closing(create_engine(models.resolve(world.model, console.print), engine)) as made:
        yield made


def _planned(looks: Looks) -> str:
    """The seeds in words."""
    *early, last = looks.seeds
    plural = "seed" if last == 1 else "seeds"
    return f"{last} {plural}" + (f", decided after {', '.join(map(str, early))} where it can be" if early else "")


def _run_seeds(what: Check, fresh: range, trials: list[SeedResult], most: int) -> None:
    """Run seeds one after another and report progress."""
    say = what.console.print
    for seed in fresh:
        trials.append(finish_seed(what, seed))
        what.cache.clear()  # the next seed has other problems; the starting model's samples are in the store
        left = (most - seed - 1) * sum(t.seconds + t.ablation_seconds for t in trials) / len(trials)
        if seed == 0 and left > LONG_CHECK_SECONDS:
            say(f"  about {left / 60:.0f} min left at most; it can be interrupted, the same command resumes")
        for note in trials[-1].notes:
            say(f"  note: {note}")
        spent = sum(t.tokens for t in trials)
        say(f"  seed {seed + 1}/{most}: {_scores_line(what, trials[-1])}; {spent:,} tokens spent")


def _scores_line(what: Check, trial: SeedResult) -> str:
    """The mean metric of each system on a seed."""
    fitted = {f"{name} (equal compute)": found for name, found in trial.fitted.items()}
    found = {what.method.id: trial.method, **trial.published, **fitted}
    return ", ".join(f"{name} {mean_score([one], what.claim.metric):.3f}" for name, one in found.items())


def _decide(
    what: Check, trials: Sequence[SeedResult], looks: Looks, look: int, decided: dict[Contrast, Decided]
) -> bool:
    """Decide on each contrast that is still open; whether none is left open."""
    for contrast, (decision, tests) in decisions(what, trials, looks, look).items():
        if contrast not in decided or decided[contrast].decision.stop is None:
            decided[contrast] = Decided(decision, tests, len(trials))
            if decision.stop != "last look":
                stopped = f"decided: {decision.stop}" if decision.stop else "open, more seeds follow"
                what.console.print(f"  {contrast} after {len(trials)} seeds: {decision.verdict} ({stopped})")
    if not decided:
        fix = "see the notes above; declare another baseline or another fit_with"
        raise BadInput("no baseline of the claim could be run in any contrast", where=what.method.id, fix=fix)
    return all(one.decision.stop for one in decided.values())
