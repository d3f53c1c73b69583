"""Processes that work for another one, and end with it."""

from __future__ import annotations

import multiprocessing
import os
from multiprocessing.process import BaseProcess
from threading import Thread


def end_with_parent() -> None:
    """End this process as soon as the one that started it is gone, however that ended; called in a pool's process.

    A pool cannot stop its processes when its own is killed. They would go on with what they were given, hold the locks
    of its runs, and take a processor each.
    """
    if parent := multiprocessing.parent_process():
        Thread(target=_end_after, args=(parent,), name="end-with-parent", daemon=True).start()


def _end_after(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)
