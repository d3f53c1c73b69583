"""Memory given back to the operating system, or kept from it."""

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

    glibc keeps what a training or a batch freed in pieces, gigabytes of it, and the next phase, whose
    pieces have other sizes, takes more beside it.
    """
    gc.collect()
    trim()


def hold_memory() -> None:
    """From now on, until `let_go`, what is freed stays with the process, ready for whatever comes next of any size.

    glibc returns every piece above 32 MB as it is freed, and the end of its heap; the next piece of that size costs a
    page fault for every 4 kB. A training frees and takes gigabytes at each step.
    """
    _malloc(lambda c: (c.mallopt(MMAP_MAX, 0), c.mallopt(TRIM_THRESHOLD, -1)))


def unhold_memory() -> None:
    """Free as glibc does of itself once it has seen large pieces come and go, and return what is free already."""
    _malloc(lambda c: (c.mallopt(MMAP_MAX, 2**16), c.mallopt(MMAP_THRESHOLD, 2**25), c.mallopt(TRIM_THRESHOLD, 2**26)))
    trim()


def trim() -> None:
    """Return what is free already; what is needed again costs a page fault for every 4 kB."""
    _malloc(lambda c: c.malloc_trim(0))


def _malloc(act: Callable[[Any], object]) -> None:
    """Do something with glibc, where it is the C library."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):
            act(ctypes.CDLL("libc.so.6"))
