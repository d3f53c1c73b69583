"""Freezing a world: the version under which its calibration holds, kept in a file beside it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.learn import TrainConfig
from selftaught.machine.disk import write_atomically
from selftaught.models import Policy, resolve
from selftaught.records import content_hash
from selftaught.worlds import SyntheticWorld, synthetic_worlds
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS, CalibrationPlan, plan_of
from selftaught.worlds.world import World

FILE = "calibrated.json"
TEXTS = 2000  # conversations of the text that its hash is of
PROBLEMS = 200  # problems of the task that its fingerprint is of


def text_hash(world: SyntheticWorld, plan: CalibrationPlan) -> str:
    """Hash of the beginning of the training text; where the plan has no text, of the code in the world's folder."""
    if plan.text is not None:
        return content_hash([text for text, _ in zip(plan.text(), range(TEXTS), strict=False)])
    files = sorted(path for path in world.folder.rglob("*.py") if path.name != "calibration.py")
    return content_hash([[str(path.relative_to(world.folder)), path.read_text("utf-8")] for path in files])


def task_hash(world: World) -> str:
    """Fingerprint of the world's task: problems, verifier, wording and instruction, and its other tasks."""
    with world.load(CALIBRATION_SEEDS[0]) as task:
        problems = [(p.id, p.reference) for split in ("train", "dev", "test") for p in task.split(split)[:PROBLEMS]]
        return content_hash(
            problems, task.verifier.version, task.instruction, task.phrases, world.generalization, dict(world.variants)
        )


def identity_of(world: SyntheticWorld) -> dict[str, str]:
    """What a world's version stands for, apart from its models: hashes of text, task and settings of training."""
    made = world.module("world").WORLD
    usual = asdict(TrainConfig())
    training = {name: value for name, value in asdict(made.settings.training).items() if value != usual[name]}
    return {"text": text_hash(world, plan_of(world)), "task": task_hash(made), "training": content_hash(training)}


def freeze(world: SyntheticWorld, policy: Policy, checks: Sequence[Mapping[str, Any]]) -> str:
    """Write the results of a model that passed all checks beside its world.

    The version's number stays while text, task and training do, so that several builds are of one version; a change of
    any begins the next one, without the models of the last.

    Args:
        checks: findings as plain data.

    Returns:
        The version, such as "tiny/1".

    Raises:
        BadInput: a check does not hold, or the file cannot be written.
    """
    if failed := [one["name"] for one in checks if not one["holds"]]:
        what = f"{len(failed)} checks do not hold, such as {failed[0]!r}"
        raise BadInput(what, where=world.name, fix="change the world, and never a threshold")
    path, identity = world.folder / FILE, identity_of(world)
    old = _read(path)
    same = old.get("identity") == identity
    number = int(old.get("number", 0)) + (0 if same else 1)
    models = {**(old["models"] if same else {}), policy.version: list(checks)}
    found = {"number": number, "identity": identity, "seeds": _seeds(), "models": models}
    write_atomically(path, (json.dumps(found, indent=1) + "\n").encode())
    return f"{world.name}/{number}"


def world_version(name: str, model: Policy | str | Path | None = None) -> str:
    """The version of a frozen world, such as "tiny/1"; empty where it is not frozen, or has changed since.

    Args:
        name: of a synthetic world; any other has no version.
        model: the model that must have passed; by default every build of the world's own.
    """
    world = synthetic_worlds().get(name)
    if world is None or not (found := _read(world.folder / FILE)):
        return ""
    models = world.module("world").WORLD.models if model is None else (model,)
    passed = all(resolve(one).version in found["models"] for one in models)
    return f"{name}/{found['number']}" if passed and identity_of(world) == found["identity"] else ""


def _seeds() -> list[int]:
    return [CALIBRATION_SEEDS.start, CALIBRATION_SEEDS.stop - 1]


def _read(path: Path) -> dict[str, Any]:
    """The file's contents; empty where there is none.

    Raises:
        BadInput: it is damaged.
    """
    if not path.is_file():
        return {}
    try:
        found = json.loads(path.read_text("utf-8"))
        return {key: found[key] for key in ("number", "identity", "seeds", "models")}
    except (ValueError, KeyError, TypeError) as error:
        raise BadInput("it is not a record of a calibration", where=str(path), fix="restore or remove it") from error
