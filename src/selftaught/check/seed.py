"""Run a claim's method and baselines on one seed, as published and at equal compute."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from selftaught.check.baselines import (
    JUDGED_SAMPLES,
    OF_SAMPLES,
    ONE_ANSWER,
    VOTE_SAMPLES,
    require_logprobs,
    run_system,
    sample,
    samples,
    samples_to_fit,
)
from selftaught.check.claim import accuracy
from selftaught.check.fitting import PublishedRun, compute_limit, fit_system
from selftaught.check.legs import CONTRASTS, FIXED_BASELINES, AnyBaseline, Baseline, Contrast, SystemResult
from selftaught.check.outcome import Outcome, SeedResult, outcome_of
from selftaught.check.setup import Check, method_mark
from selftaught.method import Method, find


def run_all(what: Check, seed: int) -> SeedResult:
    """Run the method, its baselines in each contrast they take part in, what is shown beside, and the ablations.

    Raises:
        BadInput: the engine cannot serve a baseline, or a run raises it.
    """
    trial = SeedResult(seed, what.base(seed).version)
    _require_served(what, seed)
    with what.run(seed, "method") as run:
        trial.task, trial.train = run.task.name, len(run.task.train)
        if trial.train < what.claim.train:
            trial.notes.append(f"the claim needs {what.claim.train:,} train problems, the task has {trial.train:,}")
        mine = run_system(run, what.method, what.options)
        trial.method = outcome_of(what.claim, None, mine)
        trial.extra_metrics = what.claim.extra_metrics(mine) if what.claim.extra_metrics else {}
        _note(trial, trial.method, run.notes, run.seconds()["total"])
    for name, baseline in what.claim.all_baselines.items():
        if isinstance(baseline, str):
            _run_named(what, seed, name, trial)
        else:
            _run_baseline(what, seed, baseline, trial)
    if shown := vote_shown(what):
        with what.start(seed) as run:
            found = OF_SAMPLES["majority"](run, samples(run, shown))
            trial.shown[f"majority of {shown}"] = Outcome({accuracy: accuracy(found)}, found.tokens, found.compute)
    for ablation in what.ablations:
        options = {**what.options, **ablation.options}
        with what.run(seed, ablation.name, mark=method_mark(what.method, options)) as run:
            found = run_system(run, what.method, options)
            trial.ablations[ablation.name] = outcome_of(what.claim, ablation.name, found)
            trial.ablation_seconds += run.seconds()["total"]
    return trial


# --- the starting model's plain samples ---


def vote_shown(what: Check) -> int:
    """Samples of the vote that is shown beside, for a method that trains; 0 where none can be compared."""
    wanted = what.claim.metric is accuracy if what.claim.vote_baseline is None else what.claim.vote_baseline
    if what.method.shape == "study" or not wanted or "majority" in what.claim.leg_baselines:
        return 0
    return samples_as_published(what) or VOTE_SAMPLES


def contrasts_of(what: Check, baseline: AnyBaseline) -> tuple[Contrast, ...]:
    """The contrasts that a baseline is to take part in, whether it can be fitted to the method's compute or not."""
    if isinstance(baseline, Baseline):
        return baseline.contrasts
    if baseline in FIXED_BASELINES:
        return ("as published",)
    return CONTRASTS if samples_as_published(what) else ("equal compute",)


def samples_as_published(what: Check) -> int:
    """Samples of a vote or best-of-n as published: those of the method, or of what answers with its champion.

    0 where a solver has no such number; a fixed number beside a recipe that answers greedily.
    """
    if what.method.shape == "judge":
        return JUDGED_SAMPLES
    if what.by_problem:
        return _number_of(what.options)
    solver = what.claim.solver
    return (_number_of(solver.bind({})) if isinstance(solver, Method) else 0) or VOTE_SAMPLES


def _number_of(options: Mapping[str, Any]) -> int:
    count = options.get("samples", 0)
    return count if isinstance(count, int) and not isinstance(count, bool) else 0


def _run_named(what: Check, seed: int, name: str, trial: SeedResult) -> None:
    with what.start(seed) as run:
        if name in ONE_ANSWER:
            trial.published[name] = trial.measured[name] = _plain(what, name, ONE_ANSWER[name](run), trial)
            return
        if count := samples_as_published(what):
            found = OF_SAMPLES[name](run, samples(run, count))
            trial.published[name] = trial.measured[name] = _plain(what, name, found, trial)
        limit = compute_limit(what, trial.method, trains=False)
        if isinstance(limit, str):
            trial.leave_out(name, limit)
            return
        found = OF_SAMPLES[name](run, samples_to_fit(run, limit))
        trial.fitted[name] = _plain(what, name, found, trial)
        trial.measured.setdefault(name, trial.fitted[name])
        if found.compute > limit:
            trial.notes.append(f"{name} takes {found.compute:,} of compute with one sample, the method {limit:,}")


def _plain(what: Check, name: str, found: SystemResult, trial: SeedResult) -> Outcome:
    outcome = outcome_of(what.claim, name, found, seconds=0.0)
    trial.add_cost(outcome)
    return outcome


def _require_served(what: Check, seed: int) -> None:
    """Ask an endpoint for one sample a problem first, where a baseline needs its log-probabilities.

    Raises:
        BadInput: it returns none.
    """
    if "best-logprob" in what.claim.all_baselines and what.base(seed).remote:
        with what.start(seed) as run:
            require_logprobs(run, sample(run).answers)


# --- other methods, and the method with other options ---


def _run_baseline(what: Check, seed: int, rival: Baseline, trial: SeedResult) -> None:
    """Run a baseline as published, and from what that took, at equal compute.

    It is run as published too where it takes part at equal compute alone, to know what it takes.
    """
    method, options = system_of(what, rival)
    shared = bool(rival.method)
    with what.run(seed, rival.name, shared=shared, mark=method_mark(method, options)) as run:
        found = run_system(run, method, options)
        outcome = outcome_of(what.claim, rival.name, found)
        published = PublishedRun(outcome, tuple(run.round_ends))
        _note(trial, outcome, run.notes, outcome.seconds)
    trial.measured[rival.name] = outcome
    if "as published" in contrasts_of(what, rival):
        trial.published[rival.name] = outcome
    if "equal compute" in contrasts_of(what, rival):
        fitted = fit_system(what, seed, rival, method, options, published, trial)
        if isinstance(fitted, str):
            trial.leave_out(rival.name, fitted)
        else:
            trial.fitted[rival.name] = fitted


def system_of(what: Check, rival: Baseline) -> tuple[Method, dict[str, Any]]:
    """The method of a baseline, and its options as published."""
    method = find(rival.method) if rival.method else what.method
    own = dict(method.preset.options) if method.preset else {}
    return method, {**own, **({} if rival.method else what.claim.options), **rival.options}


def _note(trial: SeedResult, outcome: Outcome, notes: list[str], seconds: float) -> None:
    """Add what a run cost, and its notes."""
    trial.add_cost(outcome)
    trial.seconds += seconds
    trial.notes += [note for note in notes if note not in trial.notes]
