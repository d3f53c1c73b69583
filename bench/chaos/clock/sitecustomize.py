"""A wall clock that steps: loaded by Python at its start where this folder is on its path."""

import os
import random
import time

STEPS = random.Random(os.environ.get("CHAOS_CLOCK", "0"))
_real = time.time
_offset = 0.0


def stepping() -> float:
    """The time, which now and then jumps by up to a day, back or forth."""
    global _offset
    if STEPS.random() < 0.05:
        _offset = STEPS.uniform(-86_400, 86_400)
    return _real() + _offset


time.time = stepping
