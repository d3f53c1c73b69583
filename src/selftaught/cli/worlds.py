"""`selftaught worlds build WORLD`: the command."""

from __future__ import annotations

import argparse
import json
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.cli.common import Call, add_quiet
from selftaught.cli.worlds_build import add_build_options, build_kit_world, kit_worlds
from selftaught.cli.worlds_calibrate import add_calibration_options, calibrate_world
from selftaught.console import Console, training_progress
from selftaught.errors import BadInput, suggest
from selftaught.terminal import print_json, print_table
from selftaught.worlds import SyntheticWorld, synthetic_worlds

if TYPE_CHECKING:
    from selftaught.worlds.underfit.abilities import AbilityScore

ABILITIES_FILE = "abilities.json"
BUILD_FOLDER = Path("underfit-model")
PROBLEMS = 420  # per level
MIN_PROBLEMS = 8  # of a check in a calibration


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the options of `worlds`."""
    from selftaught.worlds.underfit.build import BuildConfig

    parser.add_argument("action", help="build: train the world's model from scratch; examine: measure a model in it")
    parser.add_argument("world", help=" or ".join((*_buildable(), *kit_worlds())))
    parser.add_argument("--model", help="model to examine (default: the world's own)")
    out = (
        "folder to write the model to (default WORLD-model, or WORLD-KIN-SEED), or of the calibration (runs/calibrate)"
    )
    parser.add_argument("--out", type=Path, help=out)
    sizes = BuildConfig().conversations
    parser.add_argument(
        "--conversations",
        type=int,
        nargs=len(sizes),
        default=sizes,
        help="training conversations per stage (default %(default)s)",
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of text, weights and problems (default %(default)s)")
    problems = f"problems per level (default {PROBLEMS}); with --calibrate: at most so many in each check"
    parser.add_argument("--problems", type=int, help=problems)
    add_calibration_options(parser)
    add_build_options(parser)
    add_quiet(parser)


def execute(call: Call) -> int:
    """Build or examine a model. Raises BadInput for an unknown action or world."""
    args = call.args
    if args.action not in ("build", "examine"):
        raise BadInput(
            f"unknown action {args.action!r}", where="worlds", fix=suggest(args.action, ("build", "examine"))
        )
    if args.calibrate:
        return calibrate_world(args, _calibratable(args))
    for flag in ("smoke", "freeze", "twin"):
        if getattr(args, flag):
            raise BadInput(f"--{flag} belongs to --calibrate", where="worlds", fix="add --calibrate")
    if args.action == "build" and args.world in (of_kit := kit_worlds()):
        return build_kit_world(args, of_kit[args.world], Console(quiet=args.quiet))
    args.problems, args.out = args.problems or PROBLEMS, args.out or BUILD_FOLDER
    if args.world in kit_worlds():
        raise BadInput(f"{args.world} is examined by its calibration", where="worlds", fix="add --calibrate")
    if args.world not in (known := _buildable()):
        fix = suggest(args.world, (*known, *kit_worlds()))
        raise BadInput(f"unknown world {args.world!r}", where="worlds", fix=fix)
    if min(args.conversations) < 1 or args.problems < len(_families()):
        raise BadInput("too few conversations or problems", where="worlds", fix="leave them at their defaults")
    console = Console(quiet=args.quiet)
    model: Any = args.model or args.world
    if args.action == "build":
        if args.out.exists():
            raise BadInput("it exists already", where=str(args.out), fix="name another folder with --out")
        _build(args, console)
        model = args.out
    found = _examine(model, args, console)
    if args.action == "build":
        (args.out / ABILITIES_FILE).write_text(json.dumps(_as_data(found), indent=1) + "\n", "utf-8")
        console.print(f"written to {args.out}")
    if args.json:
        print_json(_as_data(found))
    else:
        print_build(found)
    return 0


def _calibratable(args: argparse.Namespace) -> SyntheticWorld:
    """The world that a calibration names."""
    if args.action != "examine":
        raise BadInput("only a model that is there is calibrated", where="--calibrate", fix="selftaught worlds examine")
    if args.world not in (known := synthetic_worlds()):
        raise BadInput(f"unknown world {args.world!r}", where="worlds", fix=suggest(args.world, known))
    if args.problems is not None and args.problems < MIN_PROBLEMS:
        raise BadInput("too few problems", where="--problems", fix=f"use at least {MIN_PROBLEMS}")
    return known[args.world]


def _buildable() -> list[str]:
    """Worlds that are built by a module of their own."""
    return [name for name, found in synthetic_worlds().items() if found.can_build and name not in kit_worlds()]


def _families() -> dict[str, Any]:
    from selftaught.worlds.underfit.families import FAMILIES

    return FAMILIES


def _build(args: argparse.Namespace, console: Console) -> None:
    from selftaught.worlds.underfit.build import BuildConfig, save, train_model

    recipe = replace(BuildConfig(), conversations=tuple(args.conversations), seed=args.seed)
    with training_progress(console, "reading conversations", sum(recipe.conversations), lambda _: None) as progress:
        model, cost = train_model(recipe, progress)
    save(model, args.out, recipe, cost)
    console.print(
        f"{cost['tokens']:,} tokens in {cost['seconds']} s, {cost['tokens_per_second']:,} a second,"
        f" loss {cost['loss']:.3f}"
    )


def _examine(model: str | Path, args: argparse.Namespace, console: Console) -> list[AbilityScore]:
    from selftaught.engines import EngineConfig, create_engine
    from selftaught.models.resolve import resolve
    from selftaught.worlds.underfit.abilities import AbilityTest

    policy = resolve(model, console.print)
    with closing(create_engine(policy, EngineConfig(dtype="float32", max_batch_size=256))) as engine:
        examiner = AbilityTest(engine, policy, problems=args.problems, seed=args.seed)
        return examiner.table(lambda line: console.print(f"  {line}"))


def _as_data(found: list[AbilityScore]) -> list[dict[str, Any]]:
    from selftaught.worlds.underfit.abilities import as_rows

    return as_rows(found)


def print_build(found: list[AbilityScore]) -> None:
    """Print the table."""
    rows = ((one.what, f"{one.value:.3f}", f"{one.ci95.low:.3f} to {one.ci95.high:.3f}", str(one.n)) for one in found)
    print_table(rows, columns=("ability", "", "95 % interval", "of"))
