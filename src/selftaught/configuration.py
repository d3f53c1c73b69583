"""The configuration of a run, kept in its journal: a folder made with another one is refused."""

from __future__ import annotations

import json
from typing import Any

from selftaught.engines import Engine
from selftaught.errors import BadInput
from selftaught.journal import Journal
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import as_json, content_hash
from selftaught.settings import Settings
from selftaught.tasks import Task

FREE = ("training.checkpoint_seconds", "training.micro_tokens")  # change no result
QUESTIONS = "questions"  # where the journal keeps them: problem id -> question


def configuration(base: Policy, task: Task, engine: Engine, settings: Settings) -> dict[str, Any]:
    """Everything that decides what a run does, beside its method, under short names."""
    problems = [[(p.id, as_json(p.reference)) for p in split] for split in (task.train, task.dev, task.test)]
    parts = {k: part for k, part in as_json(settings).items() if isinstance(part, dict)}
    flat = {f"{k}.{name}": value for k, part in parts.items() for name, value in part.items()}
    return {
        "model": base.version,
        "task": task.name,
        "problems": content_hash(problems),
        "engine": engine.name,
        "seed": settings.seed,
        **{name: value for name, value in flat.items() if name not in FREE},
    }


def configure(journal: Journal, wanted: dict[str, Any]) -> None:
    """Write `wanted` into the journal's configuration.

    Raises:
        BadInput: the folder was made with another one, naming the keys that differ.
    """
    known = journal.meta_object("config")
    wanted = json.loads(json.dumps(wanted, default=str))
    differ = [f"{k} is {known[k]!r} there, {v!r} here" for k, v in wanted.items() if k in known and known[k] != v]
    if differ:
        raise BadInput(
            f"it was made with another configuration: {'; '.join(differ)}",
            where=str(journal.path.parent),
            fix="use another run folder (--out), or the same options",
        )
    if wanted.keys() - known.keys():
        journal.set_meta("config", json.dumps(known | wanted, sort_keys=True))


def note_questions(journal: Journal, task: Task) -> None:
    """Keep what each problem asks beside the effects, which name problems by id."""
    if journal.meta(QUESTIONS) is None:
        asked = {problem.id: problem.question for split in (task.train, task.dev, task.test) for problem in split}
        journal.set_meta(QUESTIONS, json.dumps(asked))


def check_references(task: Task, method: Method | None) -> None:
    """Refuse a task without references where they are read: by the verifier, or by the method itself.

    Dev and test are always judged; train only for a method that uses verdicts or references.

    Raises:
        BadInput: naming the first problem without one.
    """
    needs = method.needs if method else ()
    if "reference" in needs or ("verifier" in needs and task.verifier.needs_reference):
        task.require(reference=True, splits=("train",))
    if task.verifier.needs_reference:
        task.require(reference=True, splits=("dev", "test"))
