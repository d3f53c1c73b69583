"""A pool of killable worker processes, for code that may hang, crash or exhaust memory.

Each worker is a fresh interpreter (never a fork: the parent has threads), uses two pipes and gets a
hard wall-clock limit per request from the caller, from any thread, without signals. A worker that overruns is
killed with its child processes; one that dies loses only its current request. New workers
are started on demand.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import queue
import select
import signal
import subprocess
import sys
import threading
import time
import weakref
from typing import Any, NamedTuple

from selftaught.feedback.worker import HEADER, MAX_FRAME


class Reply(NamedTuple):
    """The result of a request.

    Attributes:
        status: "ok", "raised" (the job raised), "timeout", "died" (the process ended) or
            "failed" (no worker could be started).
        value: the result if ok, otherwise a one-line explanation.
    """

    status: str
    value: Any


class _Gone(Exception):
    """The worker's pipe is closed, or its reply is malformed."""


class _PlainData(pickle.Unpickler):
    """Unpickles only numbers, strings and containers: a worker has processed untrusted text."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"a worker sent a {module_name}.{global_name}")


class _Worker:
    """One process and its pipes; used by one thread at a time."""

    def __init__(self, job: tuple[Any, ...], *, timeout: float, memory: int) -> None:
        env = dict(os.environ)
        # the parent's search path in order: a job may come from any module the parent can import
        env["PYTHONPATH"] = os.pathsep.join(p or os.getcwd() for p in sys.path)
        env.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1", MKL_NUM_THREADS="1", PYTHONHASHSEED="0")
        env["PYTHONDONTWRITEBYTECODE"] = "1"
        self.process = subprocess.Popen(
            [sys.executable, "-P", "-m", "selftaught.feedback.worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=env,
            bufsize=0,
            start_new_session=True,
        )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self._in, self._out = self.process.stdin.fileno(), self.process.stdout.fileno()
        os.set_blocking(self._in, False)
        self._setup = {"job": job, "timeout": timeout, "memory": memory}

    def start(self, limit: float) -> Reply:
        """Send the job and wait until the worker is ready."""
        return self.ask(self._setup, limit)

    def ask(self, message: Any, limit: float) -> Reply:
        """Send one message and wait for its reply for at most `limit` seconds.

        Raises:
            TimeoutError: it took longer.
            _Gone: the process ended.
        """
        deadline = time.monotonic() + limit
        body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._write(HEADER.pack(len(body)) + body, deadline)
        size = HEADER.unpack(self._read(HEADER.size, deadline))[0]
        if size > MAX_FRAME:
            raise _Gone
        try:
            return Reply(*_PlainData(io.BytesIO(self._read(size, deadline))).load())
        except (pickle.UnpicklingError, EOFError, TypeError, ValueError, IndexError, AttributeError) as e:
            raise _Gone(f"malformed reply: {e}") from e

    def _wait(self, fd: int, event: int, deadline: float) -> None:
        left = deadline - time.monotonic()
        poll = select.poll()
        poll.register(fd, event)
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError

    def _write(self, data: bytes, deadline: float) -> None:
        view = memoryview(data)
        while view:
            self._wait(self._in, select.POLLOUT, deadline)
            try:
                view = view[os.write(self._in, view[:65536]) :]
            except BlockingIOError:
                continue
            except OSError as e:
                raise _Gone from e

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self._out, select.POLLIN, deadline)
            try:
                piece = os.read(self._out, min(size - len(data), 1 << 20))
            except OSError as e:
                raise _Gone from e
            if not piece:
                raise _Gone
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """Kill the process and its children. Thread-safe and idempotent."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.process.poll() is None:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def dispose(self) -> None:
        """Kill the process and close its pipes; call only from the thread that uses it."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()


def _dispose_all(live: set[_Worker]) -> None:
    for worker in list(live):
        worker.dispose()


class Workers:
    """A pool of killable workers for one job. Thread-safe; processes start when first needed and stay warm.

    Args:
        job: name of a job in `selftaught.feedback.jobs`, and its arguments (plain data).
        size: maximum number of processes; by default one per core, at most four.
        timeout: wall-clock seconds per request, once the worker is ready.
        start_timeout: seconds for a worker to start (imports).
        memory: limit on a worker's data in bytes (`RLIMIT_DATA`).
    """

    def __init__(
        self,
        job: tuple[Any, ...],
        *,
        size: int | None = None,
        timeout: float = 10.0,
        start_timeout: float = 120.0,
        memory: int = 2 << 30,
    ) -> None:
        self.job, self.timeout, self.start_timeout, self.memory = job, timeout, start_timeout, memory
        self.started = 0
        self._slots: queue.LifoQueue[_Worker | None] = queue.LifoQueue()
        self.size = size or min(os.cpu_count() or 1, 4)
        for _ in range(self.size):
            self._slots.put(None)
        self._live: set[_Worker] = set()
        self._closes = 0
        self._lock = threading.Lock()
        self._broken = ""
        weakref.finalize(self, _dispose_all, self._live)

    def call(self, payload: Any) -> Reply:
        """Run the job on `payload` in a worker and wait for the result; never raises because of the job."""
        before = self._closes
        worker = self._slots.get()
        keep = None
        try:
            if worker is not None and worker.process.poll() is not None:
                self._drop(worker)  # it died, or was stopped, while idle
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
            self._slots.put(keep)

    def close(self) -> None:
        """Stop the processes; a later call starts new ones. A request in progress ends as "died"."""
        with contextlib.suppress(queue.Empty):
            idle = 0
            while idle < self.size:
                idle += 1
                worker = self._slots.get_nowait()
                if worker is not None:
                    self._drop(worker)
                self._slots.put(None)
        with self._lock:
            self._closes += 1
            busy = list(self._live)
        for worker in busy:
            worker.kill()  # the thread that waits for it closes its pipes

    def _new(self, closes: int) -> _Worker | None:
        """A process; None for a request from before the pool was closed."""
        with self._lock:  # until it executes, a new process shares this one's open files, including locks
            if self._closes != closes:
                return None
            worker = _Worker(self.job, timeout=self.timeout, memory=self.memory)
            self._live.add(worker)
            self.started += 1
        return worker

    def _drop(self, worker: _Worker) -> None:
        with self._lock:
            self._live.discard(worker)
        worker.dispose()

    def _try(self, worker: _Worker, ask: Any, limit: float) -> Reply:
        try:
            return ask(limit)
        except TimeoutError:
            return Reply("timeout", f"no result within {limit:g} s")
        except _Gone as e:
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
