"""The process that runs untrusted code for the main process: `python -m selftaught.feedback.worker`.

It reads length-prefixed pickles from its parent (first the setup of a job, then one payload per request) and
answers each with a length-prefixed pickle of plain data. Verifiers may hang, print, exit or exhaust memory here.

The process ends with its parent, even if a verifier is busy at that moment. Two mechanisms ensure it:
a thread that waits for end of file on the request pipe, and, for code that never lets another thread run,
`faulthandler`'s timer, which needs no interpreter lock. No signal is used.
"""

from __future__ import annotations

import faulthandler
import os
import pickle
import queue
import struct
import sys
import threading
from typing import Any, BinaryIO

HEADER = struct.Struct(">Q")
MAX_FRAME = 256 << 20


def write_frame(pipe: BinaryIO, message: Any) -> None:
    """Write one message to a pipe, in one piece."""
    body = pickle.dumps(message, protocol=pickle.HIGHEST_PROTOCOL)
    pipe.write(HEADER.pack(len(body)) + body)
    pipe.flush()


def _read_exactly(pipe: BinaryIO, size: int) -> bytes | None:
    body = pipe.read(size)
    return body if len(body) == size else None


def _receive(pipe: BinaryIO, inbox: queue.SimpleQueue[Any]) -> None:
    """Feed the inbox until the parent closes the pipe or dies; then end the process at once."""
    while (head := _read_exactly(pipe, HEADER.size)) is not None:
        body = _read_exactly(pipe, HEADER.unpack(head)[0])
        if body is None:
            break
        inbox.put(body)
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
    inbox: queue.SimpleQueue[Any] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(requests, inbox), daemon=True).start()
    setup = pickle.loads(inbox.get())
    _limit(setup["memory"])
    try:
        from selftaught.feedback.jobs import make_job

        job = make_job(*setup["job"])
    except BaseException as e:
        write_frame(replies, ("failed", f"{type(e).__name__}: {e}"[:500]))
        return
    write_frame(replies, ("ready", None))
    while True:
        body = inbox.get()
        # normally the parent kills the process first; this applies if the parent is gone
        faulthandler.dump_traceback_later(setup["timeout"] + 2, exit=True, file=sys.stderr)
        reply = _answer(job, body)
        faulthandler.cancel_dump_traceback_later()
        write_frame(replies, reply)


if __name__ == "__main__":
    worker_main()
