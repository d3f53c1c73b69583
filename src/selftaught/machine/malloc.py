"""Return freed memory to the operating system, or keep it."""

from __future__ import annotations

import ctypes
import gc
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Any

TRIM_THRESHOLD, MMAP_THRESHOLD, MMAP_MAX = -1, -3, -4  # of mallopt(3)


def release_memory() -> None:
    """Return freed memory to the operating system.

    glibc keeps gigabytes that a training run or a batch freed, and the next phase, with blocks of other sizes,
    allocates more beside them.
    """
    gc.collect()
    trim()


def hold_memory() -> None:
    """Keep freed memory in the process until `unhold_memory`.

    glibc returns every block above 32 MB as it is freed, and the end of its heap; the next block of that size costs a
    page fault for every 4 kB. Training frees and allocates gigabytes at each step.
    """
    _malloc(lambda c: (c.mallopt(MMAP_MAX, 0), c.mallopt(TRIM_THRESHOLD, -1)))


def unhold_memory() -> None:
    """Restore glibc's usual thresholds, and return what is free."""
    _malloc(lambda c: (c.mallopt(MMAP_MAX, 2**16), c.mallopt(MMAP_THRESHOLD, 2**25), c.mallopt(TRIM_THRESHOLD, 2**26)))
    trim()


def trim() -> None:
    """Return free memory; what is needed again costs a page fault for every 4 kB."""
    _malloc(lambda c: c.malloc_trim(0))


def _malloc(act: Callable[[Any], object]) -> None:
    """Call glibc, if it is the C library."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            act(ctypes.CDLL("libc.so.6"))
