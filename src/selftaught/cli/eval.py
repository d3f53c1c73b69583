"""`selftaught eval`: the command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

from selftaught.cli.common import (
    SPLITS,
    Call,
    add_accept,
    add_model_options,
    add_quiet,
    add_task_options,
    exit_status,
    print_notes,
    print_outcome,
    request_report,
    require_split,
    task_of,
)
from selftaught.cli.engine_options import at_least, engine_of
from selftaught.cli.eval_judge import judge_of, judge_outcome
from selftaught.console import Console
from selftaught.engines import Sampling
from selftaught.measure import clustered_bootstrap
from selftaught.records import content_hash
from selftaught.run.config import own_version
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.run.solver import SolverResult
from selftaught.tasks import Task


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `eval`, besides those of the solver."""
    parser.add_argument("--solver", help="a test-time method to measure the model with")
    judge = "a judge, by id or file.py:function: also report its mean score, and its agreement with the verifier"
    parser.add_argument("--judge", metavar="J", help=judge)
    model = "model that judges, served by the engine of --model (default: the measured model)"
    parser.add_argument("--judge-model", metavar="M", help=model)
    add_model_options(parser)
    add_task_options(parser, train=0, dev=0, test=300)
    parser.add_argument("--split", choices=SPLITS, default="test", help="which problems (default %(default)s)")
    attempts = "per problem; more than 1 gives pass@k (default %(default)s)"
    parser.add_argument("--attempts", type=at_least(1), default=1, help=attempts)
    temperature = "sampling temperature (default %(default)s, greedy); a solver with an option of this name takes it"
    parser.add_argument("--temperature", type=float, default=0.0, metavar="T", help=temperature)
    parser.set_defaults(temperature=0.0)  # where a solver takes the flag
    out = "folder of the journal (default runs/eval-HASH); the same command resumes"
    parser.add_argument("--out", type=Path, help=out)
    add_accept(parser)
    add_quiet(parser)


def execute(call: Call) -> int:
    """Measure a model on a split."""
    judge = judge_of(call.args)
    args, task = call.args, task_of(call.args)
    require_split(task, args.split)
    if task.verifier.needs_reference:
        task.require(reference=True, splits=[args.split])
    sampling = Sampling(max_tokens=args.max_tokens, temperature=args.temperature)
    solver = call.method.with_options(**call.options) if call.method else None
    with Run(
        _folder(args, task), model=args.model, task=task, engine=engine_of(args),
        settings=Settings(seed=args.seed, sampling=sampling), console=Console(quiet=args.quiet),
        accept=args.accept,
    ) as run:  # fmt: skip
        problems = task.split(args.split)
        results = run.solve(run.base, problems, args.split, solver=solver, samples=args.attempts)
        name = call.method.id if call.method else "policy"
        outcome = run.measurement_of(run.base, args.split, name, results).to_json()
        judged = judge_outcome(run, judge, args, results) if judge else {}
        print_notes(run)
        outcome |= {"model": args.model, "task": task.name} | _mean_score(results) | judged
        outcome |= request_report(run, args.json)
        reason = run.no_answer_reason
    del outcome["scores"]
    print_outcome(outcome, args.json)
    return exit_status(reason, args.model)


def _folder(args: argparse.Namespace, task: Task) -> Path:
    sampling = (args.max_tokens, args.temperature, args.seed)
    config = content_hash(args.model, task.name, task.fingerprint, *sampling, own_version())
    return args.out or Path("runs") / f"eval-{config}"


def _mean_score(results: Sequence[SolverResult]) -> dict[str, Any]:
    """The mean score with its interval, where the verifier gives more than right and wrong."""
    scores: dict[str, list[float]] = {}
    for one in results:
        if (found := one.attempt.task_feedback) and found.score is not None:
            scores.setdefault(one.attempt.problem.id, []).append(found.score)
    if not any(0 < score < 1 for given in scores.values() for score in given):
        return {}
    interval = clustered_bootstrap(list(scores.values()))
    mean = fmean(fmean(given) for given in scores.values())
    return {"mean_score": round(mean, 4), "mean_score_ci95": [round(interval.low, 4), round(interval.high, 4)]}
