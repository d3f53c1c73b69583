"""The key-value cache of the local engine: one row a sequence, written in place, with a length per row."""

from __future__ import annotations

import torch
from torch import Tensor


class Rows:
    """Keys and values of several sequences: per layer two tensors `[rows, heads, tokens, head_dim]`.

    A row is filled from the left; what lies beyond a row's own length is masked. It must still be finite,
    as NaN survives any mask: `wipe` a row that held one.
    """

    def __init__(self, layers: int, heads: int, head_dim: int, dtype: torch.dtype, device: str) -> None:
        empty = torch.zeros((0, heads, 0, head_dim), dtype=dtype, device=device)
        self.keys = [empty] * layers
        self.values = [empty] * layers

    @property
    def size(self) -> tuple[int, int]:
        """Rows, and tokens in each, that there is memory for."""
        rows, _, tokens, _ = self.keys[0].shape
        return rows, tokens

    @property
    def bytes_per_token(self) -> int:
        """Bytes one token of one row takes, over all layers."""
        one = self.keys[0]
        return 2 * len(self.keys) * one.shape[1] * one.shape[3] * one.element_size()

    def resize(self, rows: int, tokens: int) -> None:
        """Hold `rows` rows of `tokens`, keeping what still fits; one layer is copied at a time."""
        keep_rows, keep_tokens = min(rows, self.size[0]), min(tokens, self.size[1])
        for store in (self.keys, self.values):
            for i, old in enumerate(store):
                new = old.new_zeros((rows, old.shape[1], tokens, old.shape[3]))
                new[:keep_rows, :, :keep_tokens] = old[:keep_rows, :, :keep_tokens]
                store[i] = new

    def write(self, layer: int, key: Tensor, value: Tensor, positions: Tensor) -> None:
        """Write `[rows, heads, steps, head_dim]` at `positions` `[rows, steps]` of the first rows."""
        rows, _, steps, _ = key.shape
        if steps == 1:
            index = torch.arange(rows, device=key.device)
            self.keys[layer][index, :, positions[:, 0]] = key[:, :, 0]
            self.values[layer][index, :, positions[:, 0]] = value[:, :, 0]
        else:  # a whole prompt always starts at position 0
            self.keys[layer][:rows, :, :steps] = key
            self.values[layer][:rows, :, :steps] = value

    def view(self, layer: int, rows: int, length: int) -> tuple[Tensor, Tensor]:
        """Keys and values of the first `rows` rows up to `length`."""
        return self.keys[layer][:rows, :, :length], self.values[layer][:rows, :, :length]

    def copy_row(self, source: Rows, row: int, to: int, length: int) -> None:
        """Copy `length` tokens of a row of `source` to row `to` of this cache."""
        for mine, theirs in ((self.keys, source.keys), (self.values, source.values)):
            for own, other in zip(mine, theirs, strict=True):
                own[to, :, :length] = other[row, :, :length]

    def wipe(self, row: int) -> None:
        """Overwrite a row with zeros."""
        for store in (*self.keys, *self.values):
            store[row] = 0


def step_mask(positions: Tensor, length: int, dtype: torch.dtype) -> Tensor:
    """Additive attention mask `[rows, 1, steps, length]`: each query sees the positions up to its own."""
    beyond = torch.arange(length, device=positions.device) > positions[:, :, None]
    return torch.zeros(beyond.shape, dtype=dtype, device=positions.device).masked_fill_(beyond, torch.finfo(dtype).min)[
        :, None
    ]
