"""What each row sampled: keys and values in blocks of a few tokens (PagedAttention, arXiv:2309.06180).

A row takes a block when it needs one and gives all back at its end, so memory and time go with the tokens there are,
not with the longest row. Attention multiplies the blocks where they lie; only queries, scores and sums change places.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selftaught.engines.local.flash import attention
from selftaught.engines.local.kv_cache import CHUNK, Rows

GAPS = 5  # gaps are closed where they are more than one block in so many


@dataclass(slots=True, eq=False)
class Tail:
    """The tokens of one row: which blocks of the store hold them, in order."""

    blocks: list[int] = field(default_factory=list)

    @property
    def room(self) -> int:
        """Tokens there is memory for."""
        return len(self.blocks) * CHUNK


class Tails:
    """The blocks in use, at the front of the store, with few gaps.

    Args:
        store: an empty cache; its rows become the blocks.
    """

    def __init__(self, store: Rows) -> None:
        self.store = store
        self._holders: list[Tail | None] = []  # of each block; None of a gap
        self._gaps: list[int] = []

    @property
    def reach(self) -> int:
        """Blocks up to the last in use."""
        return len(self._holders)

    @property
    def tokens(self) -> int:
        """Tokens there is memory for."""
        return self.store.size[0] * CHUNK

    def lengthen(self, tails: Sequence[Tail], most: int) -> None:
        """Give each of `tails` one block more.

        Args:
            most: blocks that the store should not outgrow, where what is in use fits in as many.
        """
        need = self.reach + max(0, len(tails) - len(self._gaps))
        if need > self.store.size[0] or self.store.size[0] > max(need, most):
            self.store.resize(max(need, min(need * 5 // 4, most)), CHUNK)
        for tail in tails:
            if not self._gaps:
                self._gaps.append(self.reach)
                self._holders.append(None)
            block = self._gaps.pop()
            tail.blocks.append(block)
            self._holders[block] = tail

    def drop(self, tails: Sequence[Tail]) -> None:
        """Free the blocks of `tails`."""
        for tail in tails:
            for block in tail.blocks:
                self._holders[block] = None
            self._gaps += tail.blocks
            tail.blocks.clear()
        if len(self._gaps) * GAPS > self.reach:
            self._close()

    def _close(self) -> None:
        """Move the last blocks in use into the gaps."""
        left = self.reach - len(self._gaps)
        gaps = [block for block in self._gaps if block < left]
        movers = [block for block in range(left, self.reach) if self._holders[block]]
        if gaps:
            for layer in self.store.layers:
                layer[:, gaps] = layer[:, movers]
        for gap, mover in zip(gaps, movers, strict=True):
            tail = self._holders[gap] = self._holders[mover]
            assert tail is not None
            tail.blocks[tail.blocks.index(mover)] = gap
        del self._holders[left:]
        self._gaps.clear()

    def take(self, tails: Sequence[Tail], lengths: Sequence[int]) -> list[Tensor]:
        """Copies of the first `lengths` tokens of tails: `[layers, 2, heads, tokens, head_dim]` each."""
        counts = [-(-length // CHUNK) for length in lengths]
        blocks = [b for tail, count in zip(tails, counts, strict=True) for b in tail.blocks[:count]]
        whole = torch.stack([layer[:, blocks] for layer in self.store.layers])  # [layers, 2, blocks, heads, CHUNK, dim]
        parts = zip(whole.split(counts, 2), lengths, strict=True)
        return [part.transpose(2, 3).flatten(3, 4)[..., :length, :] for part, length in parts]

    def wipe(self, tail: Tail) -> None:
        """Overwrite a tail with zeros."""
        for block in tail.blocks:
            self.store.wipe(block)


class Ends:
    """The tails of rows, arranged for attention: row i is the i-th of `tails`.

    Scores and weights of rows are `[rows, kv_heads, group, width]`, `group` being the query heads that share a
    key head.

    Args:
        tails: of each row, none without a block; as they are until one of them is lengthened or dropped.
    """

    def __init__(self, tails: Tails, rows: Sequence[Tail]) -> None:
        first, self._reach = tails.store.layers[0], tails.reach
        self._store, self.device, self.dtype = tails.store, first.device, first.dtype
        most = max(len(tail.blocks) for tail in rows)
        self._most, self.width = most, most * CHUNK
        reads = [0] * self._reach  # of each block, whose it is, as row * most + place among the row's blocks
        # Of each row its blocks; for those it lacks its first, masked there, or the zeros at the end.
        table: list[int] = []
        sums: list[int] = []
        for row, tail in enumerate(rows):
            lacks = most - len(tail.blocks)
            table += tail.blocks + tail.blocks[:1] * lacks
            sums += tail.blocks + [self._reach] * lacks
            for place, block in enumerate(tail.blocks):
                reads[block] = row * most + place
        self._plain = most == 1 and table == list(range(self._reach))
        self._reads, self._table, self._sums = (torch.tensor(x, device=self.device) for x in (reads, table, sums))
        self._owner = self._reads // most
        self._lacking = (self._sums == self._reach).view(-1, most, 1, 1)
        self._first = torch.arange(len(rows), device=self.device) * most

    def scores(self, layer: int, query: Tensor) -> Tensor:
        """Products of queries `[rows, kv_heads, group, head_dim]` with the keys of each row's own tokens."""
        keys = self._store.layers[layer][0, : self._reach].transpose(-1, -2)
        if self._plain:
            return query @ keys
        rows, heads, group, _ = query.shape
        products = query.index_select(0, self._owner) @ keys
        apart = products.index_select(0, self._table).view(rows, self._most, heads, group, CHUNK)
        return apart.permute(0, 2, 3, 1, 4).reshape(rows, heads, group, self.width)

    def mixed(self, layer: int, weights: Tensor) -> Tensor:
        """The values of each row's own tokens, summed under `weights`."""
        values = self._store.layers[layer][1, : self._reach]
        if self._plain:
            return weights @ values
        rows, heads, group, _ = weights.shape
        apart = weights.view(rows, heads, group, self._most, CHUNK).permute(0, 3, 1, 2, 4)
        apart = apart.reshape(rows * self._most, heads, group, CHUNK).index_select(0, self._reads)
        products = torch.cat([apart @ values, values.new_zeros((1, heads, group, values.shape[-1]))])
        # Summed in the order of the tokens, wherever their blocks lie: the same in any company.
        return products.index_select(0, self._sums).view(rows, self._most, heads, group, -1).sum(1)

    def at(self, places: Tensor) -> Tensor:
        """Where each row's place `[rows]` lies, head by head, were all the store's vectors in one list."""
        heads = self._store.layers[0].shape[2]
        blocks = self._table[self._first + places // CHUNK]
        first = (blocks * heads)[:, None] + torch.arange(heads, device=self.device)
        return (first * CHUNK + (places % CHUNK)[:, None]).flatten()

    def write(self, layer: int, key: Tensor, value: Tensor, at: Tensor) -> None:
        """Write `[rows, 1, kv_heads, head_dim]`, each where `at` says."""
        for stored, new in zip(self._store.layers[layer], (key, value), strict=True):
            size = stored.shape[-1]
            stored.view(-1, size).index_copy_(0, at, new.reshape(-1, size))

    def piece(self, layer: int, query: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attention to the blocks of each row, each for itself; see `flash.attention`.

        Args:
            mask: as `masked` makes it.

        Returns:
            `[rows, blocks, kv_heads, group, head_dim]`, and without the last dimension.
        """
        keys, values = self._store.layers[layer][:, : self._reach]
        if self._plain:
            found, sums = attention(query, keys, values, mask)
            return found[:, None], sums[:, None]
        found, sums = attention(query.index_select(0, self._owner), keys, values, mask)
        shape = (len(query), self._most, *query.shape[1:3])
        found = found.index_select(0, self._table).view(*shape, -1)
        return found, sums.index_select(0, self._table).view(shape).masked_fill(self._lacking, -torch.inf)

    def masked(self, hidden: Tensor, group: int) -> Tensor:
        """An additive mask `[rows, width]` as `piece` takes it."""
        apart = hidden.reshape(-1, CHUNK).index_select(0, self._reads)[:, None, None]
        return apart.expand(-1, 1, group, CHUNK).contiguous()

    def rows(self, layer: int) -> tuple[Tensor, Tensor]:
        """Keys and values of each row's own tokens, copied: `[rows, kv_heads, width, head_dim]`."""
        both = self._store.layers[layer][:, self._table.view(-1, self._most)]  # [2, rows, blocks, heads, CHUNK, dim]
        keys, values = both.transpose(2, 3).flatten(3, 4)
        return keys, values
