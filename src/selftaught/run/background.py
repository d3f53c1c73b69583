"""The event loop of a run, in a thread of its own, so that it also works inside a notebook's."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable, Collection, Coroutine
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import suppress
from typing import Any, NamedTuple, TypeVar

from selftaught.errors import BadInput

T = TypeVar("T")

VERIFIER_THREADS = min(32, (os.cpu_count() or 1) + 4)  # threads that wait for verdicts
SIGNAL_SECONDS = 0.1  # how late an interrupt may be noticed
GRACE_SECONDS = 4.0  # that answers in progress are awaited after an interrupt, unless there is another
GRACE_VARIABLE = "SELFTAUGHT_GRACE_SECONDS"
"""Environment variable with another number of seconds, where answers take long and are dear."""


class BackgroundLoop:
    """Runs coroutines on an event loop in a daemon thread; blocking calls in them go to a thread pool."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._pool = ThreadPoolExecutor(VERIFIER_THREADS, "selftaught-verify")
        self._loop.set_default_executor(self._pool)
        self._thread = threading.Thread(target=self._loop.run_forever, name="selftaught-run", daemon=True)
        self._thread.start()

    def run(self, work: Coroutine[Any, Any, T], drain: Callable[[], bool] | None = None) -> T:
        """Wait for a coroutine, and return its result; an interrupt cancels it.

        Args:
            drain: called at an interrupt, to let nothing new begin; if it returns True, what is in progress gets
                `grace_seconds()` to end, or until the next interrupt.

        Raises:
            BadInput: called from the loop's own thread, by a solver or a judge that uses the run.
        """
        if threading.current_thread() is self._thread:
            work.close()
            what = "a solver or a judge cannot use the run that calls it"
            raise BadInput(what, where="run", fix="sample with its `ask`")
        over = threading.Event()

        async def whole() -> T:
            try:
                return await work
            finally:
                over.set()

        future = asyncio.run_coroutine_threadsafe(whole(), self._loop)
        try:
            # In pieces: the system may hand a signal to any thread, and a main thread that waits without end
            # would run its handler only when there is nothing left to interrupt.
            while not wait([future], timeout=SIGNAL_SECONDS).done:
                pass
            return future.result()
        except BaseException as error:
            if isinstance(error, KeyboardInterrupt) and not future.done() and drain and drain():
                _await_until(future, time.monotonic() + grace_seconds())
            if future.cancel():  # interrupted: let the loop wind up before anything is closed
                over.wait(timeout=5.0)
            raise

    def stop_pool(self) -> None:
        """Start no further blocking call."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def close(self) -> None:
        """Stop the loop and its thread; closing twice is harmless."""
        if self._thread.is_alive():
            with suppress(TimeoutError):  # a solver that cannot be cancelled is abandoned
                asyncio.run_coroutine_threadsafe(cancel_all(), self._loop).result(timeout=5.0)
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def grace_seconds() -> float:
    """How long answers in progress are awaited after an interrupt: `GRACE_VARIABLE`, or `GRACE_SECONDS`."""
    try:
        return max(0.0, float(os.environ[GRACE_VARIABLE]))
    except (KeyError, ValueError):
        return GRACE_SECONDS


def _await_until(future: Future[Any], deadline: float) -> None:
    """Wait for a future, in pieces, until a time or the next interrupt."""
    with suppress(KeyboardInterrupt):
        while time.monotonic() < deadline and not wait([future], timeout=SIGNAL_SECONDS).done:
            pass


async def call_in_thread(make: Callable[[], T], seconds: float) -> T:
    """Call a function in a thread of its own, which keeps no process from ending if it never returns.

    Raises:
        DeadlineExceeded: it did not return in time.
    """
    loop, found = asyncio.get_running_loop(), asyncio.get_running_loop().create_future()

    def settle(result: Any, error: BaseException | None) -> None:
        if found.done():
            return
        if error is None:
            found.set_result(result)
        else:
            found.set_exception(error)

    def work() -> None:
        result, failure = None, None
        try:
            result = make()
        except BaseException as error:
            failure = error
        with suppress(RuntimeError):  # the loop is closed: nobody waits
            loop.call_soon_threadsafe(settle, result, failure)

    threading.Thread(target=work, name="selftaught-call", daemon=True).start()
    done, _ = await asyncio.wait([found], timeout=seconds)
    if not done:
        raise DeadlineExceeded
    return found.result()


class DeadlineExceeded(Exception):
    """A call did not return in time."""


class _Shared(NamedTuple):
    task: asyncio.Task[Any]
    waiting: list[None]  # an entry for each caller


class SharedTasks:
    """Awaits `make()` once per key; concurrent callers share the result. Cancelled once nobody waits for it."""

    def __init__(self) -> None:
        self._running: dict[str, _Shared] = {}

    async def __call__(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Return or raise what `make` does. Cancelling one caller does not disturb the others."""
        if (shared := self._running.get(key)) is None:
            shared = self._running[key] = _Shared(asyncio.ensure_future(make()), [])
        shared.waiting.append(None)
        try:
            await asyncio.wait([shared.task])
            return shared.task.result()
        finally:
            shared.waiting.pop()
            if not shared.waiting:
                self._running.pop(key, None)
                if not (shared.task.done() and (shared.task.cancelled() or shared.task.exception() is None)):
                    await cancel([shared.task])


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel unfinished tasks, wait for them, and retrieve their exceptions, which nobody else will."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def cancel_all() -> None:
    """Cancel all other tasks of the running loop."""
    await cancel([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
