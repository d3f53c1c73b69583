"""A pool of killable worker processes, for code that may hang, crash or exhaust memory.

Each worker is a fresh interpreter (never a fork: the parent has threads) without this process's secrets, uses two pipes
and gets a hard wall-clock limit per request from the caller, from any thread, without signals. A worker that overruns
is killed with its child processes; one that dies loses only its current request. New workers are started on demand, and
callers get them in the order in which they came.
"""

from __future__ import annotations

import contextlib
import os
import signal
import threading
import weakref
from collections import deque
from typing import Any

from selftaught.feedback.worker_process import MAX_REPLY, Gone, Reply, WorkerProcess

__all__ = ["Reply", "Workers"]


def _dispose_all(live: set[WorkerProcess]) -> None:
    for worker in list(live):
        worker.dispose()


class _Slots:
    """Places of a pool, each with a worker or none; who waits gets the next free one in the order of arrival."""

    def __init__(self, size: int) -> None:
        self._free: list[WorkerProcess | None] = [None] * size
        self._waiting: deque[tuple[threading.Event, list[WorkerProcess | None]]] = deque()
        self._lock = threading.Lock()

    def take(self) -> WorkerProcess | None:
        """A place: the one used last, which is warm; wait for it."""
        with self._lock:
            if self._free:
                return self._free.pop()
            given, handed = (threading.Event(), list[WorkerProcess | None]())
            self._waiting.append((given, handed))
        given.wait()
        return handed[0]

    def give(self, worker: WorkerProcess | None) -> None:
        """Give a place back, to the first who waits."""
        with self._lock:
            if not self._waiting:
                self._free.append(worker)
                return
            given, handed = self._waiting.popleft()
        handed.append(worker)
        given.set()

    def empty(self) -> list[WorkerProcess]:
        """Take the workers out of all free places."""
        with self._lock:
            idle = [worker for worker in self._free if worker is not None]
            self._free = [None] * len(self._free)
        return idle


class Workers:
    """A pool of killable workers for one job. Thread-safe; processes start when first needed and stay warm.

    Args:
        job: name of a job in `selftaught.feedback.jobs`, and its arguments (plain data).
        size: maximum number of processes; by default one per core, at most four.
        timeout: wall-clock seconds per request, once the worker is ready.
        start_timeout: seconds for a worker to start (imports).
        memory: limit on a worker's data in bytes (`RLIMIT_DATA`).
        max_reply: limit on a reply in bytes; a longer one counts as raised.
    """

    def __init__(
        self,
        job: tuple[Any, ...],
        *,
        size: int | None = None,
        timeout: float = 10.0,
        start_timeout: float = 120.0,
        memory: int = 2 << 30,
        max_reply: int = MAX_REPLY,
    ) -> None:
        self.job, self.timeout, self.start_timeout = job, timeout, start_timeout
        self.memory, self.max_reply = memory, max_reply
        self.started = 0
        self.size = size or min(os.cpu_count() or 1, 4)
        self._slots = _Slots(self.size)
        self._live: set[WorkerProcess] = set()
        self._closes = 0
        self._lock = threading.Lock()
        self._broken = ""
        weakref.finalize(self, _dispose_all, self._live)

    def call(self, payload: Any) -> Reply:
        """Run the job on `payload` in a worker and wait for the result; never raises because of the job."""
        before = self._closes
        worker = self._slots.take()
        keep = None
        try:
            if worker is not None and not worker.usable:
                self._drop(worker)  # while idle it died, was stopped, or spoke unasked
                worker = None
            if worker is None:
                if self._broken:
                    return Reply("failed", self._broken)
                worker = self._new(before)
                if worker is None:
                    return Reply("died", "its pool was closed")
                reply = self._try(worker, worker.start, self.start_timeout)
                if reply.status != "ready":
                    return self._no_start(reply)
            reply = self._try(worker, lambda limit: worker.ask(payload, limit), self.timeout)
            if reply.status == "ok" or (reply.status == "raised" and "MemoryError" not in reply.value):
                keep = worker
            return reply
        finally:
            if worker is not None and keep is None:
                self._drop(worker)
            self._slots.give(keep)

    def close(self) -> None:
        """Stop the processes; a later call starts new ones. A request in progress ends as "died"."""
        for worker in self._slots.empty():
            self._drop(worker)
        with self._lock:
            self._closes += 1
            busy = list(self._live)
        for worker in busy:
            worker.kill()  # the thread that waits for it closes its pipes

    def _new(self, closes: int) -> WorkerProcess | None:
        """A process; None for a request from before the pool was closed."""
        with self._lock:  # until it executes, a new process shares this one's open files, including locks
            if self._closes != closes:
                return None
            worker = WorkerProcess(self.job, timeout=self.timeout, memory=self.memory, max_reply=self.max_reply)
            self._live.add(worker)
            self.started += 1
        return worker

    def _drop(self, worker: WorkerProcess) -> None:
        with self._lock:
            self._live.discard(worker)
        worker.dispose()

    def _try(self, worker: WorkerProcess, ask: Any, limit: float) -> Reply:
        try:
            return ask(limit)
        except TimeoutError:
            return Reply("timeout", f"no result within {limit:g} s")
        except Gone as e:
            worker.kill()
            return Reply("died", str(e) or f"the worker process ended ({_how(worker.process.returncode)})")

    def _no_start(self, reply: Reply) -> Reply:
        # retrying a job that cannot be built is pointless
        if reply.status == "failed":
            self._broken = str(reply.value)
        return Reply("failed", f"{reply.value}")


def _how(code: int | None) -> str:
    if code is None or code >= 0:
        return f"exit code {code}"
    with contextlib.suppress(ValueError):
        return signal.Signals(-code).name
    return f"signal {-code}"
