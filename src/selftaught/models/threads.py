"""The threads that torch computes with: one team of them at a time.

Each thread that calls torch gets a team of OpenMP's for itself, and the team stays when the work is done. GNU's OpenMP
has a team wait actively for its next part only while all teams together are no more than the processors. So where one
thread samples and another one trains, each would have the kernel wake its team for every product, which small models
feel most (`python -m bench.tiny` does both in one process). Whoever stops computing for a while dismisses its team,
therefore, and makes a new one when it goes on.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

MAPS = Path("/proc/self/maps")
SOFT = 1  # omp_pause_soft


@contextmanager
def dismissing() -> Iterator[None]:
    """Dismiss the team at the end, whatever the end is; also a decorator."""
    try:
        yield
    finally:
        dismiss()


def dismiss() -> None:
    """Have the calling thread's team end; without effect where OpenMP is not GNU's, or nobody has computed yet."""
    if "torch" in sys.modules:
        _pause()(SOFT)


@cache
def _pause() -> Callable[[int], int]:
    """`omp_pause_resource_all` of the library that torch has loaded, or something that does nothing."""
    try:
        paths = {line.split()[-1] for line in MAPS.read_text("utf-8").splitlines() if "libgomp" in line}
        pauses = [ctypes.CDLL(path).omp_pause_resource_all for path in paths]
    except (OSError, AttributeError):  # another system, or a library from before OpenMP 5
        pauses = []
    return lambda kind: max((pause(kind) for pause in pauses), default=0)
