"""Work on an event loop that several wait for, and that nobody leaves behind."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Coroutine
from typing import Any, NamedTuple, TypeVar

T = TypeVar("T")


class Work(NamedTuple):
    """What is under way, and an entry for each that waits for it."""

    task: asyncio.Task[Any]
    waiting: list[None]


class SharedTasks:
    """Makes a thing once, however many ask for it at the same time, and gives it up once nobody waits for it."""

    def __init__(self) -> None:
        self._under_way: dict[str, Work] = {}

    async def __call__(self, key: str, make: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """What `make` returns or raises. One that is cancelled takes nothing from the others that wait."""
        if (work := self._under_way.get(key)) is None:
            work = self._under_way[key] = Work(asyncio.ensure_future(make()), [])
        work.waiting.append(None)
        try:
            await asyncio.wait([work.task])
            return work.task.result()
        finally:
            work.waiting.pop()
            if not work.waiting:
                self._under_way.pop(key, None)
                if not (work.task.done() and (work.task.cancelled() or work.task.exception() is None)):
                    await cancel([work.task])


async def cancel(tasks: Collection[asyncio.Task[Any]]) -> None:
    """Cancel what is not done, wait until it is, and look at what failed: nobody else will."""
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def cancel_all() -> None:
    """End all other tasks of the running loop."""
    await cancel([task for task in asyncio.all_tasks() if task is not asyncio.current_task()])
