"""What is done to a run: each fault knows what the process may end with, and what heals it."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import signal
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import psutil

from bench.chaos.runs import ENGINES, Place
from selftaught.errors import BadInput
from selftaught.feedback.sandbox.bubblewrap import find_bubblewrap

Process = subprocess.Popen[str]
CLOCK = str(Path(__file__).with_name("clock"))
FINISHED, REFUSED, INTERRUPTED, TERMINATED, KILLED = 0, 2, 130, 143, -signal.SIGKILL
PATIENCE = 300  # seconds that a process may take
LOCKED = "another process"  # what a second process on a folder is refused with


class Strike(NamedTuple):
    """A process at work that something happens to."""

    place: Place
    process: Process
    luck: random.Random


@dataclass(frozen=True)
class Fault:
    """Something that happens to a run.

    Attributes:
        name: of it.
        statuses: that the process may end with; it may always have finished before.
        strike: does it to the process, at a random moment; False where there was nothing to do it to.
        prepare: environment and wrapping words that the process is started with.
        heal: done when the process has ended.
        engines: whose runs it can happen to.
        costs: engines whose answers in progress may be lost, and so begun again; at an endpoint an interrupt waits.
        tracebacks: whether the process may end with one, as nobody can write a line then.
        possible: whether this machine can do it.
    """

    name: str
    statuses: tuple[int, ...]
    strike: Callable[[Strike], bool | None]
    prepare: Callable[[Place, random.Random], tuple[tuple[str, ...], dict[str, str]]] = lambda *_: ((), {})
    heal: Callable[[Place], None] = lambda _: None
    engines: tuple[str, ...] = ENGINES
    costs: tuple[str, ...] = ()
    tracebacks: bool = False
    possible: Callable[[], bool] = lambda: True


def _sends(number: signal.Signals) -> Callable[[Strike], None]:
    def send(on: Strike) -> None:
        on.process.send_signal(number)

    return send


def _interrupts(on: Strike) -> None:
    """As soon as it is at work: at its start, Python itself would be interrupted."""
    begun = time.monotonic()
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(on.process.pid)
        while _waits(on, begun) and not any("journal.sqlite" in one.path for one in process.open_files()):
            time.sleep(0.01)
        time.sleep(on.luck.uniform(0.0, 0.5))
    on.process.send_signal(signal.SIGINT)


def _waits(on: Strike, begun: float) -> bool:
    """Whether the process is there, and has had less time than any may take."""
    return on.process.poll() is None and time.monotonic() - begun < PATIENCE


def _pauses(on: Strike) -> None:
    on.process.send_signal(signal.SIGSTOP)
    time.sleep(on.luck.uniform(0.05, 0.8))
    on.process.send_signal(signal.SIGCONT)


def _kills_children(on: Strike) -> bool:
    begun, killed, children = time.monotonic(), 0, list[psutil.Process]()
    with contextlib.suppress(psutil.Error):
        process = psutil.Process(on.process.pid)
        while _waits(on, begun) and not (children := process.children(recursive=True)):
            time.sleep(0.01)
        for child in children:
            child.kill()
            killed += 1
    return killed > 0


def _fills_disk(on: Strike) -> None:
    """No file may grow beyond what the largest is now: writes fail, as on a full disk."""
    sizes = [path.stat().st_size for path in on.place.run_folder.rglob("*") if path.is_file()]
    _limit(on.process, resource.RLIMIT_FSIZE, max(4096, *sizes, 0) + on.luck.randrange(4096))


def _takes_memory(on: Strike) -> None:
    with contextlib.suppress(psutil.Error):
        size = psutil.Process(on.process.pid).memory_info().vms
        _limit(on.process, resource.RLIMIT_AS, size + on.luck.randrange(2**18))


def _limit(process: Process, what: int, size: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        hard = resource.prlimit(process.pid, what)[1]
        resource.prlimit(process.pid, what, (size, hard))


def _starts_a_second(on: Strike) -> bool:
    """Refused in one line, unless the first has just ended."""
    if not (on.place.run_folder / "journal.sqlite").is_file():
        return False
    other = on.place.start()
    try:
        _, said = other.communicate(timeout=PATIENCE)
    finally:
        other.kill()
    refused = other.returncode == REFUSED and said.count("\n") == 1 and LOCKED in said
    if not refused and on.process.poll() is None:
        raise AssertionError(f"a second process ended with {other.returncode}: {said[-300:]}")
    return True


def _read_only(place: Place, _: random.Random) -> tuple[tuple[str, ...], dict[str, str]]:
    place.run_folder.mkdir(parents=True, exist_ok=True)
    folder = str(place.run_folder)
    return (find_bubblewrap(), "--dev-bind", "/", "/", "--ro-bind", folder, folder, "--"), {}


def _can_bind() -> bool:
    try:
        words = [find_bubblewrap(), "--dev-bind", "/", "/", "true"]
    except BadInput:
        return False
    return subprocess.run(words, capture_output=True).returncode == 0


def _steps_clock(_: Place, luck: random.Random) -> tuple[tuple[str, ...], dict[str, str]]:
    return (), {"first_path": CLOCK, "CHAOS_CLOCK": str(luck.randrange(10**6))}


def _moves(place: Place) -> None:
    old = place.base
    place.moved += 1
    if old.exists():
        os.rename(old, place.base)


def _nothing(_: Strike) -> None:
    pass


def _goes_away(on: Strike) -> None:
    on.place.away.set()
    time.sleep(on.luck.uniform(0.1, 1.5))
    on.place.away.clear()


def _lies(on: Strike) -> None:
    on.place.lying.set()
    time.sleep(on.luck.uniform(0.1, 1.0))


FAULTS = (
    Fault("killed (SIGKILL)", (KILLED,), _sends(signal.SIGKILL), costs=ENGINES),
    Fault("terminated (SIGTERM)", (TERMINATED, -signal.SIGTERM), _sends(signal.SIGTERM), costs=("scripted", "tiny")),
    Fault("interrupted (SIGINT)", (INTERRUPTED, -signal.SIGINT), _interrupts, costs=("scripted", "tiny")),
    Fault("stopped and continued", (), _pauses),
    Fault("worker processes killed", (), _kills_children, engines=("endpoint",)),
    Fault("disk full", (REFUSED,), _fills_disk, costs=ENGINES),
    Fault("out of memory", (1, REFUSED, KILLED, -signal.SIGABRT, -signal.SIGSEGV, 134, 139), _takes_memory,
          engines=("scripted", "endpoint"), costs=ENGINES, tracebacks=True),
    Fault("read-only folder", (REFUSED,), _nothing, prepare=_read_only, possible=_can_bind),
    Fault("killed and moved", (KILLED,), _sends(signal.SIGKILL), heal=_moves, costs=ENGINES),
    Fault("clock steps", (), _nothing, prepare=_steps_clock),
    Fault("a second process", (), _starts_a_second),
    Fault("endpoint away", (REFUSED,), _goes_away, engines=("endpoint",)),
    Fault("endpoint lies", (REFUSED,), _lies, heal=lambda place: place.lying.clear(), engines=("endpoint",)),
)  # fmt: skip


def faults_for(engine: str) -> list[Fault]:
    """Faults that can happen to a run on an engine, on this machine."""
    return [one for one in FAULTS if engine in one.engines and one.possible()]
