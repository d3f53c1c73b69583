"""`selftaught run METHOD`: the command."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

from selftaught.cli.common import (
    METHOD_HELP,
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
    task_request,
)
from selftaught.cli.engine_options import at_least, engine_config, engine_of
from selftaught.cli.options import naming_flags
from selftaught.console import Console
from selftaught.control import Budget
from selftaught.engines import Sampling
from selftaught.engines.create import is_remote
from selftaught.learn import TrainConfig
from selftaught.models import resolve
from selftaught.models.remote import require_trainable
from selftaught.records import as_json
from selftaught.run.config import REQUEST_KEY, check_references
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.terminal import print_json, print_table, print_wrapped


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `run`, besides the method's own."""
    parser.add_argument("method", help=METHOD_HELP)
    add_model_options(parser)
    add_task_options(parser, train=128, dev=128, test=300)
    parser.add_argument("--out", type=Path, help="run folder; the same command resumes (default runs/METHOD-TASK)")
    add_accept(parser)
    budget = "tokens that the method may spend, checked before each call (default no limit)"
    parser.add_argument("--token-budget", type=at_least(0), metavar="N", help=budget)
    usual = TrainConfig()
    training = parser.add_argument_group("training")
    epochs = "passes over the training records (default %(default)s)"
    training.add_argument("--epochs", type=at_least(1), default=usual.epochs, help=epochs)
    rate = "peak learning rate of AdamW (default %(default)s)"
    training.add_argument("--learning-rate", type=float, default=usual.learning_rate, help=rate)
    batch = "records per optimizer step (default %(default)s)"
    training.add_argument("--batch-size", type=at_least(1), default=usual.batch_size, help=batch)
    rank = "rank of a LoRA adapter (default %(default)s: train all weights)"
    training.add_argument("--lora-rank", type=at_least(0), default=0, help=rank)
    dry_run = "print the resolved configuration and the expected cost, then stop"
    parser.add_argument("--dry-run", action="store_true", help=dry_run)
    add_quiet(parser)


def execute(call: Call) -> int:
    """Train a model with a method, then open the test split and write summary and report."""
    args, settings, task = call.args, _settings(call.args), task_of(call.args)
    for split in SPLITS:
        require_split(task, split)
    check_references(task, call.chosen)
    expected = _expected_cost(call, task, settings)
    if args.dry_run:
        plan = {"method": call.chosen.id, "model": args.model, "task": task.name, "options": call.options}
        plan |= {"settings": as_json(settings), "problems": {split: len(task.split(split)) for split in SPLITS}}
        print_outcome(plan | {"expected": expected}, args.json)
        return 0
    return _train(call, task, settings)


def _settings(args: argparse.Namespace) -> Settings:
    training = TrainConfig(
        epochs=args.epochs, learning_rate=args.learning_rate, batch_size=args.batch_size, lora_rank=args.lora_rank,
        precision="float32" if args.deterministic else "auto",
    )  # fmt: skip
    sampling = Sampling(max_tokens=args.max_tokens)
    return Settings(seed=args.seed, sampling=sampling, training=training, budget=Budget(args.token_budget))


def _expected_cost(call: Call, task: Task, settings: Settings) -> dict[str, Any]:
    """What the method will cost, where that matters before it starts.

    A method that trains a model behind an endpoint is refused before anything is paid for.
    """
    from selftaught.run.dry_run import dry_run

    model, remote = call.args.model, is_remote(call.args.model)
    if not (call.args.dry_run or remote):
        return {}
    expected = dry_run(call.chosen, call.options, task, settings)
    if remote and expected["trainings"]:
        require_trainable(resolve(model))
    return expected


def _train(call: Call, task: Task, settings: Settings) -> int:
    from selftaught.run.conclusion import conclude, write

    args, method = call.args, call.chosen
    folder = args.out or Path("runs") / f"{method.id}-{_slug(task.name)}"
    console = Console(quiet=args.quiet)
    how = {"engine": engine_of(args), "endpoint": engine_config(args)}
    with Run(folder, model=args.model, task=task, **how, settings=settings, console=console, accept=args.accept) as run:
        console.print(f"{method.id} on {task.name} with {args.model}, in {folder}")
        run.journal.set_meta(REQUEST_KEY, json.dumps(task_request(args)))
        with naming_flags(call.options):
            method(run, run.base, task, **call.options)
        outcome = write(run, conclude(run), command=call.command_line)
        print_notes(run)
        console.print(f"  {run.cost_line()}")
        overhead, peak = f"{outcome['overhead']:.1%}", f"{outcome['peak_rss_mb']:,} MB"
        console.print(f"  framework overhead {overhead} of the time, peak memory {peak}")
        reason = run.no_answer_reason
        outcome |= request_report(run, args.json)
    if args.json:
        print_json(outcome)
    else:
        print_result(outcome, folder)
    return exit_status(reason, args.model)


def print_result(outcome: dict[str, Any], folder: Path) -> None:
    """Print the summary of a run: accuracies on the test split, the paired difference, alarms, and where things are."""
    vote = outcome["majority_at_equal_tokens"]
    rows = {"before": outcome["before"], "after": outcome["after"], f"before, vote of {vote['samples']}": vote}
    print_wrapped(f"\n{outcome['n_test']} test problems, opened once:")
    print_table(
        (
            (name, f"{row['accuracy']:.3f}", f"{row['ci95'][0]:.3f} to {row['ci95'][1]:.3f}")
            for name, row in rows.items()
            if row["accuracy"] is not None
        ),
        columns=("", "accuracy", "95 % interval"),
    )
    if vote["accuracy"] is None:
        print_wrapped(f"no majority vote: {vote['why']}")
    paired = outcome["paired_difference"]
    low, high = paired["ci95"]
    print_wrapped(f"paired difference {paired['mean']:+.3f} [{low:+.3f}, {high:+.3f}], p = {paired['p_value']:.2g}")
    for row in outcome["rounds"]:
        for alarm in row["alarms"]:
            print_wrapped(f"alarm in round {row['number']}: {alarm}")
    if not outcome["promoted"]:
        print_wrapped("no policy passed the gate: the starting model remains the champion")
    print_wrapped(f"report {folder / 'report.html'}")
    if (folder / "champion").exists():
        what = f"notes ({outcome['champion_notes']})" if "champion_notes" in outcome else "weights"
        print_wrapped(f"{what} {folder / 'champion'}")


def _slug(name: str) -> str:
    kept = "".join(c if c.isalnum() else "-" for c in name).strip("-")
    return kept[:60].rstrip("-")
