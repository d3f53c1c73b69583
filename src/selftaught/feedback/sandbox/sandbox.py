"""Run code that a model wrote: isolated by the operating system, within limits, in processes that wait for it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
import weakref
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from selftaught.feedback.sandbox.bubblewrap import Limits, find_bubblewrap
from selftaught.feedback.sandbox.process import Exchange, SandboxedProcess
from selftaught.feedback.sandbox.testing import Testing, TestResult

__all__ = ["Execution", "Sandbox", "TestResult"]

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
        limits = self.limits
        python = ".".join(map(str, sys.version_info[:3]))
        return f"python-{python}+{limits.cpu_seconds}s+{limits.memory >> 20}MiB"

    def run(self, program: str, stdin: str = "") -> Execution:
        """Run a program as `__main__`. Blocks for at most `Limits.seconds`; never raises because of it."""
        with self._places, self._process() as process, self._exchange() as exchange:
            exchange.send(process.stdin, process.job({"kind": "program", "source": program, "stdin": stdin}), last=True)
            found = {"out": bytearray(), "err": bytearray()}
            cut = _drain(exchange, process, found, self.limits.output)
            code = process.wait() if not cut else -signal.SIGKILL
            out, err = (bytes(found[key]).decode(errors="replace") for key in ("out", "err"))
            return Execution(cut or _ended(code), code, out, err, time.monotonic() - process.started)

    def test(self, candidate: str, tests: Sequence[str], *, entry_point: str = "", prelude: str = "") -> TestResult:
        """Test the functions that a candidate defines. Never raises because of it.

        The tests run in a sandbox of their own and call the candidate's functions in its sandbox; arguments, results
        and exceptions cross as plain data. So the code can neither read the tests nor change what they decide, and a
        result of a class of its own, which could equal anything, is refused.

        Args:
            candidate: Python code.
            tests: Python code, each passed if it raises nothing; names that it does not define are the candidate's,
                but not built-in ones. One that defines `check` is called with the entry point (HumanEval).
            entry_point: name of the function that is tested, for `check`.
            prelude: code of the tests' own, whose names stand before the candidate's.
        """
        job = {"kind": "tests", "tests": list(tests), "entry_point": entry_point, "prelude": prelude}
        with self._places, self._process() as theirs, self._process() as ours, self._exchange() as exchange:
            exchange.send(theirs.stdin, theirs.job({"kind": "candidate", "source": candidate}))
            exchange.send(ours.stdin, ours.job(job))
            return Testing(exchange, theirs, ours, len(tests)).result()

    def close(self) -> None:
        """Stop all processes; a later call starts new ones. Code at work ends as killed."""
        with self._lock:
            self._waiting.clear()
            live = list(self._live)
        for process in live:
            self._drop(process)

    def _exchange(self) -> Exchange:
        return Exchange(time.monotonic() + self.limits.seconds)

    @contextlib.contextmanager
    def _process(self) -> Iterator[SandboxedProcess]:
        """A process that waits for a job; another one is started in its place."""
        process = None
        while process is None or not process.alive:
            with self._lock:
                process = self._waiting.popleft() if self._waiting else self._start()
        try:
            with self._lock:
                if len(self._waiting) < 2 * self.size:
                    self._waiting.append(self._start())
            yield process
        finally:
            self._drop(process)

    def _start(self) -> SandboxedProcess:
        process = SandboxedProcess(self._bwrap, self.limits, self.packages)
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
