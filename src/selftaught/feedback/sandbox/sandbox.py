"""Run code that a model wrote: isolated by the operating system, within limits, in processes that wait for it."""

from __future__ import annotations

import contextlib
import functools
import os
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

from selftaught.feedback.sandbox.bubblewrap import Limits, find_bubblewrap
from selftaught.feedback.sandbox.process import Exchange, SandboxedProcess
from selftaught.feedback.sandbox.testing import Testing, TestResult
from selftaught.records import as_json, content_hash

__all__ = ["Execution", "Sandbox", "SandboxBroken", "TestResult"]

Ended = Literal["exited", "killed", "cpu", "time", "output"]


@dataclass(frozen=True, slots=True)
class Execution:
    """What a program did.

    Attributes:
        ended: how it ended: it "exited", or was "killed" by a signal (of the system's: out of a limit, or a crash), or
            used up its "cpu" seconds, its wall-clock "time" or its "output".
        exit_code: its exit status; minus the signal where one ended it.
        stdout: what it printed, as text, at most `Limits.output` bytes.
        stderr: its errors, likewise.
        seconds: of wall-clock time.
    """

    ended: Ended
    exit_code: int
    stdout: str
    stderr: str
    seconds: float

    @property
    def ok(self) -> bool:
        """Whether it ended by itself with status 0."""
        return self.ended == "exited" and self.exit_code == 0


TRIES = 4  # processes that are started for one job
START_SECONDS = 30.0  # until one waits for its job


class SandboxBroken(RuntimeError):
    """No isolated process starts any more, which says nothing of the code."""


@functools.cache
def _starter() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(1, "selftaught-sandbox")


def _close_all(live: set[SandboxedProcess]) -> None:
    for process in list(live):
        process.close()


class Sandbox:
    """Runs Python code of a model's in processes of its own, each used once. Thread-safe.

    A process sees no network, no other process and no files but the system's libraries, this interpreter's standard
    library, `packages` and an empty scratch folder; see `bubblewrap.command`. Interpreters wait for their job, so that
    a short program need not wait for one to start.

    Args:
        limits: of each process.
        packages: folders of packages that the code may import, such as a virtual environment's site-packages.
        size: processes at work at once; by default one for each core.

    Raises:
        BadInput: nothing here can isolate a program.
    """

    def __init__(self, limits: Limits | None = None, *, packages: Sequence[str] = (), size: int | None = None) -> None:
        self.limits, self.packages = limits or Limits(), tuple(packages)
        self._bwrap = find_bubblewrap()
        self.size = size or len(os.sched_getaffinity(0))
        self._places = threading.Semaphore(self.size)
        self._waiting: deque[SandboxedProcess] = deque()
        self._live: set[SandboxedProcess] = set()
        self._lock = threading.Lock()
        weakref.finalize(self, _close_all, self._live)

    @property
    def version(self) -> str:
        """What decides results: the interpreter and the limits."""
        python = ".".join(map(str, sys.version_info[:3]))
        return f"python-{python}+{content_hash(as_json(self.limits), self.packages)[:8]}"

    def run(self, program: str, stdin: str = "") -> Execution:
        """Run a program as `__main__`. Takes at most `Limits.seconds` once it has a place; never raises because of it.

        Raises:
            SandboxBroken: no isolated process starts.
        """
        with self._places, self._process() as process, self._exchange() as exchange:
            exchange.send(process.stdin, process.job({"kind": "program", "source": program, "stdin": stdin}), last=True)
            found = {"out": bytearray(), "err": bytearray()}
            cut = _drain(exchange, process, found, self.limits.output)
            code = process.wait() if not cut else -signal.SIGKILL
            out, err = (bytes(found[key]).decode(errors="replace") for key in ("out", "err"))
            return Execution(cut or _ended(code), code, out, err, time.monotonic() - process.started)

    def test(
        self, candidate: str, tests: Sequence[str], *, entry_point: str = "", entry_points: Sequence[str] = (),
        prelude: str = "",
    ) -> TestResult:  # fmt: skip
        """Test the functions that a candidate defines. Never raises because of it.

        The tests run in a sandbox of their own and call the candidate's functions in its sandbox; arguments, results
        and exceptions cross as plain data. So the code can neither read the tests nor change what they decide, and a
        result of a class of its own, which could equal anything, is refused.

        Args:
            candidate: Python code.
            tests: Python code, each passed if it raises nothing; names that it does not define are the candidate's,
                but not built-in ones. What it defines is run: `check` with the entry point (HumanEval), functions
                `test...`, and cases of unittest.
            entry_point: the function that is tested, for `check`: a name, or an expression like `Solution().solve`.
            entry_points: names of functions that are tested, which may be built-in ones.
            prelude: code of the tests' own, whose names stand before the candidate's.

        Raises:
            SandboxBroken: no isolated process starts.
        """
        job = {"kind": "tests", "tests": list(tests), "entry_point": entry_point, "prelude": prelude}
        job["entry_points"] = list(entry_points)
        theirs_job = {"kind": "candidate", "source": candidate, "entry_point": entry_point}
        with self._places, self._process() as theirs, self._process() as ours, self._exchange() as exchange:
            exchange.send(theirs.stdin, theirs.job(theirs_job))
            exchange.send(ours.stdin, ours.job(job))
            return Testing(exchange, theirs, ours, len(tests)).result()

    def close(self) -> None:
        """Stop all processes; a later call starts new ones. Code at work ends as killed."""
        with self._lock:
            waiting, live = list(self._waiting), list(self._live)
            self._waiting.clear()
        for process in live:
            process.kill()  # the thread that reads from it closes it
        for process in waiting:
            self._drop(process)

    def _exchange(self) -> Exchange:
        return Exchange(time.monotonic() + self.limits.seconds)

    @contextlib.contextmanager
    def _process(self) -> Iterator[SandboxedProcess]:
        """A process that waits for a job; another one is started in its place."""
        for _ in range(TRIES):
            with self._lock:
                process = self._waiting.popleft() if self._waiting else None
            process = process or self._start()
            if process.ready(START_SECONDS):
                break
            self._drop(process)  # it ended while it waited, or never began
        else:
            raise SandboxBroken("no isolated process starts (too many processes, or too little memory?)")
        try:
            if len(self._waiting) < 2 * self.size:
                another = self._start()
                with self._lock:
                    self._waiting.append(another)
            yield process
        finally:
            self._drop(process)

    def _start(self) -> SandboxedProcess:
        """Start a process, from a thread that stays: the system ends it with the thread that started it."""
        process = _starter().submit(SandboxedProcess, self._bwrap, self.limits, self.packages).result()
        with self._lock:
            self._live.add(process)
        return process

    def _drop(self, process: SandboxedProcess) -> None:
        process.close()
        with self._lock:
            self._live.discard(process)


def _drain(exchange: Exchange, process: SandboxedProcess, found: dict[str, bytearray], limit: int) -> Ended | None:
    """Read all that a program writes; why it was cut short, if it was."""
    exchange.read(process.stdout, "out")
    exchange.read(process.stderr, "err")
    open_streams = len(found)
    while open_streams:
        try:
            events = exchange.events()
        except TimeoutError:
            return "time"
        for key, data in events:
            open_streams -= not data
            found[key] += data[: limit - len(found[key]) + 1]
            if len(found[key]) > limit:
                del found[key][limit:]
                return "output"
    return None


def _ended(code: int) -> Ended:
    return "exited" if code >= 0 else "cpu" if code == -signal.SIGXCPU else "killed"
