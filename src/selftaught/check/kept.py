"""Finished seeds of a check, kept as files: what was found of each system, problem by problem.

A check that is repeated reads them instead of playing the seed's runs again. `selftaught check` also copies those that
a result rests on beside it, so that the verdict can be computed again from them (`--extend`), on another machine and
with further seeds, without repeating what was measured.

A kept seed counts for the same claim, options, models, problems, settings, engine and package versions (selftaught's
too), and the same code of the method, of the parts that it is made of, and of what measures systems. The code of the
frame that runs a method (run, engines, tasks) counts by selftaught's version, as for a run that is resumed.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
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

MEASURING = ("baselines", "cached_engine", "claim", "fitting", "legs", "outcome", "readings", "seed", "setup")
"""Modules of this package that decide what is found on a seed; what a verdict makes of it is computed anew."""


def read_seed(what: Check, seed: int) -> SeedResult | None:
    """A finished seed of this check; None where there is none, or one of other code, claim, models or problems.

    Raises:
        BadInput: the file is damaged.
    """
    return _read(what, _path(what, seed))


def write_seed(what: Check, trial: SeedResult) -> None:
    """Keep a finished seed, unless the claim cannot be told from others or its observations would not come back as
    they are: numbers, text, None, and tuples of them do.

    Raises:
        BadInput: it cannot be written.
    """
    if (key := _key(what)) and all(map(_is_plain, _observations(trial))):
        text = json.dumps({"key": key, **_as_data(what.claim, trial)})
        write_atomically(_path(what, trial.seed), gzip.compress(text.encode(), mtime=0))


def copy_seeds(what: Check, trials: Sequence[SeedResult], folder: Path) -> None:
    """Write the seeds that a result rests on into `folder`, in place of those of another check of this method.

    Raises:
        BadInput: one cannot be written.
    """
    place = _elsewhere(what, folder)
    place.mkdir(parents=True, exist_ok=True)
    key = _key(what)
    for path in place.glob("*.json.gz"):
        if _key_of(path) != key:
            path.unlink()
    for trial in trials:
        if (path := _path(what, trial.seed)).is_file():
            write_atomically(place / f"{trial.seed}.json.gz", path.read_bytes())


def take_seeds(what: Check, folder: Path, most: int) -> tuple[int, int]:
    """Take over the finished seeds in `folder`, of this very check; how many, and how many are of another.

    Args:
        most: seeds to look for.

    Raises:
        BadInput: a file is damaged.
    """
    found = [(seed, path) for seed in range(most) if (path := _elsewhere(what, folder) / f"{seed}.json.gz").is_file()]
    taken = [(seed, path) for seed, path in found if _read(what, path) is not None]
    for seed, path in taken:
        _path(what, seed).parent.mkdir(parents=True, exist_ok=True)
        write_atomically(_path(what, seed), path.read_bytes())
    return len(taken), len(found) - len(taken)


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
    code = parts_hash(what.method, [Path(__file__).with_name(f"{name}.py") for name in MEASURING])
    return content_hash(what.folder.name, what.shared.name, claim.key, code, bool(what.ablations))


def _read(what: Check, path: Path) -> SeedResult | None:
    if not path.is_file():
        return None
    with _readable(path):
        data = _data_of(path)
        return _from_data(what.claim, data) if data.pop("key") == _key(what) else None


def _key_of(path: Path) -> str:
    with _readable(path):
        return _data_of(path)["key"]


def _data_of(path: Path) -> dict[str, Any]:
    return json.loads(gzip.decompress(path.read_bytes()))


@contextmanager
def _readable(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, EOFError, zlib.error, ValueError, KeyError, TypeError, AttributeError, IndexError):
        raise BadInput("it is not a finished seed of a check", where=str(path), fix="remove it") from None


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

    def scored(found: Mapping[str, float]) -> dict[str, float]:
        return {problem: float(score) for problem, score in found.items()}

    def outcome(one: Outcome) -> dict[str, Any]:
        plain = {field.name: getattr(one, field.name) for field in fields(one)}
        return plain | {
            "scores": [[metrics.index(metric), *packed(scored(found))] for metric, found in one.scores.items()],
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
                "observations": {leg: _with_tuples(unpacked(*found)) for leg, *found in plain["observations"]},
                "values": dict(plain["values"]),
                "alarms": frozenset(plain["alarms"]),
            }
        )

    for name in SYSTEMS:
        data[name] = {system: outcome(one) for system, one in data[name].items()}
    return SeedResult(**{**data, "method": outcome(data["method"])})


def _with_tuples(observed: Mapping[str, Any]) -> dict[str, Any]:
    return {problem: [_as_tuple(one) for one in some] for problem, some in observed.items()}


def _as_tuple(value: Any) -> Any:
    """Lists as the tuples that they were."""
    return tuple(map(_as_tuple, value)) if isinstance(value, list) else value


def _is_plain(value: Any) -> bool:
    """Whether JSON gives it back as it is, but for tuples."""
    return type(value) in (str, int, float, bool, type(None)) or (type(value) is tuple and all(map(_is_plain, value)))


def _observations(trial: SeedResult) -> Iterator[Any]:
    """Every single observation."""
    for one in _outcomes(trial):
        for by_problem in one.observations.values():
            for some in by_problem.values():
                yield from some


def _outcomes(trial: SeedResult) -> Iterator[Outcome]:
    yield trial.method
    yield from (found for name in SYSTEMS for found in getattr(trial, name).values())


def _problems(trial: SeedResult) -> Iterator[str]:
    """Problem ids of all that was found, in order, some several times."""
    for one in _outcomes(trial):
        for by_problem in (*one.scores.values(), *one.observations.values()):
            yield from by_problem
