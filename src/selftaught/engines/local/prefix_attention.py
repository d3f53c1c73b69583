"""Attention of many rows to shared prefixes: one product for all rows of a prefix (Hydragen, arXiv:2402.05099)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from selftaught.engines.local.flash import flash_attention
from selftaught.engines.local.kv_cache import KVCache


@dataclass(frozen=True, slots=True)
class _SlotGroup:
    """Contiguous prefixes with similar fan-out, padded to one batched matmul.

    Attributes:
        first: the first of `num_slots` slots.
        row_order: `[num_slots * rows_per_slot]` rows, grouped by slot and padded; None for all rows in order.
    """

    first: int
    num_slots: int
    rows_per_slot: int
    row_order: Tensor | None


class PrefixLevel:
    """Prefixes of one level, each in a slot of a cache, and the slot that each row reads.

    Scores and weights are `[rows, kv_heads, group, tokens]`, where `group` is the query heads that share a key head.

    Args:
        cache: its rows are the slots.
        slot_of_row: the slot of each row.
        lengths: how many tokens of it each row sees.
    """

    def __init__(self, cache: KVCache, slot_of_row: Sequence[int], lengths: Sequence[int]) -> None:
        self._cache, self.width = cache, cache.size[1]
        device = cache.layers[0].device
        self._slot_of_row = torch.tensor(slot_of_row, device=device)
        self.hidden = torch.arange(self.width, device=device) >= torch.tensor(lengths, device=device)[:, None]
        self._groups, back = _group_slots(slot_of_row, device)
        self._inverse = None if back is None else torch.tensor(back, device=device)

    def scores(self, layer: int, query: Tensor) -> Tensor:
        """Products of queries `[rows, kv_heads, group, head_dim]` with the keys of each row's slot."""
        keys = self._cache.layers[layer][0]
        return self._ungroup_rows(
            [q @ self._slots_of(part, keys).transpose(-1, -2) for part, q in self._group_rows(query)], query
        )

    def weighted_values(self, layer: int, weights: Tensor) -> Tensor:
        """The values of each row's slot, weighted and summed."""
        values = self._cache.layers[layer][1]
        return self._ungroup_rows([w @ self._slots_of(part, values) for part, w in self._group_rows(weights)], weights)

    def partial_attention(self, layer: int, query: Tensor, mask: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Attention to each row's slot only; see `flash_attention`.

        Args:
            mask: of `partial_mask`.

        Returns:
            `[rows, 1, kv_heads, group, head_dim]`, and without the last dimension.
        """
        keys, values = self._cache.layers[layer]
        pairs = [
            flash_attention(q, self._slots_of(part, keys), self._slots_of(part, values), own)
            for (part, q), own in zip(self._group_rows(query), mask, strict=True)
        ]
        found = self._ungroup_rows([one for one, _ in pairs], query)
        return found[:, None], self._ungroup_rows([sums for _, sums in pairs], query)[:, None, ..., 0]

    def partial_mask(self, mask: Tensor, group: int) -> list[Tensor]:
        """An additive mask `[rows, width]` in the layout of `partial_attention`."""
        return [mask for _, mask in self._group_rows(mask[:, None, None].expand(-1, 1, group, -1))]

    def gather(self, layer: int) -> tuple[Tensor, Tensor]:
        """Copies of keys and values of each row's slot: `[rows, kv_heads, tokens, head_dim]`."""
        keys, values = self._cache.layers[layer]
        return keys[self._slot_of_row], values[self._slot_of_row]

    def _slots_of(self, part: _SlotGroup, stored: Tensor) -> Tensor:
        return stored[part.first : part.first + part.num_slots]

    def _group_rows(self, x: Tensor) -> list[tuple[_SlotGroup, Tensor]]:
        """Group rows by slot: `[slots, kv_heads, rows_per_slot * group, n]` for each group of slots."""
        _, heads, group, n = x.shape
        found = []
        for part in self._groups:
            own = x if part.row_order is None else x.index_select(0, part.row_order)
            own = own.view(part.num_slots, part.rows_per_slot, heads, group, n).transpose(1, 2)
            found.append((part, own.reshape(part.num_slots, heads, part.rows_per_slot * group, n)))
        return found

    def _ungroup_rows(self, pieces: list[Tensor], like: Tensor) -> Tensor:
        """Undo `_group_rows`."""
        _, heads, group, _ = like.shape
        apart = []
        for part, piece in zip(self._groups, pieces, strict=True):
            split = piece.view(part.num_slots, heads, part.rows_per_slot, group, -1).transpose(1, 2)
            apart.append(split.reshape(part.num_slots * part.rows_per_slot, heads, group, -1))
        whole = apart[0] if len(apart) == 1 else torch.cat(apart)
        return whole if self._inverse is None else whole.index_select(0, self._inverse)


def sort_slots(slot_of_row: Sequence[int], num_slots: int) -> list[int] | None:
    """An order of the slots in which those with similar fan-out are contiguous, with as few moves as possible.

    Args:
        slot_of_row: the slot of each row.

    Returns:
        The slot for each place; None if the current order is good.
    """
    readers = [0] * num_slots
    for slot in slot_of_row:
        readers[slot] += 1
    if _is_balanced(readers):
        return None
    by_readers = sorted(range(num_slots), key=lambda slot: -readers[slot])
    runs = _balanced_runs([readers[slot] for slot in by_readers])
    if len(_balanced_runs(readers)) <= len(runs):
        return None
    order = list(range(num_slots))
    for run in (*runs, range(sum(map(len, runs)), num_slots)):
        slots = [by_readers[place] for place in run]
        movers = iter([slot for slot in slots if slot not in run])
        free = set(run) - set(slots)
        for place in run:
            order[place] = next(movers) if place in free else place
    return order


def _group_slots(slot_of_row: Sequence[int], device: torch.device) -> tuple[list[_SlotGroup], list[int] | None]:
    """Groups of slots with similar fan-out, and the index of each row in the concatenated groups."""
    members: list[list[int]] = [[] for _ in range(max(slot_of_row) + 1)]
    for row, slot in enumerate(slot_of_row):
        members[slot].append(row)
    readers = [len(rows) for rows in members]
    if len(members) == 1 or list(slot_of_row) == list(range(len(slot_of_row))):
        return [_SlotGroup(0, len(members), max(readers), None)], None
    parts, back, at = [], [0] * len(slot_of_row), 0
    for run in [range(len(members))] if _is_balanced(readers) else _balanced_runs(readers):
        width = max(readers[slot] for slot in run)
        order = []
        for slot in run:
            for place, row in enumerate(members[slot]):
                back[row] = at + len(order) + place
            order += members[slot] + [0] * (width - readers[slot])
        at += len(order)
        parts.append(_SlotGroup(run.start, len(run), width, torch.tensor(order, device=device)))
    return parts, back


def _is_balanced(readers: Sequence[int]) -> bool:
    """Whether padding all slots to the largest fan-out costs less than twice the work."""
    return len(readers) * max(readers) <= 2 * sum(readers)


def _balanced_runs(readers: Sequence[int]) -> list[range]:
    """Contiguous slots whose fan-out differs by at most a factor of two; slots without readers are left out."""
    runs: list[range] = []
    low = high = 0
    for slot, count in enumerate(readers):
        if count and runs and runs[-1].stop == slot and max(high, count) <= 2 * min(low, count):
            low, high = min(low, count), max(high, count)
            runs[-1] = range(runs[-1].start, slot + 1)
        elif count:
            low = high = count
            runs.append(range(slot, slot + 1))
    return runs
