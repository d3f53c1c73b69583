"""A round: a run is disturbed up to three times, then finishes undisturbed; what must hold afterwards is checked."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock

from bench.chaos.child import WIDTH
from bench.chaos.faults import FINISHED, PATIENCE, REFUSED, Fault, Process, Strike, faults_for
from bench.chaos.runs import OWN_CODE, QUESTIONS, Disturbed, Place, opened

MOST_FAULTS = 3
UNMADE = 3  # status of an audit that finds no difference, where some check cannot be made of such a run


@dataclass
class Round:
    """What became of a round.

    Attributes:
        what: was run.
        seed: of the round, which plays it again.
        faults: names of those that struck while the process was at work.
        wrong: what does not hold.
        again: answers that were begun, or paid for, more than once.
    """

    what: Disturbed
    seed: int
    faults: list[str] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    again: int = 0


@dataclass(frozen=True)
class Undisturbed:
    """What an undisturbed run comes to: what it prints, the digest of its journal (on the tiny model), its rows, the
    answers it begins, and the seconds it takes.
    """

    out: str
    digest: str
    rows: int
    begun: int
    seconds: float


def play_round(what: Disturbed, seed: int, folder: Path, faults: list[Fault] | None = None) -> Round:
    """Disturb a run.

    Args:
        faults: what happens to it; None: up to three of those that can, at random.
    """
    luck, found = random.Random(f"{what}/{seed}"), Round(what, seed)
    expected = undisturbed(what, folder.parent / "undisturbed")
    with opened(what, folder, seed) as place:
        if what.engine == "endpoint" and luck.random() < 0.3:
            place.cap = round(luck.uniform(0.3, 0.9) * QUESTIONS * 0.02, 3)  # less than all answers cost
        chosen = faults or luck.sample(known := faults_for(what.engine), luck.randint(1, min(MOST_FAULTS, len(known))))
        kept: dict[str, tuple[str, str]] = {}
        for fault in chosen:
            _disturb(place, fault, luck, expected, found)
            kept = _check_kept(place, kept, found, fault.name)
        _finish(place, kept, expected, found)
    if not found.wrong:
        shutil.rmtree(folder, ignore_errors=True)
    return found


_PLAYED: dict[Disturbed, Undisturbed] = {}
_PLAYING: defaultdict[Disturbed, Lock] = defaultdict(Lock)


def undisturbed(what: Disturbed, folder: Path) -> Undisturbed:
    """What a run without a fault comes to, played once.

    Raises:
        RuntimeError: it does not end well.
    """
    with _PLAYING[what]:
        if what not in _PLAYED:
            _PLAYED[what] = _undisturbed(what, folder)
        return _PLAYED[what]


def _undisturbed(what: Disturbed, folder: Path) -> Undisturbed:
    with opened(what, folder / f"{what.engine}-{what.method}", 0) as place:
        begun = time.monotonic()
        status, out, err = _wait(place.start())
        if status != FINISHED:
            raise RuntimeError(f"{what} ends with {status} undisturbed: {err[-500:]}")
        seconds, digest = time.monotonic() - begun, place.digest() if what.engine == "tiny" else ""
        return Undisturbed(out, digest, len(place.rows()), place.begun(), seconds)


def _disturb(place: Place, fault: Fault, luck: random.Random, expected: Undisturbed, found: Round) -> None:
    """Start the run and let a fault strike it."""
    wrapped, environment = fault.prepare(place, luck)
    process = place.start(wrapped=wrapped, **environment)
    time.sleep(luck.uniform(0.0, expected.seconds))
    struck = process.poll() is None
    try:
        if struck:
            struck = fault.strike(Strike(place, process, luck)) is not False
        if struck or wrapped or environment:
            found.faults.append(fault.name)
        status, _, err = _wait(process)
    except (AssertionError, subprocess.TimeoutExpired) as error:
        found.wrong.append(f"{fault.name}: {error}")
        status, _, err = _wait(process)
    fault.heal(place)
    if place.what.engine in fault.costs and status != FINISHED:
        place.cost += 2 * WIDTH  # in progress, or on their way to the journal while the next ones begin
    capped = place.cap > 0 and status == REFUSED and "cost limit" in err
    if status not in (FINISHED, *fault.statuses) and not capped:
        found.wrong.append(f"{fault.name}: it ended with {status}: {err[-300:]}")
    if "Traceback" in err and not fault.tracebacks:
        found.wrong.append(f"{fault.name}: a traceback: {err[-300:]}")


def _wait(process: Process) -> tuple[int, str, str]:
    """The status of a process that has ended, and what it said."""
    try:
        out, err = process.communicate(timeout=PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        return 999, out, f"it was still there after {PATIENCE} s; {err}"
    return process.returncode, out, err


def _check_kept(
    place: Place, before: dict[str, tuple[str, str]], found: Round, when: str
) -> dict[str, tuple[str, str]]:
    """Everything that was in the journal is there still, unchanged."""
    now = place.rows()
    lost = sum(key not in now for key in before)
    changed = sum(key in now and now[key] != row for key, row in before.items())
    if lost or changed:
        found.wrong.append(f"{when}: {lost} of {len(before)} rows lost, {changed} changed")
    return now


def _finish(place: Place, kept: dict[str, tuple[str, str]], expected: Undisturbed, found: Round) -> None:
    """Let it end, and check what it came to."""
    status, out, err = _wait(place.start())
    now = _check_kept(place, kept, found, "the end")
    if "Traceback" in err:
        found.wrong.append(f"undisturbed it ended with a traceback: {err[-300:]}")
    if place.cap:
        if place.bill() > place.cap:
            found.wrong.append(f"the endpoint was paid ${place.bill():.2f}, and the limit is ${place.cap:.2f}")
        if status != REFUSED or "cost limit" not in err:
            found.wrong.append(f"beyond the cost limit it ended with {status}: {err[-300:]}")
        return
    if status != FINISHED:
        found.wrong.append(f"undisturbed it ended with {status}: {err[-300:]}")
        return
    if place.what.engine == "scripted" and out != expected.out:
        found.wrong.append(f"it came to {out.strip()}, undisturbed to {expected.out.strip()}")
    if len(now) != expected.rows:
        found.wrong.append(f"it has {len(now)} rows, undisturbed {expected.rows}")
    if place.what.engine == "tiny" and len(now) == expected.rows and place.digest() != expected.digest:
        found.wrong.append("its journal is not that of the undisturbed run")
    if place.what.engine != "tiny":
        found.again = place.begun() - expected.begun
        if not 0 <= found.again <= place.cost:
            found.wrong.append(f"{found.again} answers were begun twice, at most {place.cost} were in progress")
    if place.what.engine == "tiny":
        _audit(place, found)


def _audit(place: Place, found: Round) -> None:
    """What `selftaught audit` finds."""
    words = [sys.executable, "-m", "selftaught", "audit", str(place.run_folder), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, cwd=place.folder, env=os.environ | OWN_CODE)
    if done.returncode not in (0, UNMADE):
        try:
            wrong = [one for one in json.loads(done.stdout)["checks"] if one["holds"] is False]
        except (ValueError, KeyError):
            wrong = done.stderr[-300:]
        found.wrong.append(f"audit: {wrong}")
