"""Tasks from reasoning-gym: procedural datasets by name and configuration.

Most generators make items from `Random(seed + index)`, so two datasets whose seeds differ by less than
their size share items. Here one stream of problems is drawn in chunks exactly one chunk apart, duplicates are
dropped, and the splits are taken from the stream: test first, then dev, then train, so that test and dev do not
change with the size of train.

Source: https://github.com/open-thought/reasoning-gym
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from selftaught.errors import BadInput, suggest
from selftaught.feedback.verifiers import ReasoningGym, Verifier
from selftaught.feedback.workers import Workers
from selftaught.records import Problem, as_prompt, make_problem
from selftaught.tasks.extract import Kind, kind_of
from selftaught.tasks.rows import with_instruction
from selftaught.tasks.source import TaskRequest, choose_verifier
from selftaught.tasks.task import Task

_catalog: dict[str, dict[str, Any]] = {}  # the datasets of the installed reasoning-gym, listed once

GYM_CHUNK = 4096
"""Size of each dataset drawn; fixed, because a few datasets depend on it."""

_BLOCK = 64
_SAMPLE = 64
_SEED_STEP = 10_000_019  # distance of a task's seeds: no shared items before 10 M draws


def load_gym(spec: str, request: TaskRequest) -> Task:
    """Load `NAME` or `NAME:key=value,key=value`.

    Raises:
        BadInput: unknown dataset, key or value; or a configuration with too few distinct problems.
    """
    name, _, options = spec.partition(":")
    name = name.strip().replace("-", "_")
    workers = Workers(("items",), size=1, timeout=600.0, max_reply=256 << 20)
    try:
        config = _config(name, options, _fields(name, workers))
        canonical = name + (":" + ",".join(f"{k}={_show(v)}" for k, v in sorted(config.items())) if config else "")
        source = _Source(name, config, request, workers)
        problems = source.take(request.train + request.dev + request.test)
    finally:
        workers.close()
    _enough(canonical, len(problems), source.drawn, request)
    kind = kind_of(source.sample, fold=False)
    dev = request.test + request.dev
    return Task(
        canonical,
        problems[dev:],
        problems[request.test : dev],
        problems[: request.test],
        verifier=_verifier(source, kind, request, problems),
        kind=kind,
        instruction=request.instruction,
    )


def _verifier(source: _Source, kind: Kind, request: TaskRequest, problems: Iterable[Problem]) -> Verifier:
    if request.verifier not in (None, "rg"):
        return choose_verifier(request.verifier, kind, problems)
    job = ("rg", source.name, source.config, GYM_CHUNK, source.seed)
    return ReasoningGym(job, source.entries, base_scorer=source.base_scorer)


def _enough(canonical: str, have: int, drawn: int, request: TaskRequest) -> None:
    asked = {"train": request.train, "dev": request.dev, "test": request.test}
    wanted = sum(asked.values())
    if have < wanted:
        fit = ", ".join(f"{split}={size * have // wanted}" for split, size in asked.items())
        raise BadInput(
            f"{canonical} has only {have} distinct problems ({drawn} were drawn), but {wanted} are requested",
            fix=f"request fewer, e.g. {fit}, or widen its configuration",
        )


class _Source:
    """The stream of distinct problems of one configuration and seed."""

    def __init__(self, name: str, config: dict[str, Any], request: TaskRequest, workers: Workers) -> None:
        self.name, self.config, self.instruction, self.workers = name, config, request.instruction, workers
        self.seed = request.seed * _SEED_STEP % 2**31
        self.entries: dict[str, bytes] = {}
        self.sample: list[str | None] = []  # the first answers, for any sizes
        self.drawn = 0
        self.base_scorer = False

    def take(self, wanted: int) -> list[Problem]:
        """The first `wanted` distinct problems; fewer if the configuration seems to have no more."""
        problems: list[Problem] = []
        stale = 0
        for row, where in self._rows():
            problem = self._problem(row, where)
            self.drawn += 1
            stale += 1
            if len(self.sample) < _SAMPLE:
                self.sample.append(row[1])
            if problem.id not in self.entries and len(problems) < wanted:
                self.entries[problem.id] = row[3]
                problems.append(problem)
                stale = 0
            if len(self.sample) == _SAMPLE and (len(problems) == wanted or stale >= max(500, 10 * len(problems))):
                break
        return problems

    def _problem(self, row: tuple[str, str | None, str | None, bytes], where: str) -> Problem:
        question, answer, difficulty, _ = row
        meta = {"source": f"reasoning-gym/{self.name}", "where": where, "question": question}
        if difficulty is not None:
            meta["difficulty"] = difficulty
        return make_problem(with_instruction(as_prompt(question), self.instruction), answer, meta)

    def _rows(self) -> Iterator[tuple[tuple[str, str | None, str | None, bytes], str]]:
        for seed in range(self.seed, 2**63, GYM_CHUNK):
            for start in range(0, GYM_CHUNK, _BLOCK):
                reply = self.workers.call(("rows", self.name, self.config, GYM_CHUNK, seed, start, start + _BLOCK))
                if reply.status != "ok":
                    raise BadInput(f"reasoning-gym rejects this configuration of {self.name}: {reply.value}")
                self.base_scorer = reply.value["base_scorer"]
                for i, row in enumerate(reply.value["rows"], start):
                    yield row, f"{self.name}[seed={seed},index={i}]"


def _fields(name: str, workers: Workers) -> dict[str, Any]:
    """The configuration keys of a dataset and their defaults."""
    if not _catalog:
        reply = workers.call(("catalog",))
        if reply.status != "ok":
            raise BadInput(f"reasoning-gym does not work here: {reply.value}", fix="pip install -U reasoning-gym")
        _catalog.update(reply.value)
    if name not in _catalog:
        raise BadInput(f"no task {name!r}: neither a reasoning-gym dataset nor a file", fix=suggest(name, _catalog))
    return _catalog[name]


def _config(name: str, options: str, fields: dict[str, Any]) -> dict[str, Any]:
    config: dict[str, Any] = {}
    for item in filter(None, (part.strip() for part in options.split(","))):
        key, equals, value = item.partition("=")
        key = key.strip().replace("-", "_")
        if not equals:
            raise BadInput(f"{item!r} is not key=value", where=f"task {name}", fix="write NAME:key=value,key=value")
        if key not in fields:
            raise BadInput(f"{name} has no option {key!r}", where=f"task {name}", fix=suggest(key, fields))
        config[key] = _value(name, key, value.strip(), fields[key])
    return config


def _scalar(text: str) -> Any:
    for read in (int, float):
        try:
            return read(text)
        except ValueError:
            pass
    return {"true": True, "false": False, "none": None}.get(text.lower(), text)


def _value(name: str, key: str, text: str, default: Any) -> Any:
    """A literal (int, float, bool, none, text; `a|b` is a list), of the type the option's default has."""
    if isinstance(default, (list, tuple)) or "|" in text:
        values = [_scalar(part.strip()) for part in text.split("|") if part.strip()]
        return tuple(values) if isinstance(default, tuple) else values
    value = text if isinstance(default, str) else _scalar(text)
    expected = {bool: bool, int: int, float: (int, float)}.get(type(default))
    if expected and (not isinstance(value, expected) or (expected is not bool and isinstance(value, bool))):
        words = {bool: "true or false", int: "a whole number", float: "a number"}[type(default)]
        raise BadInput(f"{key}={text!r}: expected {words}", where=f"task {name}", fix=f"its default is {default!r}")
    return value


def _show(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return "|".join(_show(v) for v in value)
    return str(value).lower() if isinstance(value, bool) or value is None else str(value)
