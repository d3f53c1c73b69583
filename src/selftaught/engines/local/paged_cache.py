"""Keys and values of sampled tokens, in blocks of a few tokens (PagedAttention, arXiv:2309.06180).

A row allocates a block when it needs one and frees all at its end, so memory and time depend on the number of tokens,
not on the longest row. Attention reads the blocks in place; only queries, scores and sums are permuted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from selftaught.engines.local.flash import flash_attention
from selftaught.engines.local.kv_cache import BLOCK_SIZE, KVCache

MAX_GAP_FRACTION = 5  # the cache is compacted if more than one block in this many is free


@dataclass(slots=True, eq=False)
class BlockTable:
    """The blocks that hold the tokens of one row, in order."""

    blocks: list[int] = field(default_factory=list)

    @property
    def capacity(self) -> int:
        """Tokens that memory is allocated for."""
        return len(self.blocks) * BLOCK_SIZE


class PagedCache:
    """The allocated blocks, at the front of the store, with few gaps.

    Args:
        store: an empty cache; its rows become the blocks.
    """

    def __init__(self, store: KVCache) -> None:
        self.store = store
        self._owners: list[BlockTable | None] = []  # of each block; None if it is free
        self._free_blocks: list[int] = []

    @property
    def num_blocks(self) -> int:
        """Blocks up to the last allocated one."""
        return len(self._owners)

    @property
    def capacity(self) -> int:
        """Tokens that memory is allocated for."""
        return self.store.size[0] * BLOCK_SIZE

    def allocate(self, tables: Sequence[BlockTable], max_blocks: int) -> None:
        """Allocate one more block for each of `tables`.

        Args:
            max_blocks: the store grows no larger if the allocated blocks fit.
        """
        need = self.num_blocks + max(0, len(tables) - len(self._free_blocks))
        if need > self.store.size[0] or self.store.size[0] > max(need, max_blocks):
            self.store.resize(max(need, min(need * 5 // 4, max_blocks)), BLOCK_SIZE)
        for table in tables:
            if not self._free_blocks:
                self._free_blocks.append(self.num_blocks)
                self._owners.append(None)
            block = self._free_blocks.pop()
            table.blocks.append(block)
            self._owners[block] = table

    def fill(self, table: BlockTable, span: Tensor, max_blocks: int) -> None:
        """Allocate blocks for `span`, `[layers, 2, heads, tokens, head_dim]`, in an empty table, and store it in them.

        Args:
            max_blocks: see `allocate`.
        """
        self.allocate([table] * -(-span.shape[3] // BLOCK_SIZE), max_blocks)
        for block, part in zip(table.blocks, span.split(BLOCK_SIZE, 3), strict=True):
            self.store.store(block, 0, part)

    def free(self, tables: Sequence[BlockTable]) -> None:
        """Free the blocks of `tables`."""
        for table in tables:
            for block in table.blocks:
                self._owners[block] = None
            self._free_blocks += table.blocks
            table.blocks.clear()
        if len(self._free_blocks) * MAX_GAP_FRACTION > self.num_blocks:
            self._compact()

    def _compact(self) -> None:
        """Move the last allocated blocks into the gaps."""
        left = self.num_blocks - len(self._free_blocks)
        gaps = [block for block in self._free_blocks if block < left]
        movers = [block for block in range(left, self.num_blocks) if self._owners[block]]
        if gaps:
            for layer in self.store.layers:
                layer[:, gaps] = layer[:, movers]
        for gap, mover in zip(gaps, movers, strict=True):
            table = self._owners[gap] = self._owners[mover]
            assert table is not None
            table.blocks[table.blocks.index(mover)] = gap
        del self._owners[left:]
        self._free_blocks.clear()

    def read(self, tables: Sequence[BlockTable], lengths: Sequence[int]) -> list[Tensor]:
        """Copies of the first `lengths` tokens of each table: `[layers, 2, heads, tokens, head_dim]` each."""
        counts = [-(-length // BLOCK_SIZE) for length in lengths]
        blocks = [b for table, count in zip(tables, counts, strict=True) for b in table.blocks[:count]]
        whole = torch.stack(
            [layer[:, blocks] for layer in self.store.layers]
        )  # [layers, 2, blocks, heads, BLOCK_SIZE, dim]
        parts = zip(whole.split(counts, 2), lengths, strict=True)
        return [part.transpose(2, 3).flatten(3, 4)[..., :length, :] for part, length in parts]

    def zero(self, table: BlockTable) -> None:
        """Overwrite the blocks of a row with zeros."""
        for block in table.blocks:
            self.store.zero_row(block)


class PagedAttention:
    """Attention of rows to the blocks of their tables. Valid until a table is changed.

    Scores and weights are `[rows, kv_heads, group, width]`, where `group` is the query heads that share a key head.

    Args:
        tables: one for each row, none without a block.
        in_order: sum over blocks one by one; else torch may sum in an order that depends on the longest row.
    """

    def __init__(self, cache: PagedCache, tables: Sequence[BlockTable], *, in_order: bool = False) -> None:
        self._in_order = in_order
        first, self._num_blocks = cache.store.layers[0], cache.num_blocks
        self._store, self.device, self.dtype = cache.store, first.device, first.dtype
        most = max(len(table.blocks) for table in tables)
        self._max_blocks, self.width = most, most * BLOCK_SIZE
        slots = [0] * self._num_blocks  # of each block: row * most + its index among the row's blocks
        # The blocks of each row; padded with its first, which is masked, or with the zeros at the end.
        padded: list[int] = []
        sums: list[int] = []
        for row, table in enumerate(tables):
            missing = most - len(table.blocks)
            padded += table.blocks + table.blocks[:1] * missing
            sums += table.blocks + [self._num_blocks] * missing
            for index, block in enumerate(table.blocks):
                slots[block] = row * most + index
        self._one_block_each = most == 1 and padded == list(range(self._num_blocks))
        tensors = (torch.tensor(x, device=self.device) for x in (slots, padded, sums))
        self._block_slots, self._table, self._sum_table = tensors
        self._block_rows = self._block_slots // most
        self._missing = (self._sum_table == self._num_blocks).view(-1, most, 1, 1)
        self._row_starts = torch.arange(len(tables), device=self.device) * most

    def scores(self, layer: int, query: Tensor) -> Tensor:
        """Products of queries `[rows, kv_heads, group, head_dim]` with the keys of each row's own tokens."""
        keys = self._store.layers[layer][0, : self._num_blocks].transpose(-1, -2)
        if self._one_block_each:
            return query @ keys
        rows, heads, group, _ = query.shape
        products = query.index_select(0, self._block_rows) @ keys
        apart = products.index_select(0, self._table).view(rows, self._max_blocks, heads, group, BLOCK_SIZE)
        return apart.permute(0, 2, 3, 1, 4).reshape(rows, heads, group, self.width)

    def weighted_values(self, layer: int, weights: Tensor) -> Tensor:
        """The values of each row's own tokens, weighted and summed."""
        values = self._store.layers[layer][1, : self._num_blocks]
        if self._one_block_each:
            return weights @ values
        rows, heads, group, _ = weights.shape
        apart = weights.view(rows, heads, group, self._max_blocks, BLOCK_SIZE).permute(0, 3, 1, 2, 4)
        apart = apart.reshape(rows * self._max_blocks, heads, group, BLOCK_SIZE).index_select(0, self._block_slots)
        products = torch.cat([apart @ values, values.new_zeros((1, heads, group, values.shape[-1]))])
        by_block = products.index_select(0, self._sum_table).view(rows, self._max_blocks, heads, group, -1)
        if not self._in_order:
            return by_block.sum(1)
        whole = by_block[:, 0]
        for number in range(1, self._max_blocks):  # of shorter rows the last ones are zeros
            whole = whole + by_block[:, number]
        return whole

    def slot_indices(self, positions: Tensor) -> Tensor:
        """Indices of each row's position `[rows]`, for every head, in the flattened store."""
        heads = self._store.layers[0].shape[2]
        blocks = self._table[self._row_starts + positions // BLOCK_SIZE]
        first = (blocks * heads)[:, None] + torch.arange(heads, device=self.device)
        return (first * BLOCK_SIZE + (positions % BLOCK_SIZE)[:, None]).flatten()

    def write(self, layer: int, key: Tensor, value: Tensor, slots: Tensor) -> None:
        """Write `[rows, 1, kv_heads, head_dim]` at `slots`, as of `slot_indices`."""
        for stored, new in zip(self._store.layers[layer], (key, value), strict=True):
            size = stored.shape[-1]
            stored.view(-1, size).index_copy_(0, slots, new.reshape(-1, size))

    def partial_attention(self, layer: int, query: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Attention to each block of a row separately; see `flash_attention`.

        Args:
            mask: of `partial_mask`.

        Returns:
            `[rows, blocks, kv_heads, group, head_dim]`, and without the last dimension.
        """
        keys, values = self._store.layers[layer][:, : self._num_blocks]
        if self._one_block_each:
            found, sums = flash_attention(query, keys, values, mask)
            return found[:, None], sums[:, None]
        found, sums = flash_attention(query.index_select(0, self._block_rows), keys, values, mask)
        shape = (len(query), self._max_blocks, *query.shape[1:3])
        found = found.index_select(0, self._table).view(*shape, -1)
        return found, sums.index_select(0, self._table).view(shape).masked_fill(self._missing, -torch.inf)

    def partial_mask(self, mask: Tensor, group: int) -> Tensor:
        """An additive mask `[rows, width]` in the layout of `partial_attention`."""
        apart = mask.reshape(-1, BLOCK_SIZE).index_select(0, self._block_slots)[:, None, None]
        return apart.expand(-1, 1, group, BLOCK_SIZE).contiguous()

    def gather(self, layer: int) -> tuple[Tensor, Tensor]:
        """Copies of keys and values of each row's own tokens: `[rows, kv_heads, width, head_dim]`."""
        table = self._table.view(-1, self._max_blocks)
        both = self._store.layers[layer][:, table]  # [2, rows, blocks, heads, BLOCK_SIZE, dim]
        keys, values = both.transpose(2, 3).flatten(3, 4)
        return keys, values
