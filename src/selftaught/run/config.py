"""The configuration of a run, kept in its journal; a run folder with another configuration is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

from selftaught.engines import Engine
from selftaught.errors import BadInput, suggest
from selftaught.identity import class_hash, code_hash
from selftaught.journal import Journal
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import as_json, content_hash
from selftaught.run.settings import Settings
from selftaught.tasks import Task

RESULT_NEUTRAL = ("training.checkpoint_seconds", "training.max_tokens_per_pass")  # do not change results
QUESTIONS_KEY = "questions"  # of the journal: problem id -> question
HELD_OUT_KEY = "held_out"  # of the journal: id of each dev and test problem -> its split
REQUEST_KEY = "task_request"  # arguments of `load_task`, where a command line named the task
VERSION_KEY = "selftaught"  # version that made the folder
PACKAGE = "package."  # before the name of a package
HASH_MESSAGES = {
    "model": "the starting model has changed, or its weights",
    "problems": "the problems have changed, in content or order",
    "verifier": "the verifier has changed, or its version",
    "shown": "the verifier that solvers may consult has changed, or its version",
    "environment": "the environment has changed, or its version",
    "environment.source": "the code of the environment has changed since",
}
"""Messages for settings whose values are hashes."""
PACKAGES = ("torch", "transformers", "tokenizers", "accelerate", "peft", "vllm")
"""Packages whose version decides what is sampled and trained; a verifier's version names those that it rests on."""
ACCEPTABLE = {
    "method": "the method's code",
    "verifier": "the verifier, or its version",
    "environment": "the environment, or its version",
    "dtype": "the number format of sampling",
    "packages": "versions of packages, this one among them",
}
"""Changes that may be accepted when a run goes on (`--accept`)."""
ACCEPTED_KEY = "accepted"  # of the journal: changes that were accepted


def configuration(base: Policy, task: Task, engine: Engine, settings: Settings) -> dict[str, Any]:
    """Everything that decides what a run does, besides its method, under short names."""
    problems = [[(p.id, as_json(p.reference)) for p in split] for split in (task.train, task.dev, task.test)]
    parts = {k: part for k, part in as_json(settings).items() if isinstance(part, dict)}
    flat = {f"{k}.{name}": value for k, part in parts.items() for name, value in part.items()}
    return {
        VERSION_KEY: own_version(),
        "model": base.version,
        **({"weights": base.weights_policy.version} if base.notes else {}),
        "task": task.name,
        "train": len(task.train),
        "dev": len(task.dev),
        "test": len(task.test),
        "problems": content_hash(problems),
        "verifier": task.verifier.version,
        **({"shown": task.shown.version} if task.shown else {}),
        **_environment_config(task),
        "engine": engine.name,
        **({"engine.dtype": engine.dtype} if engine.dtype else {}),
        **({} if base.remote else package_versions()),
        "seed": settings.seed,
        **{name: value for name, value in flat.items() if name not in RESULT_NEUTRAL},
    }


def _environment_config(task: Task) -> dict[str, str]:
    """The version that an environment states, and a hash of its code, which may change without it."""
    if task.environment is None:
        return {}
    return {"environment": task.environment.version, "environment.source": class_hash(type(task.environment))}


def package_versions() -> dict[str, str]:
    """Versions of those of `PACKAGES` that are installed."""
    found: dict[str, str] = {}
    for name in PACKAGES:
        with suppress(PackageNotFoundError):
            found[f"{PACKAGE}{name}"] = version(name)
    return found


def own_version() -> str:
    """The version of this package."""
    try:
        return version("selftaught")
    except PackageNotFoundError:  # a checkout on the path
        return "unknown"


def method_config(known: Mapping[str, Any], method: Method, options: Mapping[str, Any], inside: str) -> dict[str, Any]:
    """What a method adds to the configuration: its options and its code.

    Args:
        known: the configuration so far.
        inside: label of the call (`outer/inner`) if another method calls it; otherwise empty.
    """
    mark = f"{inside}." if inside else ""
    chosen = {f"{mark}option.{name}": value for name, value in options.items()}
    if not inside:
        if known.get("method") == method.id:
            chosen |= {k: None for k in known if k.startswith("option.") and k not in chosen}
        chosen = {"method": method.id, **chosen}
    return chosen | {f"{mark}code": code_hash(method.function)}


def configure(journal: Journal, wanted: dict[str, Any], accept: Collection[str] | None = None) -> None:
    """Write `wanted` into the journal's configuration.

    Args:
        accept: which of `ACCEPTABLE` may differ; that they did is recorded. None where the caller cannot say.

    Raises:
        BadInput: the folder has another configuration, or was made by another version; the message names what differs.
    """
    known = journal.meta_object("config")
    wanted = json.loads(json.dumps(wanted, default=str))
    folder = journal.path.parent
    if known and VERSION_KEY not in known:
        raise BadInput(
            "the folder was made by an older selftaught, and this version cannot resume it", where=str(folder),
            fix=f"use another run folder ({_next_folder(folder)}), or the version that made it",
        )  # fmt: skip
    differ = [name for name, value in wanted.items() if name in known and known[name] != value]
    counts = [name for name in differ if name in ("train", "dev", "test")]
    differ = [name for name in differ if not (counts and name == "problems")]
    accepted = [name for name in differ if _kind(name) in (accept or ())]
    if differ := [name for name in differ if name not in accepted]:
        said = "; ".join(_difference(name, known[name], wanted[name]) for name in differ)
        raise BadInput(
            f"the folder has another configuration: {said}",
            where=str(folder),
            fix=f"use another run folder (--out {_next_folder(folder)}), {_way_on(differ, accept)}",
        )
    if accepted:
        _record(journal, [{"name": one, "before": known[one], "after": wanted[one]} for one in accepted])
    if known | wanted != known:
        journal.set_meta("config", json.dumps(known | wanted, sort_keys=True))


