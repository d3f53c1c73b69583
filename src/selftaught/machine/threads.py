"""The threads that torch computes with: how many, how they wait, and one team of them at a time.

Each thread that calls torch gets a team of OpenMP's for itself, and the team stays when the work is done. GNU's OpenMP
has a team wait actively for its next part only while all teams together are no more than the processors. So where one
thread samples and another one trains, each would have the kernel wake its team for every product, which small models
feel most (`python -m bench.tiny` does both in one process). Whoever stops computing for a while dismisses its team,
therefore, and makes a new one when it goes on.

By default such a team waits actively for some 10 ms. On a machine with other work that is the worst that it can do:
the threads that wait take the processor from the one that they wait for. A command therefore has them wait actively
only for as long as the next part of a product usually takes to come (`use_short_spin`), and sleep after that.
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
SPIN_COUNT = "200"  # turns that a thread waits actively before it sleeps: some microseconds; 300,000 by default


_thread_count: list[int] = []  # how many threads `set_num_threads` was asked for, last


def use_short_spin() -> None:
    """Have threads without work sleep soon. Only before torch is loaded; what the user has set himself stands."""
    if "torch" not in sys.modules and "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", SPIN_COUNT)


def use_passive_wait() -> None:
    """Have threads without work sleep at once: where several processes share the processors. Only before torch."""
    os.environ["GOMP_SPINCOUNT"] = "0"


def set_num_threads(count: int) -> None:
    """Compute with so many threads, in this process and in those that it starts; before torch is loaded or after."""
    _thread_count[:] = [count]
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        os.environ[name] = str(count)
    if "torch" in sys.modules:
        sys.modules["torch"].set_num_threads(count)


def num_cores() -> int:
    """How many processors there are to compute with: as many as this process may use, or as `set_num_threads` says."""
    if _thread_count:
        return _thread_count[-1]
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def releasing_threads() -> Iterator[None]:
    """Dismiss the team at the end, whatever the end is; also a decorator."""
    try:
        yield
    finally:
        release_threads()


def release_threads() -> None:
    """Have the calling thread's team end; without effect where OpenMP is not GNU's, or nobody has computed yet."""
    if "torch" in sys.modules:
        _pause_function()(PAUSE_SOFT)


@cache
def _pause_function() -> Callable[[int], int]:
    """`omp_pause_resource_all` of the library that torch has loaded, or something that does nothing."""
    try:
        paths = {line.split()[-1] for line in MAPS.read_text("utf-8").splitlines() if "libgomp" in line}
        pauses = [ctypes.CDLL(path).omp_pause_resource_all for path in paths]
    except (OSError, AttributeError):  # another system, or a library from before OpenMP 5
        pauses = []
    return lambda kind: max((pause(kind) for pause in pauses), default=0)
