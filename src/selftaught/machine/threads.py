"""The threads of torch: how many, how they wait, and one team at a time.

Each thread that calls torch gets an OpenMP team of its own, which stays when the work is done. GNU's OpenMP lets a team
spin while waiting only if all teams together have no more threads than there are processors. If one thread samples and
another one trains, the kernel would have to wake a team for every product, which slows down small models most. A
thread that stops computing for a while therefore releases its team, and gets a new one when it continues.

By default a team spins for some 10 ms. On a machine with other load, spinning threads take the processor from the
thread that they wait for. A command therefore limits spinning to the usual gap between two parts of a product
(`use_short_spin`), after which threads sleep.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

MAPS = Path("/proc/self/maps")
PAUSE_SOFT = 1  # omp_pause_soft
SPIN_COUNT = "200"  # iterations before a thread sleeps: some microseconds; GNU's default is 300,000


_thread_count: list[int] = []  # the last value of `set_num_threads`


def use_short_spin() -> None:
    """Let idle threads sleep soon. Only before torch is loaded; does not override the user's own settings."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def use_passive_wait() -> None:
    """Let idle threads sleep at once, if several processes share the processors. Only before torch is loaded."""
    os.environ["GOMP_SPINCOUNT"] = "0"


def set_num_threads(count: int) -> None:
    """Set the number of threads of this process and its children, before or after torch is loaded."""
    _thread_count[:] = [count]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def num_cores() -> int:
    """Number of processors that this process may use, or the value of `set_num_threads`."""
    if _thread_count:
        return _thread_count[-1]
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def releasing_threads() -> Iterator[None]:
    """Release the team at the end, also after an exception; can be used as a decorator."""
    try:
        yield
    finally:
        release_threads()


def release_threads() -> None:
    """End the calling thread's team; no effect if OpenMP is not GNU's, or torch is not loaded."""
    if "torch" in sys.modules:
        _pause_function()(PAUSE_SOFT)


@cache
def _pause_function() -> Callable[[int], int]:
    """`omp_pause_resource_all` of the library that torch has loaded, or a no-op."""
    try:
        paths = {line.split()[-1] for line in MAPS.read_text("utf-8").splitlines() if "libgomp" in line}
        pauses = [ctypes.CDLL(path).omp_pause_resource_all for path in paths]
    except (OSError, AttributeError):  # another system, or a library from before OpenMP 5
        pauses = []
    return lambda kind: max((pause(kind) for pause in pauses), default=0)