def check_accepted(names: Collection[str] | None) -> frozenset[str] | None:
    """The names, if all are of `ACCEPTABLE`.

    Raises:
        BadInput: one is not.
    """
    for name in names or ():
        if name not in ACCEPTABLE:
            raise BadInput(f"unknown change {name!r}", where="--accept", fix=suggest(name, ACCEPTABLE))
    return None if names is None else frozenset(names)


def accepted_changes(journal: Journal) -> list[str]:
    """What was accepted to differ from how the run began, a line each."""
    return [
        f"accepted after {one['effects']:,} effects: {_difference(one['name'], one['before'], one['after'])}"
        for one in json.loads(journal.meta(ACCEPTED_KEY) or "[]")
    ]


def _record(journal: Journal, changes: list[dict[str, Any]]) -> None:
    before = json.loads(journal.meta(ACCEPTED_KEY) or "[]")
    changes = [one | {"effects": journal.last_effect} for one in changes]
    journal.set_meta(ACCEPTED_KEY, json.dumps([*before, *changes]))


def _kind(name: str) -> str:
    """Which of `ACCEPTABLE` a setting belongs to; empty for none."""
    above, _, last = name.rpartition(".")
    if last == "code" and above.rpartition(".")[2] != "option":
        return "method"
    if name.startswith(PACKAGE) or name == VERSION_KEY:
        return "packages"
    names = {"verifier": "verifier", "shown": "verifier", "environment": "environment", "engine.dtype": "dtype"}
    return names.get(name.removesuffix(".source"), "")


def _way_on(differ: Sequence[str], accept: Collection[str] | None) -> str:
    """How to go on in the same folder."""
    kinds = list(dict.fromkeys(_kind(name) for name in differ))
    if accept is not None and all(kinds):
        return f"the same as before, or accept the change and go on: {' '.join(f'--accept {kind}' for kind in kinds)}"
    return "or the same options"


def _difference(name: str, there: Any, here: Any) -> str:
    if _kind(name) == "method":
        whose = f" of {name.removesuffix('.code')}" if name != "code" else ""
        return f"the code of the method{whose} has changed since"
    return HASH_MESSAGES.get(name, f"{name} is {there!r} there, {here!r} here")


def drop_config(journal: Journal, *names: str) -> None:
    """Drop settings from the configuration, so that a corrected one can replace them."""
    known = journal.meta_object("config")
    journal.set_meta("config", json.dumps({k: v for k, v in known.items() if k not in names}, sort_keys=True))


def _next_folder(folder: Path) -> Path:
    """A name for a new folder next to this one."""
    return next(new for i in count(2) if not (new := folder.with_name(f"{folder.name}-{i}")).exists())


def store_questions(journal: Journal, task: Task) -> None:
    """Store the text of each problem, and the split of those that are held out; effects name problems by id."""
    if journal.meta(QUESTIONS_KEY) is None:
        asked = {problem.id: problem.question for split in (task.train, task.dev, task.test) for problem in split}
        journal.set_meta(QUESTIONS_KEY, json.dumps(asked))
        held_out = {problem.id: name for name in ("dev", "test") for problem in task.split(name)}
        journal.set_meta(HELD_OUT_KEY, json.dumps(held_out))


def check_references(task: Task, method: Method | None, outer: Method | None = None) -> None:
    """Refuse a task without the references that the verifier or the method reads.

    Dev and test are always verified; train only for a method that uses verdicts or references.

    Raises:
        BadInput: a problem has no reference; the method needs what `outer`, which calls it, does not declare; or it
            needs an environment and the task has none, or the other way round.
    """
    if method and outer and (more := [need for need in method.needs if need not in outer.needs]):
        needs = ", ".join(f'"{need}"' for need in (*outer.needs, *more))
        raise BadInput(
            f"it calls {method.id}, which needs what this method does not declare", where=outer.id,
            fix=f"declare needs=({needs},)",
        )  # fmt: skip
    needs = method.needs if method else ()
    if method:
        _check_environment(task, method)
    if "reference" in needs or ("verifier" in needs and task.verifier.needs_reference):
        task.require(reference=True, splits=("train",))
    if task.verifier.needs_reference:
        task.require(reference=True, splits=("dev", "test"))


def _check_environment(task: Task, method: Method) -> None:
    if "env" in method.needs and task.environment is None:
        fix = "use a task with one (my_task.py:function, see the guide to environments)"
        raise BadInput(f"{method.id} needs an environment, and the task has none", where=task.name, fix=fix)
    if "env" not in method.needs and task.environment is not None:
        what = f"the task has an environment, and {method.id} learns from single answers"
        raise BadInput(what, where=task.name, fix='use a method that needs an environment (needs=("env",))')
