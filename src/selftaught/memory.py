"""Memory given back to the operating system."""

from __future__ import annotations

import ctypes
import gc
import sys
from contextlib import suppress


def give_back() -> None:
    """Return freed memory to the operating system.

    glibc keeps what a training or a batch freed in pieces, gigabytes of it, and the next phase, whose
    pieces have other sizes, takes more beside it.
    """
    gc.collect()
    trim()


def trim() -> None:
    """Return what is free already; cheap enough for between two steps of a training."""
    if sys.platform == "linux":
        with suppress(OSError, AttributeError):  # another C library
            ctypes.CDLL("libc.so.6").malloc_trim(0)
