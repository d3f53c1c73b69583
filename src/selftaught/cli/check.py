"""`selftaught check`: the command."""

from __future__ import annotations

import argparse
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

from selftaught.check.changed import is_changed
from selftaught.check.parallel import Place, SeedPool, play_seed, seed_pool
from selftaught.check.reading import (
    COLUMNS,
    conditions_text,
    contrast_text,
    counted,
    effect_text,
    q_values,
    read_result,
    require_same_version,
    result_cells,
)
from selftaught.check.results import Result, result_path, write_result
from selftaught.check.runner import check, looks_of
from selftaught.check.setup import claim_of
from selftaught.cli.common import Call, add_quiet
from selftaught.cli.engine_options import add_engine_options, engine_config, engine_flags
from selftaught.console import Console
from selftaught.engines.create import EngineConfig
from selftaught.errors import BadInput
from selftaught.method import Method, find, methods
from selftaught.terminal import print_json, print_table, print_text, print_wrapped
from selftaught.worlds.own import world_of
from selftaught.worlds.world import DEFAULT_WORLD, World, with_version, worlds

SEEDS = "seeds"  # the folder of finished seeds in that of the results


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `check`."""
    parser.add_argument("method", nargs="?", help="a method's id, or file.py:function")
    parser.add_argument("--all", action="store_true", help="check every method that declares a claim")
    changed = "check every method whose code, or the parts that it imports, changed since its result was written"
    parser.add_argument("--changed", action="store_true", help=changed)
    seeds = "number of seeds (default: the world's looks, such as 6, 12 and 20, until the claim is decided)"
    parser.add_argument("--seeds", type=int, metavar="N", help=seeds)
    models = f"{', '.join(worlds())}; with --task also any model that run takes; openai:NAME or the http address of "
    models += "an endpoint for a solver's claim (default %(default)s)"
    parser.add_argument("--model", default=DEFAULT_WORLD, help=models)
    task = "a task of your own with test problems, as run takes it (default: the world's)"
    parser.add_argument("--task", default="", help=task)
    quick = "fewer seeds and problems, for a first look; results go to the folder quick in that of the results"
    parser.add_argument("--quick", action="store_true", help=quick)
    parser.add_argument("--ablate", action="store_true", help="also run the claim's ablations")
    extend = "go on from the finished seeds beside the results (in the folder seeds), where they are of the same code, "
    extend += "claim, model, problems, options (--ablate, engine) and packages, instead of playing them again"
    parser.add_argument("--extend", action="store_true", help=extend)
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
    """Check one method, or several. Returns 0 regardless of the verdict."""
    args = call.args
    where, chosen = with_version(world_of(args.model, args.task)), _chosen(args)
    if args.deterministic:
        training = replace(where.settings.training, precision="float32")
        where = replace(where, settings=replace(where.settings, training=training))
    args.out = args.out / "quick" if args.quick else args.out
    if args.changed:
        chosen = [method for method in chosen if is_changed(method, args.out, where.name)]
        print_text(f"{len(chosen)} methods changed: {', '.join(m.id for m in chosen) or 'nothing to check'}")
    for method in chosen:
        require_same_version(result_path(args.out, method.id, where.name), where.version)
    engine, console = engine_config(args, where.model), Console(quiet=args.quiet)
    results: list[tuple[Method, Result]] = []
    with seed_pool(args.jobs, _most_at_once(args, chosen, where), where, engine) as processes:
        for number, method in enumerate(chosen, 1):
            if len(chosen) > 1:
                console.print(f"method {number} of {len(chosen)}")
            _forewarn(console, args.out, method, where.name)
            result = check(
                method, where, seeds=args.seeds or 0, ablate=args.ablate, engine=engine, console=console,
                jobs=processes.jobs if processes else 1, ahead=_ahead(args, method, processes, engine, console),
                quick=args.quick, kept=args.out / SEEDS, extend=args.extend,
            )  # fmt: skip
            path = write_result(result, args.out, _command(args, method))
            results.append((method, result))
            if not args.json:
                print_result(result, path)
    _report(args, results)
    return 0


def _report(args: argparse.Namespace, results: Sequence[tuple[Method, Result]]) -> None:
    """Print the results as JSON, or those of several methods as a table."""
    several = args.all or args.changed
    if args.json:
        found = [result.to_json(_command(args, method)) for method, result in results]
        print_json(found if several else found[0])
    elif several and results:
        print_results([result for _, result in results])


def _chosen(args: argparse.Namespace) -> list[Method]:
    several = [flag for flag in ("all", "changed") if getattr(args, flag)]
    if bool(several) == (args.method is not None) or len(several) > 1:
        what = f"--{several[0]} cannot be combined with a method" if several and args.method else "no method given"
        what = "--all and --changed cannot be combined" if len(several) > 1 else what
        raise BadInput(what, where="check", fix="give one method, --all or --changed")
    if args.jobs < 0:
        raise BadInput(f"must be ≥ 0, got {args.jobs}", where="--jobs", fix="use 0 for as many as fit")
    chosen = [m for m in methods().values() if m.claim] if several else [find(args.method)]
    for method in chosen:
        claim_of(method)
    least = 1 if all(method.shape in ("solver", "judge") for method in chosen) else 2
    if args.seeds is not None and args.seeds < least:
        fix = "leave it out for the world's looks"
        raise BadInput(f"must be ≥ {least}, got {args.seeds}", where="--seeds", fix=fix)
    return chosen


def _most_at_once(args: argparse.Namespace, chosen: Sequence[Method], where: World) -> int:
    """The most seeds that a look adds."""
    world = where.quickly() if args.quick else where
    planned = [(0, *looks_of(method, world, args.seeds or 0).seeds) for method in chosen]
    return max((later - sooner for looks in planned for sooner, later in pairwise(looks)), default=1)


def _ahead(
    args: argparse.Namespace, method: Method, processes: SeedPool | None, engine: EngineConfig, console: Console
) -> Callable[[Sequence[int]], None] | None:
    """A function that plays the seeds of a look in the processes."""
    if processes is None:
        return None
    place, name = Place(args.model, args.task, args.quick), args.method or method.id
    play = partial(play_seed, name, place, args.ablate, engine, not args.quiet)
    return lambda seeds: processes.run_seeds(play, seeds, console)


def _forewarn(console: Console, folder: Path, method: Method, world: str) -> None:
    """Report how long the last check took, if known."""
    before = read_result(result_path(folder, method.id, world))
    if before is not None:
        console.print(f"{method.id}: the last check took {before['seconds']:.0f} s for {before['seeds']} seeds")
    elif world != DEFAULT_WORLD:
        console.print(f"{method.id} on {world}: takes long; an estimate follows after the first seed")


def _command(args: argparse.Namespace, method: Method) -> str:
    """The command that checks this one method again."""
    words = ["selftaught check", args.method or method.id]
    words += [f"--seeds {args.seeds}"] if args.seeds else []
    words += [f"--model {shlex.quote(args.model)}"]
    words += [f"--task {shlex.quote(args.task)}"] if args.task else []
    flags = [f"--{flag}" for flag in ("quick", "ablate") if getattr(args, flag)]
    return " ".join([*words, *engine_flags(args), *flags])


def print_result(result: Result, path: Path) -> None:
    """Print a result: the claim, each system with the method's effect over it, preconditions, and the verdicts."""
    found = result.to_json("")
    print_wrapped(f"\n{result.id}: {result.claim}")
    size = f"{result.problems:,} test problems, " + (
        f"{result.train:,} train problems a seed, " if result.train else ""
    )
    size += f"{counted(result.seeds, 'seed')}, {counted(result.builds, 'build')} of the model"
    print_wrapped(f"{size}, {result.compute:,} tokens of compute in all\n")
    rows = [(result.id, "", f"{result.score:.3f}", "", f"{result.method_compute:,}")]
    for row in (*found["baselines"], *found["ablations"]):
        aside = "" if row["in_claim"] else " (shown beside)" if row in found["baselines"] else " (ablation)"
        contrast = "" if aside else row["contrast"].replace("_", " ")
        rows.append((row["name"] + aside, contrast, f"{row['score']:.3f}", effect_text(row), f"{row['compute']:,}"))
    print_table(rows, columns=("", "contrast", "score", "effect [95 % interval]", "compute"))
    for leg in (leg for leg in found["legs"] if leg["kind"] != "beats"):
        print_wrapped(f"{leg['name']}: {effect_text(leg)}, {leg['outcome']}")
    if result.conditions:
        print_wrapped(f"\nPreconditions: {conditions_text(found['preconditions'])}")
    if result.extra_metrics:
        print_wrapped("\n" + ", ".join(f"{name} {value:.3f}" for name, value in result.extra_metrics.items()))
    print_text("")
    for name, contrast in found["contrasts"].items():
        print_wrapped(f"{name.replace('_', ' ').capitalize()}: {contrast_text(contrast, result.direction)}")
    print_wrapped(f"Took {result.seconds:.0f} s; written to {path}")


def print_results(results: Sequence[Result]) -> None:
    """Print a line for each result, in the columns of the README, with its q-value."""
    found: list[Mapping[str, Any]] = [result.to_json("") for result in results]
    q = q_values(found)
    rows = [(one["id"], *result_cells(one, q[one["id"]]), f"{one['seconds']:.0f}") for one in found]
    print_text("")
    print_table(rows, columns=("method", *COLUMNS, "seconds"))
