"""An event loop in a thread of its own, for engines that talk to servers."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class LoopThread:
    """An event loop that starts with the first coroutine submitted, in a daemon thread.

    Args:
        name: of the thread.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop | None:
        """The loop; None before the first coroutine was submitted."""
        return self._loop

    def start(self) -> asyncio.AbstractEventLoop:
        """Start the thread unless it runs, and return its loop."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name=self._name, daemon=True)
            self._thread.start()
        return self._loop

    def stop(self, cleanup: Coroutine[Any, Any, None]) -> None:
        """Run `cleanup` on the loop, then end loop and thread. Idempotent."""
        thread, self._thread = self._thread, None
        if thread is None or self._loop is None:
            cleanup.close()
            return
        asyncio.run_coroutine_threadsafe(cleanup, self._loop).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        thread.join()
        self._loop.close()


async def cancel_other_tasks() -> None:
    """Cancel every other task of the running loop, and wait until they have ended."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)
