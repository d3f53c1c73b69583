"""Keys and values of sequences, one row per sequence, written in place."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

BLOCK_SIZE = 32  # tokens; memory is allocated in multiples of it


class KVCache:
    """Keys and values: per layer one tensor `[2, rows, heads, tokens, head_dim]`, keys first.

    A row is filled from the left. Attention reads whole rows, since products over part of a row are many times
    slower, and masks the positions beyond the row's length. These must be finite, as NaN survives any mask: call
    `zero_row` after a NaN.
    """

    def __init__(self, layers: int, heads: int, head_dim: int, dtype: torch.dtype, device: str) -> None:
        self.layers = [torch.zeros((2, 0, heads, 0, head_dim), dtype=dtype, device=device)] * layers

    @property
    def size(self) -> tuple[int, int]:
        """Allocated rows, and tokens in each."""
        shape = self.layers[0].shape
        return shape[1], shape[3]

    @property
    def bytes_per_token(self) -> int:
        """Bytes of one token of one row, over all layers."""
        one = self.layers[0]
        return 2 * len(self.layers) * one.shape[2] * one.shape[4] * one.element_size()

    def resize(self, rows: int, tokens: int) -> None:
        """Allocate `rows` rows of `tokens`, keeping what fits; one layer is copied at a time."""
        keep_rows, keep_tokens = min(rows, self.size[0]), min(tokens, self.size[1])
        layers = list(self.layers)
        for i, old in enumerate(layers):
            new = old.new_zeros((2, rows, old.shape[2], tokens, old.shape[4]))
            new[:, :keep_rows, :, :keep_tokens] = old[:, :keep_rows, :, :keep_tokens]
            layers[i] = self.layers[i] = new

    def keys_values(self, layer: int, rows: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first `rows` rows, each `[rows, heads, tokens, head_dim]`."""
        keys, values = self.layers[layer][:, :rows]
        return keys, values

    def write(self, layer: int, key: Tensor, value: Tensor, at: tuple[Tensor, Tensor]) -> None:
        """Write `[rows, steps, heads, head_dim]` at (row, place), index tensors that broadcast to `[rows, steps]`."""
        row, place = at
        keys, values = self.layers[layer]
        keys[row, :, place] = key
        values[row, :, place] = value

    def read(self, row: int, start: int, stop: int) -> Tensor:
        """A copy of tokens `start` to `stop` of a row: `[layers, 2, heads, tokens, head_dim]`."""
        return torch.stack([layer[:, row, :, start:stop] for layer in self.layers])

    def store(self, row: int, start: int, span: Tensor) -> None:
        """Write the result of `read` into a row, from `start` on."""
        stop = start + span.shape[3]
        for layer, part in zip(self.layers, span, strict=True):
            layer[:, row, :, start:stop] = part

    def copy_row(self, row: int, to: int, length: int) -> None:
        """Copy the first `length` tokens of a row over another row."""
        for layer in self.layers:
            layer[:, to, :, :length] = layer[:, row, :, :length]

    def permute_rows(self, order: Sequence[int]) -> None:
        """Move row `order[i]` to row i, for each i."""
        moved = [(to, row) for to, row in enumerate(order) if to != row]
        for layer in self.layers:
            layer[:, [to for to, _ in moved]] = layer[:, [row for _, row in moved]]

    def zero_row(self, row: int) -> None:
        """Overwrite a row with zeros."""
        for layer in self.layers:
            layer[:, row] = 0


def round_to_blocks(tokens: int) -> int:
    """`tokens`, rounded up to whole blocks."""
    return -(-tokens // BLOCK_SIZE) * BLOCK_SIZE
