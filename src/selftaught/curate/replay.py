"""Replay of earlier records among new ones, against forgetting."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

from selftaught.errors import BadInput

T = TypeVar("T")


def mix_replay(new: Sequence[T], earlier: Sequence[T], share: float, seed: int = 0) -> list[T]:
    """Add earlier records, drawn without replacement, until they make up `share` of the result.

    Adds all of them if there are too few. Methods of continual training replay 1 to 50 % (Ibrahim et al., 2403.08763,
    section 4). The new records come first; the trainer shuffles.

    Args:
        share: fraction of earlier records in the result, at least 0 and less than 1.
        seed: of the draw.

    Raises:
        BadInput: `share` is out of range.
    """
    if not 0 <= share < 1:
        raise BadInput(f"got {share}", where="share", fix="use at least 0 and less than 1")
    wanted = round(len(new) * share / (1 - share))
    kept = list(earlier)
    return [*new, *random.Random(seed).sample(kept, min(wanted, len(kept)))]
