"""`selftaught worlds examine WORLD --calibrate`: the calibration suite as a command."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.console import Console
from selftaught.errors import BadInput
from selftaught.terminal import print_json, print_table, print_text

if TYPE_CHECKING:
    from selftaught.worlds import SyntheticWorld
    from selftaught.worlds.kit.calibration.figures import Finding
    from selftaught.worlds.kit.calibration.lab import Lab

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
    from selftaught.worlds.kit.calibration.suite import ALL, calibrate
    from selftaught.worlds.kit.calibration.table import SMOKE_CHECKS

    if args.freeze and (args.smoke or args.problems or args.twin):
        fix = "leave out --smoke, --problems and --twin"
        raise BadInput("only the whole suite freezes a world", where="--freeze", fix=fix)
    with _opened(args, world) as lab:
        findings = calibrate(lab, SMOKE_CHECKS if args.smoke else ALL)
        good = all(one.holds for one in findings)
        version = freeze(world, lab.policy, [one.to_json() for one in findings]) if args.freeze and good else ""
        if args.json:
            print_json(_as_data(world.name, lab.policy.version, version, findings))
        else:
            print_findings(findings, f"frozen as {version}" if version else "")
    return 0 if good else 1


@contextmanager
def _opened(args: argparse.Namespace, world: SyntheticWorld) -> Iterator[Lab]:
    """The lab of a command line, its engine open."""
    from selftaught.engines import EngineConfig, create_engine
    from selftaught.engines.scripted import scripted_learner
    from selftaught.learn.learner import train_policy
    from selftaught.models.resolve import resolve
    from selftaught.worlds.kit.calibration.freeze import identity_of
    from selftaught.worlds.kit.calibration.lab import FULL, SMOKE, Lab, twin_policy
    from selftaught.worlds.kit.calibration.plan import plan_of
    from selftaught.worlds.kit.calibration.suite import suite_folder

    console, plan = Console(quiet=args.quiet), plan_of(world)
    if args.twin and plan.twin_engine is None:
        raise BadInput(f"world {world.name} has no twin", where="--twin", fix="leave it out")
    sizes = (SMOKE if args.smoke else FULL).at_most(args.problems or FULL.problems)
    policy = twin_policy(world.name, ROOT) if args.twin else resolve(args.model or world.model, console.print)
    folder = args.out or suite_folder(ROOT, [policy.version, identity_of(world), asdict(sizes)], world.name)
    who = "its writer's twin" if args.twin else args.model or "its own model"
    console.print(f"calibration of {world.name} with {who}, in {folder}")
    model = partial(create_engine, policy, EngineConfig(dtype="float32", max_batch_size=256))
    with closing((plan.twin_engine if args.twin and plan.twin_engine else model)()) as engine:
        learner = scripted_learner if args.twin else train_policy
        yield Lab(world.module("world").WORLD, plan, policy, folder, engine, console, sizes, learner)


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
