"""Split a step's groups into forward passes with a token limit."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from selftaught.learn.forward import can_pack, row_tokens
from selftaught.learn.kernels.packing import packed_tokens
from selftaught.learn.objectives.base import Group


def microbatches(model: Any, batch: Sequence[Group], max_tokens: int) -> list[list[Group]]:
    """Split `batch` into as few, evenly filled parts as have at most `max_tokens` tokens each in the forward pass.

    A group is never split, and always fits.
    """
    return _packed(batch, max_tokens) if can_pack(model) else _padded(batch, max_tokens)


def _padded(batch: Sequence[Group], max_tokens: int) -> list[list[Group]]:
    """Groups of similar length together, as they are padded to the longest."""
    groups = sorted(batch, key=_longest)
    fewest = len(_split(groups, max_tokens))
    if fewest == 1:
        return [groups]
    rows = sum(map(len, groups))
    limits = sorted({(i + 1) * _longest(group) for group in groups for i in range(rows)})
    return next(parts for limit in limits if len(parts := _split(groups, limit)) <= fewest)


def _packed(batch: Sequence[Group], max_tokens: int) -> list[list[Group]]:
    """The largest group first, each to the part that has the fewest tokens."""
    sizes = sorted(((packed_tokens(group), i) for i, group in enumerate(batch)), reverse=True)
    for count in range(max(1, math.ceil(sum(size for size, _ in sizes) / max_tokens)), len(batch) + 1):
        held, parts = [0] * count, [[] for _ in range(count)]
        for size, i in sizes:
            at = held.index(min(held))
            held[at] += size
            parts[at].append(batch[i])
        if max(held) <= max_tokens:
            return parts
    return [[group] for group in batch]


def _longest(group: Group) -> int:
    return max(map(row_tokens, group))


def _split(groups: list[Group], max_tokens: int) -> list[list[Group]]:
    """Split `groups`, sorted by their longest row, so that no part, padded, has more than `max_tokens` tokens."""
    parts: list[list[Group]] = []
    held = 0
    for group in groups:
        if parts and (held + len(group)) * _longest(group) <= max_tokens:
            parts[-1].append(group)
            held += len(group)
        else:
            parts.append([group])
            held = len(group)
    return parts
