"""A sandboxed process that does one job and is gone: its lines, its errors, its deadline."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Mapping
from typing import Any

from selftaught.feedback.sandbox.bubblewrap import Limits, command

CHUNK = 1 << 16
READY = b"ready\n"
"""What it says when it waits for its job."""


class SandboxedProcess:
    """An interpreter in its sandbox, waiting for its job.

    Args:
        bwrap: path of bubblewrap.
        limits: of the process.
        packages: see `command`.
    """

    def __init__(self, bwrap: str, limits: Limits, packages: tuple[str, ...] = ()) -> None:
        line, inherited = command(bwrap, limits, packages)
        self.limits, self.started, self._said = limits, 0.0, b""
        pipe = subprocess.PIPE
        try:
            self._process = subprocess.Popen(
                line, stdin=pipe, stdout=pipe, stderr=pipe, pass_fds=[inherited], start_new_session=True
            )
        finally:
            os.close(inherited)
        self.stdin: Any = self._process.stdin
        self.stdout: Any = self._process.stdout
        self.stderr: Any = self._process.stderr
        for stream in (self.stdin, self.stdout, self.stderr):
            os.set_blocking(stream.fileno(), False)

    def ready(self, seconds: float) -> bool:
        """Whether it has come to wait for its job, limited and isolated; waits for that."""
        deadline = time.monotonic() + seconds
        with selectors.DefaultSelector() as selector:
            selector.register(self.stdout, selectors.EVENT_READ)
            while not self._said.endswith(b"\n"):
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    return False
                if not (byte := os.read(self.stdout.fileno(), 1)):  # not one byte of what follows
                    return False
                self._said += byte
        return self._said == READY

    def job(self, job: Mapping[str, Any]) -> bytes:
        """The line that begins a job; its time starts here."""
        self.started = time.monotonic()
        return json.dumps(job).encode() + b"\n"

    def wait(self) -> int:
        """Its exit code, minus the signal that ended it; kills it if it does not end at once."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            code = self._process.wait(1.0)
            return 128 - code if code > 128 else code  # bubblewrap passes a signal on as 128 + its number
        return -signal.SIGKILL

    def kill(self) -> None:
        """Kill it, with all that it started: what is in its namespaces ends with it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def close(self) -> None:
        """Kill it, and close its streams; for the one thread that reads them."""
        self.kill()
        self._process.wait()
        for stream in (self.stdin, self.stdout, self.stderr):
            with contextlib.suppress(OSError):
                stream.close()


class Exchange:
    """Reads from and writes to sandboxed processes until a deadline, without ever waiting for one of them alone."""

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self._selector = selectors.DefaultSelector()
        self._unsent: dict[int, tuple[Any, bytearray]] = {}
        self._last: set[int] = set()  # streams to be closed when all is written

    def __enter__(self) -> Exchange:
        return self

    def __exit__(self, *exc: object) -> None:
        self._selector.close()

    def read(self, stream: Any, key: str) -> None:
        """Wait for what comes on a stream, under a key."""
        self._selector.register(stream, selectors.EVENT_READ, key)

    def send(self, stream: Any, data: bytes, *, last: bool = False) -> None:
        """Write as the other side reads; close the stream after it if it is the last."""
        number = stream.fileno()
        self._last |= {number} if last else set()
        if number in self._unsent:
            self._unsent[number][1].extend(data)
        else:
            self._unsent[number] = (stream, bytearray(data))
            self._selector.register(stream, selectors.EVENT_WRITE)
            self._write(number)

    def events(self) -> list[tuple[str, bytes]]:
        """What has come, as (key, bytes); no bytes at its end. Waits.

        Raises:
            TimeoutError: the deadline has passed.
        """
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise TimeoutError
        ready = self._selector.select(left)
        found: list[tuple[str, bytes]] = []
        for key, _ in ready:
            if key.events & selectors.EVENT_WRITE:
                self._write(key.fd)
                continue
            data = os.read(key.fd, CHUNK)
            if not data:
                self._selector.unregister(key.fileobj)
            found.append((key.data, data))
        return found

    def _write(self, number: int) -> None:
        stream, data = self._unsent[number]
        try:
            del data[: os.write(number, data)]
        except BlockingIOError:
            return
        except OSError:  # nobody reads it any more
            data.clear()
        if not data:
            del self._unsent[number]
            self._selector.unregister(stream)
            if number in self._last:
                with contextlib.suppress(OSError):
                    stream.close()
