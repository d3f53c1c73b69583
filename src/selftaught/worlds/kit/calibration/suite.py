"""Run the suite: the checks one after the other, resumed from its folder, with progress and the time left."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from selftaught.machine.disk import write_atomically
from selftaught.measure import Interval
from selftaught.records import content_hash
from selftaught.run.config import own_version
from selftaught.worlds.kit.calibration import (
    base_model,
    controls,
    critics,
    judges,
    search_check,
    training,
    training_data,
)
from selftaught.worlds.kit.calibration.figures import CheckSpec, Figure, Finding
from selftaught.worlds.kit.calibration.lab import Lab, NotApplicable
from selftaught.worlds.kit.calibration.table import CHECKS, spec
from selftaught.worlds.kit.calibration.writer_check import model_is_writer

MEASURES: Mapping[int, Callable[[Lab], dict[str, Figure]]] = {
    1: model_is_writer,
    2: base_model.vote_over_greedy,
    3: base_model.decoding_ladder,
    4: base_model.temperatures,
    5: base_model.difficulty,
    6: base_model.confidence,
    7: training.diminishing_gains,
    8: training.sharpening,
    9: training_data.majority_labels,
    10: training_data.bad_filters,
    11: critics.blind_correction,
    12: critics.revision,
    13: critics.locating,
    14: search_check.step_search,
    15: training_data.preferences_over_demos,
    16: training.transfer,
    17: judges.verification_gap,
    18: judges.second_look,
    19: judges.demonstrations,
    20: controls.no_method_beats_itself,
}
"""Number of a check -> what measures its figures."""

ALL = tuple(one.number for one in CHECKS)


def calibrate(
    lab: Lab, numbers: Sequence[int] = ALL, ahead: Callable[[Sequence[int]], None] | None = None
) -> list[Finding]:
    """Run checks, in order, and print each finding as it is there.

    Findings and runs are kept in the lab's folder: the same call resumes an interrupted one, and repeats nothing.

    Args:
        ahead: plays the parts of checks in other processes, beforehand.
    """
    found: list[Finding] = []
    if ahead and (new := [number for number in numbers if _kept(lab, spec(number)) is None]):
        ahead(new)
    for place, number in enumerate(numbers):
        left = _left(found, numbers[place:])
        lab.console.print(f"check {number} ({place + 1} of {len(numbers)}): {spec(number).name}{left}")
        found.append(_kept(lab, spec(number)) or _measured(lab, spec(number)))
        lab.console.print(f"  {_line(found[-1])}")
    return found


def _file(lab: Lab, check: CheckSpec) -> Path:
    return lab.folder / "checks" / f"{check.number:02d}.json"


@cache
def _code() -> str:
    """Hash of the suite's code."""
    return content_hash([file.read_text("utf-8") for file in sorted(Path(__file__).parent.glob("*.py"))])


def _made_with(lab: Lab) -> str:
    """Hash of what a finding depends on: the suite's code, the model, the names in the plan, and the sizes."""
    plan = {name: value for name, value in vars(lab.plan).items() if isinstance(value, str)}
    return content_hash(_code(), lab.policy.version, plan, asdict(lab.sizes))


def _kept(lab: Lab, check: CheckSpec) -> Finding | None:
    """The finding of a check in the lab's folder; None if it is to be measured."""
    path = _file(lab, check)
    if path.is_file() and (kept := json.loads(path.read_text("utf-8"))).get("made_with") == _made_with(lab):
        return _restored(check, kept)
    return None


def _measured(lab: Lab, check: CheckSpec) -> Finding:
    """The finding of a check, measured and kept in the lab's folder; its time is without what was played beforehand."""
    begun = time.monotonic()
    try:
        figures, reason = MEASURES[check.number](lab), ""
    except NotApplicable as error:
        figures, reason = {}, str(error)
    finding = Finding(check, figures, reason, time.monotonic() - begun)
    path = _file(lab, check)
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {"made_with": _made_with(lab), "figures": {name: asdict(f) for name, f in figures.items()}, "reason": reason}
    write_atomically(path, json.dumps(kept | {"seconds": finding.seconds}, indent=1).encode())
    return finding


def _restored(check: CheckSpec, kept: Mapping[str, Any]) -> Finding:
    figures = {name: Figure(row["value"], Interval(*row["ci95"])) for name, row in kept["figures"].items()}
    return Finding(check, figures, kept["reason"], kept["seconds"])


def _left(found: Sequence[Finding], numbers: Sequence[int]) -> str:
    """The time left, from what the checks so far took beside what they usually do; empty before the first."""
    spent, usual = sum(one.seconds for one in found), sum(one.spec.seconds for one in found if not one.reason)
    if not usual or not spent:
        return ""
    left = sum(spec(number).seconds for number in numbers) * spent / usual
    return f"; about {math.ceil(left / 60)} min left"


def _line(finding: Finding) -> str:
    """A finding as a line."""
    if finding.reason:
        return f"not applicable: {finding.reason}"
    parts = []
    for name, wanted in finding.spec.wanted.items():
        figure = finding.figures.get(name)
        value = "not measured" if figure is None else f"{figure.value:+.3f}"
        mark = "" if finding.condition(name) else " FAILS"
        parts.append(f"{name} {value} ({wanted.text}){mark}")
    return "; ".join(parts)


def suite_folder(root: Path, lab_parts: Sequence[Any], world: str) -> Path:
    """The folder of a suite: a change of model, plan, sizes or code begins another.

    Args:
        root: holds the folders of all suites.
        lab_parts: plain data that results depend on.
        world: its name.
    """
    return root / f"{world}-{content_hash(*lab_parts, own_version())[:8]}"


def as_data(findings: Sequence[Finding]) -> dict[str, Any]:
    """The findings as plain data."""
    return {"holds": all(one.holds for one in findings), "checks": [one.to_json() for one in findings]}
