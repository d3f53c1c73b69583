"""The event loop that an engine runs in a thread of its own."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Coroutine
from typing import Any


def stop_loop_thread(
    loop: asyncio.AbstractEventLoop, thread: threading.Thread, cleanup: Coroutine[Any, Any, None]
) -> None:
    """Run `last` on the loop of an engine's thread, then end the loop and the thread."""
    asyncio.run_coroutine_threadsafe(cleanup, loop).result()
    loop.call_soon_threadsafe(loop.stop)
    thread.join()
    loop.close()
