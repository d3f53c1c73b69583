"""Replay: records of earlier rounds among the new ones, against forgetting."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from selftaught.errors import BadInput

T = TypeVar("T")


def mixed(new: Sequence[T], earlier: Sequence[T], share: float, seed: int = 0) -> list[T]:
    """All of `new`, and as many of `earlier`, drawn without replacement, as make up `share` of the whole.

    Where there are fewer than that, all of them. Methods of continual training replay 1 to 50 % (Ibrahim et al.,
    2403.08763, section 4). The new records come first; the trainer shuffles.

    Args:
        share: of earlier records in what is returned, at least 0 and less than 1.
        seed: of the draw.

    Raises:
        BadInput: a share out of its range.
    """
    if not 0 <= share < 1:
        raise BadInput(f"got {share}", where="share", fix="use at least 0 and less than 1")
    wanted = round(len(new) * share / (1 - share))
    kept = list(earlier)
    return [*new, *random.Random(seed).sample(kept, min(wanted, len(kept)))]
