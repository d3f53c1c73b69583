"""The process that runs untrusted code for the main process: `python -m selftaught.feedback.worker`.

It reads length-prefixed pickles from its parent (first the setup of a job, then one payload per request) and
answers each with a length-prefixed pickle of plain data, under the number and the random token of the request.
Verifiers may hang, print, exit or exhaust memory here, and write to any open file: without the token that is no reply.
(Code that searches this process's memory for the token can forge one; it could as well change the verifier.)

The process ends with its parent, even if a verifier is busy at that moment. Two mechanisms ensure it:
a thread that waits for end of file on the request pipe, and ends the whole process group; and, for code that never lets
another thread run, `faulthandler`'s timer, which needs no interpreter lock and ends this process alone.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import queue
import signal
import struct
import sys
import threading
from typing import Any, BinaryIO, NamedTuple

TOKEN_BYTES = 16
HEADER = struct.Struct(f">QQ{TOKEN_BYTES}s")
"""Length of the message, number of the request, its token."""


class _Request(NamedTuple):
    """A message from the parent, with what its reply must carry."""

    number: int
    token: bytes
    body: bytes


def _reply(pipe: BinaryIO, request: _Request, message: tuple[str, Any], max_reply: int) -> None:
    """Write the reply to a request, in one piece."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    if len(body) > max_reply:
        what = f"a result of {len(body):,} bytes, of which at most {max_reply:,} are read"
        body = pickle.dumps(("raised", what), protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(HEADER.pack(len(body), request.number, request.token) + body)
    pipe.flush()


def _read_exactly(pipe: BinaryIO, size: int) -> bytes | None:
    body = pipe.read(size)
    return body if len(body) == size else None


def _receive(pipe: BinaryIO, inbox: queue.SimpleQueue[_Request]) -> None:
    """Feed the inbox until the parent closes the pipe or dies; then end the process and its children at once."""
    while (head := _read_exactly(pipe, HEADER.size)) is not None:
        size, number, token = HEADER.unpack(head)
        body = _read_exactly(pipe, size)
        if body is None:
            break
        inbox.put(_Request(number, token, body))
    if os.getpgrp() == os.getpid():  # its own group, as its parent has started it
        os.killpg(0, signal.SIGKILL)
    os._exit(0)


def _limit(memory: int) -> None:
    """Limit the process's data segment, so that a greedy verifier gets a MemoryError and nothing else is affected."""
    import contextlib
    import resource

    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _pipes() -> tuple[BinaryIO, BinaryIO]:
    """Reserve the two pipes, so that nothing a verifier prints or reads can reach them."""
    requests, replies = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(null, 1)
    os.close(null)
    return os.fdopen(requests, "rb"), os.fdopen(replies, "wb")


def _answer(job: Any, body: bytes) -> tuple[str, Any]:
    try:
        return "ok", job(pickle.loads(body))
    except MemoryError:
        return "raised", "MemoryError: over the memory limit"
    except BaseException as e:  # sys.exit() too must not end the worker
        return "raised", f"{type(e).__name__}: {e}"[:500]


def worker_main() -> None:
    """Serve requests until the parent closes the pipe."""
    requests, replies = _pipes()
    inbox: queue.SimpleQueue[_Request] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, inbox), daemon=True).start()
    first = inbox.get()
    setup = pickle.loads(first.body)
    limit = setup["max_reply"]
    _limit(setup["memory"])
    try:
        from selftaught.feedback.jobs import make_job

        job = make_job(*setup["job"])
    except BaseException as e:
        _reply(replies, first, ("failed", f"{type(e).__name__}: {e}"[:500]), limit)
        return
    _reply(replies, first, ("ready", None), limit)
    while True:
        request = inbox.get()
        # normally the parent kills the process first; this applies if the parent is gone
        faulthandler.dump_traceback_later(setup["timeout"] + 2, exit=True, file=sys.stderr)
        answer = _answer(job, request.body)
        faulthandler.cancel_dump_traceback_later()
        _reply(replies, request, answer, limit)


if __name__ == "__main__":
    worker_main()
