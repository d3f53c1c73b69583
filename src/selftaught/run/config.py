"""The configuration of a run, kept in its journal: a folder made with another one is refused."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from itertools import count
from pathlib import Path
from typing import Any

from selftaught.engines import Engine
from selftaught.errors import BadInput
from selftaught.identity import code_hash
from selftaught.journal import Journal
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import as_json, content_hash
from selftaught.run.settings import Settings
from selftaught.tasks import Task

RESULT_NEUTRAL = ("training.checkpoint_seconds", "training.max_tokens_per_pass")  # change no result
QUESTIONS_KEY = "questions"  # where the journal keeps them: problem id -> question


VERSION_KEY = "selftaught"  # who made the folder
HASH_MESSAGES = {
    "model": "the starting model is another one (or has other weights)",
    "problems": "the problems are others, in content or order",
    "verifier": "the verifier is another one, or another version",
}
"""Of settings whose values are hashes: what has changed, in words."""


def configuration(base: Policy, task: Task, engine: Engine, settings: Settings) -> dict[str, Any]:
    """Everything that decides what a run does, beside its method, under short names."""
    problems = [[(p.id, as_json(p.reference)) for p in split] for split in (task.train, task.dev, task.test)]
    parts = {k: part for k, part in as_json(settings).items() if isinstance(part, dict)}
    flat = {f"{k}.{name}": value for k, part in parts.items() for name, value in part.items()}
    return {
        VERSION_KEY: own_version(),
        "model": base.version,
        "task": task.name,
        "train": len(task.train),
        "dev": len(task.dev),
        "test": len(task.test),
        "problems": content_hash(problems),
        "verifier": task.verifier.version,
        "engine": engine.name,
        **({"engine.dtype": engine.dtype} if engine.dtype else {}),
        "seed": settings.seed,
        **{name: value for name, value in flat.items() if name not in RESULT_NEUTRAL},
    }


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
        inside: where another method calls it, the label of that call (`outer/inner`); else empty.
    """
    mark = f"{inside}." if inside else ""
    chosen = {f"{mark}option.{name}": value for name, value in options.items()}
    if not inside:
        if known.get("method") == method.id:
            chosen |= {k: None for k in known if k.startswith("option.") and k not in chosen}
        chosen = {"method": method.id, **chosen}
    return chosen | {f"{mark}code": code_hash(method.function)}


def configure(journal: Journal, wanted: dict[str, Any]) -> None:
    """Write `wanted` into the journal's configuration.

    Raises:
        BadInput: the folder was made with another one, or by another version; naming what differs.
    """
    known = journal.meta_object("config")
    wanted = json.loads(json.dumps(wanted, default=str))
    folder = journal.path.parent
    if known and VERSION_KEY not in known:
        raise BadInput(
            "it was made by an older selftaught, whose results do not go on in this one", where=str(folder),
            fix=f"use another run folder ({_next_folder(folder)}), or the version that made it",
        )  # fmt: skip
    differ = [name for name, value in wanted.items() if name in known and known[name] != value]
    counts = [name for name in differ if name in ("train", "dev", "test")]
    differ = [name for name in differ if not (counts and name == "problems")]
    if differ:
        said = "; ".join(_difference(name, known[name], wanted[name]) for name in differ)
        raise BadInput(
            f"it was made with another configuration: {said}",
            where=str(folder),
            fix=f"use another run folder (--out {_next_folder(folder)}), or the same options",
        )
    if wanted.keys() - known.keys():
        journal.set_meta("config", json.dumps(known | wanted, sort_keys=True))


def _difference(name: str, there: Any, here: Any) -> str:
    if name == "code" or name.endswith(".code"):
        whose = f" of {name.removesuffix('.code')}" if name != "code" else ""
        return f"the code of the method{whose} has changed since"
    return HASH_MESSAGES.get(name, f"{name} is {there!r} there, {here!r} here")


def drop_config(journal: Journal, *names: str) -> None:
    """Drop settings from the configuration, so that a mended one may take their place."""
    known = journal.meta_object("config")
    journal.set_meta("config", json.dumps({k: v for k, v in known.items() if k not in names}, sort_keys=True))


def _next_folder(folder: Path) -> Path:
    """A folder beside this one that is not there yet."""
    return next(new for i in count(2) if not (new := folder.with_name(f"{folder.name}-{i}")).exists())


def store_questions(journal: Journal, task: Task) -> None:
    """Keep what each problem asks beside the effects, which name problems by id."""
    if journal.meta(QUESTIONS_KEY) is None:
        asked = {problem.id: problem.question for split in (task.train, task.dev, task.test) for problem in split}
        journal.set_meta(QUESTIONS_KEY, json.dumps(asked))


def check_references(task: Task, method: Method | None, outer: Method | None = None) -> None:
    """Refuse a task without references where they are read: by the verifier, or by the method itself.

    Dev and test are always judged; train only for a method that uses verdicts or references.

    Raises:
        BadInput: naming the first problem without one; or the method needs what `outer`, which calls it, does not.
    """
    if method and outer and (more := [need for need in method.needs if need not in outer.needs]):
        needs = ", ".join(f'"{need}"' for need in (*outer.needs, *more))
        raise BadInput(
            f"it calls {method.id}, which needs what this method does not declare", where=outer.id,
            fix=f"declare needs=({needs},)",
        )  # fmt: skip
    needs = method.needs if method else ()
    if "reference" in needs or ("verifier" in needs and task.verifier.needs_reference):
        task.require(reference=True, splits=("train",))
    if task.verifier.needs_reference:
        task.require(reference=True, splits=("dev", "test"))
