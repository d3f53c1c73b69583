"""Finished seeds of a check, kept as files: what was found of each system, problem by problem.

A check that is repeated reads them instead of playing the seed's runs again. `selftaught check` also copies those that
a result rests on beside it, so that the verdict can be computed again from them (`--extend`), on another machine and
with further seeds, without repeating what was measured.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import fields
from pathlib import Path
from typing import Any

from selftaught.check.changed import parts_hash
from selftaught.check.claim import Claim, accuracy
from selftaught.check.legs import Beats, Metric, NoWorse, Ordered
from selftaught.check.outcome import Outcome, SeedResult
from selftaught.check.setup import Check
from selftaught.errors import BadInput
from selftaught.identity import identify
from selftaught.machine.disk import write_atomically
from selftaught.records import content_hash

SYSTEMS = ("published", "fitted", "measured", "shown", "ablations")
"""Fields of `SeedResult` that hold outcomes by name."""

PACKAGE = Path(__file__).parent


def read_seed(what: Check, seed: int) -> SeedResult | None:
    """A finished seed of this check; None where there is none, or one of other code, claim, models or problems.

    Raises:
        BadInput: the file is damaged.
    """
    return _read(what, _path(what, seed))


def write_seed(what: Check, trial: SeedResult) -> None:
    """Keep a finished seed, unless the claim cannot be told from others or its observations are no plain data.

    Raises:
        BadInput: it cannot be written.
    """
    if not (key := _key(what)):
        return
    with suppress(TypeError):
        text = json.dumps({"key": key, **_as_data(what.claim, trial)})
        write_atomically(_path(what, trial.seed), gzip.compress(text.encode(), mtime=0))


def copy_seeds(what: Check, trials: Sequence[SeedResult], folder: Path) -> None:
    """Write the seeds that a result rests on into `folder`, in place of earlier ones of this method and world.

    Raises:
        BadInput: one cannot be written.
    """
    place = _elsewhere(what, folder)
    place.mkdir(parents=True, exist_ok=True)
    for path in place.glob("*.json.gz"):
        path.unlink()
    for trial in trials:
        if (path := _path(what, trial.seed)).is_file():
            write_atomically(place / f"{trial.seed}.json.gz", path.read_bytes())


def take_seeds(what: Check, folder: Path, most: int) -> list[int]:
    """Take over the finished seeds in `folder`, of this very check; the numbers of those taken.

    Args:
        most: seeds to look for.

    Raises:
        BadInput: a file is damaged.
    """
    taken: list[int] = []
    for seed in range(most):
        path = _elsewhere(what, folder) / f"{seed}.json.gz"
        if _read(what, path) is not None:
            _path(what, seed).parent.mkdir(parents=True, exist_ok=True)
            write_atomically(_path(what, seed), path.read_bytes())
            taken.append(seed)
    return taken


def _path(what: Check, seed: int) -> Path:
    return what.folder / f"seed-{seed}" / "outcome.json.gz"


def _elsewhere(what: Check, folder: Path) -> Path:
    return folder / f"{what.method.id}.{what.world.name}"


def _key(what: Check) -> str:
    """What a kept seed is of: the folders of its runs (method, options, models, problems), the claim, and the code.

    Empty where the claim cannot be told from others.
    """
    claim = identify(what.claim)
    if claim.ambiguity:
        return ""
    code = parts_hash(what.method, sorted(PACKAGE.glob("*.py")))
    return content_hash(what.folder.name, what.shared.name, claim.key, code, bool(what.ablations))


def _read(what: Check, path: Path) -> SeedResult | None:
    if not path.is_file():
        return None
    with suppress(OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError, IndexError):
        data = json.loads(gzip.decompress(path.read_bytes()))
        return _from_data(what.claim, data) if data.pop("key") == _key(what) else None
    raise BadInput("it is not a finished seed of a check", where=str(path), fix="remove it")


# --- as plain data: problem ids once, metrics by their place among the claim's ---


def _metrics(claim: Claim) -> list[Metric]:
    """Every metric that a system of the claim can be scored by."""
    legs = (leg for leg in claim.all_legs if isinstance(leg, (Beats, NoWorse, Ordered)))
    return list(dict.fromkeys([claim.metric, *(leg.metric for leg in legs if leg.metric), accuracy]))


def _as_data(claim: Claim, trial: SeedResult) -> dict[str, Any]:
    metrics, problems = _metrics(claim), dict.fromkeys(_problems(trial))
    place = {problem: number for number, problem in enumerate(problems)}

    def packed(by_problem: Mapping[str, Any]) -> list[Any]:
        return [[place[problem] for problem in by_problem], list(by_problem.values())]

    def outcome(one: Outcome) -> dict[str, Any]:
        plain = {field.name: getattr(one, field.name) for field in fields(one)}
        return plain | {
            "scores": [[metrics.index(metric), *packed(found)] for metric, found in one.scores.items()],
            "observations": [[leg, *packed(found)] for leg, found in one.observations.items()],
            "values": list(one.values.items()),
            "alarms": sorted(one.alarms),
        }

    plain = {field.name: getattr(trial, field.name) for field in fields(trial)}
    outcomes = {name: {system: outcome(one) for system, one in getattr(trial, name).items()} for name in SYSTEMS}
    extra = dict(trial.extra_metrics)
    return {"problems": list(problems), **plain, **outcomes, "method": outcome(trial.method), "extra_metrics": extra}


def _from_data(claim: Claim, data: dict[str, Any]) -> SeedResult:
    metrics, problems = _metrics(claim), data.pop("problems")

    def unpacked(places: Sequence[int], values: Sequence[Any]) -> dict[str, Any]:
        return {problems[place]: value for place, value in zip(places, values, strict=True)}

    def outcome(plain: dict[str, Any]) -> Outcome:
        return Outcome(
            **plain
            | {
                "scores": {metrics[number]: unpacked(*found) for number, *found in plain["scores"]},
                "observations": {leg: unpacked(*found) for leg, *found in plain["observations"]},
                "values": dict(plain["values"]),
                "alarms": frozenset(plain["alarms"]),
            }
        )

    for name in SYSTEMS:
        data[name] = {system: outcome(one) for system, one in data[name].items()}
    return SeedResult(**{**data, "method": outcome(data["method"])})


def _problems(trial: SeedResult) -> Iterator[str]:
    """Problem ids of all that was found, in order, some several times."""
    for one in (trial.method, *(found for name in SYSTEMS for found in getattr(trial, name).values())):
        for by_problem in (*one.scores.values(), *one.observations.values()):
            yield from by_problem
