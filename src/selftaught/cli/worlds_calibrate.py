"""`selftaught worlds examine WORLD --calibrate`: the calibration suite as a command."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.terminal import print_json, print_table, print_text

if TYPE_CHECKING:
    from selftaught.check.parallel import SeedPool
    from selftaught.worlds import SyntheticWorld
    from selftaught.worlds.kit.calibration.figures import Finding
    from selftaught.worlds.kit.calibration.lab import Lab
    from selftaught.worlds.kit.calibration.opening import Suite

ROOT = Path("runs/calibrate")


def add_calibration_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of the suite."""
    suite = "check that the model has the properties that base models are known for; exit status 1 where one fails"
    parser.add_argument("--calibrate", action="store_true", help=suite)
    smoke = "with --calibrate: the six checks of two minutes, on 500 problems"
    parser.add_argument("--smoke", action="store_true", help=smoke)
    frozen = "with --calibrate: where every check holds, write the world's version and the results beside the world"
    parser.add_argument("--freeze", action="store_true", help=frozen)
    twin = "with --calibrate: examine the tabular twin of the text's writer, before a model is trained on it"
    parser.add_argument("--twin", action="store_true", help=twin)


def calibrate_world(args: argparse.Namespace, world: SyntheticWorld) -> int:
    """Run the suite, resumed from its folder; 0 where every check holds, otherwise 1.

    Raises:
        BadInput: --freeze of a part of the suite or of a twin, --twin of a world without one, or an unknown model.
    """
    from selftaught.worlds.kit.calibration.freeze import freeze
    from selftaught.worlds.kit.calibration.opening import opened
    from selftaught.worlds.kit.calibration.suite import ALL, calibrate
    from selftaught.worlds.kit.calibration.table import SMOKE_CHECKS

    if args.freeze and (args.smoke or args.problems or args.twin):
        fix = "leave out --smoke, --problems and --twin"
        raise BadInput("only the whole suite freezes a world", where="--freeze", fix=fix)
    console = Console(quiet=args.quiet)
    suite = _suite(args, world, console)
    numbers = SMOKE_CHECKS if args.smoke else ALL
    with opened(suite, console) as lab, _processes(args, lab, suite) as processes:
        findings = calibrate(lab, numbers, _ahead(processes, suite, console))
        good = all(one.holds for one in findings)
        version = freeze(world, lab.policy, [one.to_json() for one in findings]) if args.freeze and good else ""
        if args.json:
            print_json(_as_data(world.name, lab.policy.version, version, findings))
        else:
            print_findings(findings, f"frozen as {version}" if version else "")
    return 0 if good else 1


def _suite(args: argparse.Namespace, world: SyntheticWorld, console: Console) -> Suite:
    """The suite of a command line."""
    from selftaught.models.resolve import resolve
    from selftaught.worlds.kit.calibration.freeze import identity_of
    from selftaught.worlds.kit.calibration.lab import FULL, SMOKE
    from selftaught.worlds.kit.calibration.opening import Suite
    from selftaught.worlds.kit.calibration.plan import plan_of
    from selftaught.worlds.kit.calibration.suite import suite_folder

    if args.twin and plan_of(world).twin_engine is None:
        raise BadInput(f"world {world.name} has no twin", where="--twin", fix="leave it out")
    sizes = (SMOKE if args.smoke else FULL).at_most(args.problems or FULL.problems)
    model = str(args.model or world.model)
    examined = f"{world.name}-twin" if args.twin else resolve(model, console.print).version
    folder = args.out or suite_folder(ROOT, [examined, identity_of(world), asdict(sizes)], world.name)
    who = "its writer's twin" if args.twin else args.model or "its own model"
    console.print(f"calibration of {world.name} with {who}, in {folder}")
    return Suite(world.name, model, folder, sizes, args.twin)


def _processes(args: argparse.Namespace, lab: Lab, suite: Suite) -> AbstractContextManager[SeedPool | None]:
    """Processes for parts of the suite; None for a twin, which the local engine does not sample, and for few."""
    from selftaught.check.parallel import seed_pool
    from selftaught.engines import EngineConfig
    from selftaught.worlds.kit.calibration.suite import ALL

    where = replace(lab.world, model=suite.model)
    return nullcontext() if suite.twin or args.smoke else seed_pool(0, len(ALL), where, EngineConfig())


def _ahead(processes: SeedPool | None, suite: Suite, console: Console) -> Callable[[Sequence[int]], None] | None:
    """A function that plays the parts of checks in the processes."""
    from selftaught.worlds.kit.calibration.opening import parts_of, play_part

    if processes is None:
        return None

    def play(numbers: Sequence[int]) -> None:
        parts = parts_of(numbers, range(1, suite.sizes.seeds + 1))
        processes.run_seeds(partial(play_part, suite, parts), range(len(parts)), console, "part")

    return play


def _as_data(world: str, model: str, version: str, findings: Sequence[Finding]) -> dict[str, Any]:
    from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS
    from selftaught.worlds.kit.calibration.suite import as_data

    seeds = [CALIBRATION_SEEDS.start, CALIBRATION_SEEDS.stop - 1]
    return {"world": world, "model": model, "seeds": seeds, "world_version": version, **as_data(findings)}


def print_findings(findings: Sequence[Finding], more: str = "") -> None:
    """Print the findings as a table, a row for each figure asked for, and then a line more."""
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
    print_text(f"{held} of {len(findings)} checks hold" + (f"; {more}" if more else ""))
