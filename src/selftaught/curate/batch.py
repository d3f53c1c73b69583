"""The problems of a round."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import cycle, islice
from typing import TypeVar

T = TypeVar("T")


def round_batch(problems: Sequence[T], size: int, number: int) -> list[T]:
    """The problems of round `number`, from 1: the next `size` of them, starting over after the last.

    A batch never holds a problem twice: it is cut to the number of problems.
    """
    size = max(0, min(size, len(problems)))
    return list(islice(cycle(problems), (number - 1) * size, number * size))
