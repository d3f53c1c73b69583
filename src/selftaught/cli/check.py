"""`selftaught check`: the command."""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

from selftaught.check.parallel import seed_pool
from selftaught.check.results import COLUMNS, BaselineComparison, Result, result_cells, result_path, write_result
from selftaught.check.runner import SEEDS, check
from selftaught.cli.common import Call, add_quiet
from selftaught.cli.engine_options import add_engine_options, engine_config, engine_flags
from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.method import Method, find, methods
from selftaught.terminal import print_json, print_table, print_text, print_wrapped
from selftaught.worlds.world import DEFAULT_WORLD, find_world, worlds


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    parser.add_argument("method", nargs="?", help="a method's id, or file.py:function")
    parser.add_argument("--all", action="store_true", help="check every method that declares a claim")
    parser.add_argument(
        "--seeds", type=int, default=SEEDS, help="number of seeds, each with its own problems (default %(default)s)"
    )
    models = f"{', '.join(worlds())}, or openai:NAME for a solver's claim (default %(default)s)"
    parser.add_argument("--model", default=DEFAULT_WORLD, help=models)
    parser.add_argument("--ablate", action="store_true", help="also run the claim's ablations")
    parser.add_argument(
        "--jobs", type=int, default=0, metavar="N",
        help="seeds run in parallel processes (default 0: as many as fit for a small model, else 1)",
    )  # fmt: skip
    add_engine_options(parser)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder of the results (default %(default)s)")
    threads = "CPU threads for all processes together (default: one per core)"
    parser.add_argument("--threads", type=int, metavar="N", help=threads)
    add_quiet(parser)


def execute(call: Call) -> int:
    """Check one method, or all of them. Returns 0 regardless of the verdict."""
    args = call.args
    chosen, where, engine = _chosen(args), find_world(args.model), engine_config(args)
    console = Console(quiet=args.quiet)
    results, cache = [], {} if len(chosen) > 1 else None
    with seed_pool(args.jobs, args.seeds, where, engine, say=not args.quiet) as processes:
        for number, method in enumerate(chosen, 1):
            if len(chosen) > 1:
                console.print(f"method {number} of {len(chosen)}")
            _forewarn(console, args.out, method, where.name)
            if processes:
                name = args.method or method.id
                processes.run_seeds(name, where.name, args.seeds, ablate=args.ablate, engine=engine, console=console)
            jobs = processes.jobs if processes else 1
            result = check(
                method, where, seeds=args.seeds, ablate=args.ablate, engine=engine, console=console, cache=cache,
                jobs=jobs,
            )  # fmt: skip
            path = write_result(result, args.out, _command(args, method))
            results.append(result)
            if not args.json:
                print_result(result, path)
    if args.json:
        found = [r.to_json(_command(args, m)) for r, m in zip(results, chosen, strict=True)]
        print_json(found if args.all else found[0])
    elif args.all:
        print_results(results)
    return 0


def _chosen(args: argparse.Namespace) -> list[Method]:
    if args.all == (args.method is not None):
        fix = "give one method, or --all"
        what = "--all cannot be combined with a method" if args.all else "no method given"
        raise BadInput(what, where="check", fix=fix)
    if args.seeds < 2:
        raise BadInput(f"must be ≥ 2, got {args.seeds}", where="--seeds", fix=f"use {SEEDS}")
    if args.jobs < 0:
        raise BadInput(f"must be ≥ 0, got {args.jobs}", where="--jobs", fix="use 0 for as many as fit")
    if args.all:
        return [m for m in methods().values() if m.claim]
    method = find(args.method)
    if method.claim is None:
        raise BadInput("the method declares no claim", where=method.id, fix="add claim=Claim(...) to its decorator")
    return [method]


def _forewarn(console: Console, folder: Path, method: Method, model: str) -> None:
    """Report how long the last check took, if known."""
    try:
        before = json.loads(result_path(folder, method.id, model).read_text("utf-8"))
        seconds, seeds = float(before["seconds"]), int(before["seeds"])
    except (OSError, ValueError, KeyError, TypeError):
        if model != DEFAULT_WORLD:
            console.print(f"{method.id} on {model}: takes long; an estimate follows after the first seed")
        return
    console.print(f"{method.id} on {model}: the last check took {seconds:.0f} s for {seeds} seeds")


def _command(args: argparse.Namespace, method: Method) -> str:
    """The command that checks this one method again."""
    words = ["selftaught check", args.method or method.id, f"--seeds {args.seeds} --model {args.model}"]
    return " ".join([*words, *engine_flags(args), *(["--ablate"] if args.ablate else [])])


def print_result(result: Result, path: Path) -> None:
    """Print a result: the claim, each baseline with its effect, and the verdict."""
    print_wrapped(f"\n{result.id}: {result.claim}")
    print_wrapped(f"{result.problems:,} problems over {result.seeds} seeds, {result.tokens:,} tokens in all\n")
    rows = [(result.id, f"{result.score:.3f}", "", "", f"{result.method_tokens:,}")]
    for row in (*result.baselines, *result.ablations):
        aside = "" if row.in_claim else " (not of the claim)" if row in result.baselines else " (ablation)"
        rows.append((row.name + aside, f"{row.score:.3f}", *_effect(row), f"{row.tokens:,}"))
    print_table(rows, columns=("", "score", "effect", "95 % interval", "tokens"))
    if result.extra_metrics:
        print_wrapped("\n" + ", ".join(f"{name} {value:.3f}" for name, value in result.extra_metrics.items()))
    print_wrapped(f"\n{result.verdict}, in {result.seconds:.0f} s; written to {path}")


def print_results(results: Sequence[Result]) -> None:
    """Print a line for each result, in the columns of the README."""
    rows = [(result.id, *result_cells(result.to_json("")), f"{result.seconds:.0f}") for result in results]
    print_text("")
    print_table(rows, columns=("method", *COLUMNS, "seconds"))


def _effect(row: BaselineComparison) -> tuple[str, str]:
    return f"{row.effect:+.3f}", f"{row.ci95.low:+.3f} to {row.ci95.high:+.3f}"
