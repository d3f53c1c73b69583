"""One killable process that runs untrusted code, seen from its parent: its environment, its pipes, its end."""

from __future__ import annotations

import contextlib
import hmac
import io
import os
import pickle
import secrets
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from selftaught.feedback.worker import HEADER, TOKEN_BYTES

MAX_REPLY = 1 << 20
"""Bytes of a reply by default."""
PASSED_ON = "SELFTAUGHT_VERIFIER_ENV"
"""Environment variable that names others, separated by commas, which verifiers may see."""
_KEPT = frozenset({
    "PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV",
    "HF_HOME", "HF_HUB_CACHE", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE",
    "NLTK_DATA", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "JAVA_HOME", "SELFTAUGHT_CACHE", "LD_PRELOAD",
    "LD_LIBRARY_PATH", "DYLD_LIBRARY_PATH", "NO_PROXY", "no_proxy",
})  # fmt: skip
_KEPT_PREFIXES = ("LC_", "PYTHON", "CONDA_", "CUDA_", "XDG_")
_SECRET = ("KEY", "TOKEN", "SECRET", "PASSWORD", "PASSWD", "CREDENTIAL", "AUTH")


def worker_environment(own: Mapping[str, str]) -> dict[str, str]:
    """The part of this process's environment that verifiers are given: no keys, tokens or passwords.

    It keeps secrets out of what verifiers log, send or hand on. It is no wall: code of the same user can read this
    process's environment from the system.

    A verifier that needs more, such as the key of a service that it asks, names it in `SELFTAUGHT_VERIFIER_ENV`.
    """
    wanted = {name.strip() for name in own.get(PASSED_ON, "").split(",")}
    return {
        name: value for name, value in own.items()
        if name in _KEPT or name in wanted
        or (name.startswith(_KEPT_PREFIXES) and not any(part in name.upper() for part in _SECRET))
    }  # fmt: skip


class Reply(NamedTuple):
    """The result of a request.

    Attributes:
        status: "ok", "raised" (the job raised), "timeout", "died" (the process ended) or
            "failed" (no worker could be started).
        value: the result if ok, otherwise a one-line explanation.
    """

    status: str
    value: Any


class Gone(Exception):
    """The worker's pipe is closed, or its reply is malformed."""


class _PlainData(pickle.Unpickler):
    """Unpickles only numbers, strings and containers: a worker has processed untrusted text."""

    def find_class(self, module_name: str, global_name: str, /) -> Any:
        raise pickle.UnpicklingError(f"a worker sent a {module_name}.{global_name}")


class WorkerProcess:
    """One process and its pipes; used by one thread at a time."""

    def __init__(self, job: tuple[Any, ...], *, timeout: float, memory: int, max_reply: int) -> None:
        env = worker_environment(os.environ)
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
        self._setup = {"job": job, "timeout": timeout, "memory": memory, "max_reply": max_reply}
        self._max_reply, self._number, self._ended = max_reply, 0, False

    def start(self, limit: float) -> Reply:
        """Send the job and wait until the worker is ready."""
        return self.ask(self._setup, limit)

    def ask(self, message: Any, limit: float) -> Reply:
        """Send one message and wait for its reply for at most `limit` seconds.

        Raises:
            TimeoutError: it took longer.
            Gone: the process ended, or what came is not its reply to this message.
        """
        deadline = time.monotonic() + limit
        self._number += 1
        token = secrets.token_bytes(TOKEN_BYTES)
        body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
        self._write(HEADER.pack(len(body), self._number, token) + body, deadline)
        size, number, found = HEADER.unpack(self._read(HEADER.size, deadline))
        if number != self._number or not hmac.compare_digest(token, found):
            raise Gone("a reply that is not the worker's to this request")
        if size > self._max_reply:
            raise Gone(f"a reply of {size:,} bytes")
        try:
            return Reply(*_PlainData(io.BytesIO(self._read(size, deadline))).load())
        except (pickle.UnpicklingError, EOFError, TypeError, ValueError, IndexError, AttributeError) as e:
            raise Gone(f"malformed reply: {e}") from e

    @property
    def usable(self) -> bool:
        """Whether it runs and has written nothing that was not asked for."""
        poll = select.poll()
        poll.register(self._out, select.POLLIN)
        return self.process.poll() is None and not poll.poll(0)

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
                raise Gone from e

    def _read(self, size: int, deadline: float) -> bytes:
        data = bytearray()
        while len(data) < size:
            self._wait(self._out, select.POLLIN, deadline)
            try:
                piece = os.read(self._out, min(size - len(data), 1 << 20))
            except OSError as e:
                raise Gone from e
            if not piece:
                raise Gone
            data += piece
        return bytes(data)

    def kill(self) -> None:
        """Kill the process and its children, also where it has ended by itself. Thread-safe and idempotent."""
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if not self._ended:
                os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._ended = True  # from now on another process may have its number

    def dispose(self) -> None:
        """Kill the process and close its pipes; call only from the thread that uses it."""
        self.kill()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                pipe.close()
