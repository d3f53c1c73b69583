"""Which requests may be sent: none any more once a failure is known to affect all of them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from selftaught.engines.openai.failure_tracker import FailureTracker, stop_error

Task = asyncio.Task[Any]


class RequestGate:
    """Tracks the tasks of requests, and stops those not sent yet. For one event loop.

    Attributes:
        failures: what failed so far.
        stop_error: why no request is sent any more; None while they are. Forgotten with the last request.
    """

    def __init__(self) -> None:
        self.failures = FailureTracker()
        self.stop_error: BaseException | None = None
        self._tasks, self._in_flight, self._started = set[Task](), set[Task](), set[Task]()
        self._task_ended = asyncio.Event()

    @property
    def num_in_flight(self) -> int:
        """Number of requests that are sent and not answered yet."""
        return len(self._in_flight)

    @contextmanager
    def request(self) -> Iterator[None]:
        """Track the current task as a request."""
        task = _current_task()
        self._tasks.add(task)
        try:
            yield
        finally:
            self._tasks.discard(task)
            self._started.discard(task)
            self._task_ended.set()  # wakes those in `wait_while_suspected`
            self._task_ended = asyncio.Event()
            if not self._tasks:
                self.stop_error = None
                self.failures.reset()

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Mark the current task as sent: it may be billed, and is not cancelled."""
        task = _current_task()
        self._in_flight.add(task)
        try:
            yield
        finally:
            self._in_flight.discard(task)

    def stop(self, reason: BaseException) -> None:
        """Cancel all current requests that are not in flight; those in flight may be billed, and are awaited."""
        if not self._tasks:
            return
        self.stop_error = self.stop_error or reason
        for task in self._tasks - self._in_flight - {asyncio.current_task()}:
            task.cancel()

    async def wait_while_suspected(self) -> None:
        """Before a request is sent for the first time: wait while a failure may affect every request.

        Raises:
            BadInput: it does.
        """
        while self.failures.suspected is not None and self._started:
            await self._task_ended.wait()
        if self.failures.suspected is not None:
            raise stop_error(self.failures.suspected)
        self._started.add(_current_task())


def _current_task() -> Task:
    task = asyncio.current_task()
    assert task is not None
    return task
