"""`selftaught worlds examine WORLD --calibrate`: the calibration suite as a command."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from contextlib import closing
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.terminal import print_json, print_table, print_text

if TYPE_CHECKING:
    from selftaught.worlds import SyntheticWorld
    from selftaught.worlds.kit.calibration.figures import Finding
    from selftaught.worlds.kit.calibration.lab import Sizes

ROOT = Path("runs/calibrate")


def add_calibration_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the suite."""
    suite = "check that the model has the properties that base models are known for; exit status 1 where one fails"
    parser.add_argument("--calibrate", action="store_true", help=suite)
    smoke = "with --calibrate: the six checks of two minutes, on 500 problems"
    parser.add_argument("--smoke", action="store_true", help=smoke)
    frozen = "with --calibrate: where every check holds, write the world's version and the results beside the world"
    parser.add_argument("--freeze", action="store_true", help=frozen)


def calibrate_world(args: argparse.Namespace, world: SyntheticWorld) -> int:
    """Run the suite, resumed from its folder; 0 where every check holds, otherwise 1.

    Raises:
        BadInput: --freeze of a part of the suite, or of a model that failed.
    """
    from selftaught.worlds.kit.calibration.lab import FULL, SMOKE

    if args.freeze and (args.smoke or args.problems):
        raise BadInput("only the whole suite freezes a world", where="--freeze", fix="leave out --smoke and --problems")
    sizes = SMOKE if args.smoke else FULL
    findings, policy = _run(args, world, sizes.at_most(args.problems) if args.problems else sizes)
    version = _frozen(world, policy, findings) if args.freeze else ""
    if args.json:
        print_json(_as_data(world.name, policy.version, version, findings))
    else:
        print_findings(findings)
        if version:
            print_text(f"frozen as {version}")
    return 0 if all(one.holds for one in findings) else 1


def _run(args: argparse.Namespace, world: SyntheticWorld, sizes: Sizes) -> tuple[Sequence[Finding], Any]:
    from selftaught.engines import EngineConfig, create_engine
    from selftaught.models.resolve import resolve
    from selftaught.worlds.kit.calibration.freeze import identity_of
    from selftaught.worlds.kit.calibration.lab import Lab
    from selftaught.worlds.kit.calibration.plan import plan_of
    from selftaught.worlds.kit.calibration.suite import ALL, calibrate, suite_folder
    from selftaught.worlds.kit.calibration.table import SMOKE_CHECKS

    console = Console(quiet=args.quiet)
    policy = resolve(args.model or world.model, console.print)
    folder = args.out or suite_folder(ROOT, [policy.version, identity_of(world), asdict(sizes)], world.name)
    console.print(f"calibration of {args.model or world.name} on {world.name}, in {folder}")
    with closing(create_engine(policy, EngineConfig(dtype="float32", max_batch_size=256))) as engine:
        lab = Lab(world.module("world").WORLD, plan_of(world), policy, folder, engine, console, sizes)
        return calibrate(lab, SMOKE_CHECKS if args.smoke else ALL), policy


def _frozen(world: SyntheticWorld, policy: Any, findings: Sequence[Finding]) -> str:
    from selftaught.worlds.kit.calibration.freeze import freeze

    return freeze(world, policy, [one.to_json() for one in findings])


def _as_data(world: str, model: str, version: str, findings: Sequence[Finding]) -> dict[str, Any]:
    from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS
    from selftaught.worlds.kit.calibration.suite import as_data

    seeds = [CALIBRATION_SEEDS.start, CALIBRATION_SEEDS.stop - 1]
    return {"world": world, "model": model, "seeds": seeds, "world_version": version, **as_data(findings)}


def print_findings(findings: Sequence[Finding]) -> None:
    """Print the findings as a table, a row for each figure asked for."""
    rows = []
    for one in findings:
        data = one.to_json()
        for condition in data["conditions"]:
            value, ends = condition["value"], condition["ci95"]
            measured = "not measured" if value is None else f"{value:+.3f}"
            shown = "not applicable" if data["not_applicable"] else measured
            interval = f"{ends[0]:+.3f} to {ends[1]:+.3f}" if ends else ""
            mark = "yes" if condition["holds"] else "NO"
            rows.append((str(one.spec.number), condition["name"], shown, interval, condition["threshold"], mark))
    print_table(rows, columns=("check", "figure", "", "95 % interval", "wanted", "holds"))
    held = sum(one.holds for one in findings)
    print_text(f"{held} of {len(findings)} checks hold")
