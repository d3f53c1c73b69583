"""The two kinds of forward passes over a cache: prefill of whole sequences, and one decoding step of many rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.engines.local.flash import MAX_ROWS, is_faster
from selftaught.engines.local.kv_cache import KVCache
from selftaught.engines.local.paged_cache import PagedAttention
from selftaught.engines.local.prefix_attention import PrefixLevel


class ForwardPass(Protocol):
    """One forward pass over a cache, which stores every layer's keys and values.

    Attributes:
        positions: `[rows, steps]`, of each token in its sequence.
        mask: additive, `[rows, 1, steps, keys]`.
    """

    positions: Tensor
    mask: Tensor

    def windowed_mask(self, window: int) -> Tensor:
        """`mask` that also hides tokens further back than the last `window`, the token itself included."""
        ...

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values `[rows, steps, kv_heads, head_dim]`.

        Returns:
            All keys and values that `mask` covers, `[rows, kv_heads, keys, head_dim]`.
        """
        ...

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """Store keys and values, and attend.

        Args:
            query: `[rows, steps, heads, head_dim]`.
            key: `[rows, steps, kv_heads, head_dim]`, and so is `value`.

        Returns:
            `[rows, steps, heads * head_dim]`.
        """
        ...


class PrefillPass:
    """A prefill of several sequences from given positions on; shorter ones are padded on the right.

    Args:
        cache: a row for each sequence, with the tokens before.
        starts: the position of each sequence's first token here.
        steps: tokens of each, including padding.
    """

    def __init__(self, cache: KVCache, starts: Sequence[int], steps: int) -> None:
        first = cache.layers[0]
        self._cache, device = cache, first.device
        self.positions = torch.tensor(starts, device=device)[:, None] + torch.arange(steps, device=device)
        self._indices = (torch.arange(len(starts), device=device)[:, None], self.positions)
        beyond = torch.arange(cache.size[1], device=device) > self.positions[:, :, None]
        self.mask = _additive_mask(beyond, first.dtype)[:, None]

    def windowed_mask(self, window: int) -> Tensor:
        """See `ForwardPass.windowed_mask`."""
        where = torch.arange(self.mask.shape[-1], device=self.mask.device)
        return _hide_more(self.mask, (where <= self.positions[:, :, None] - window)[:, None])

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See `ForwardPass.update`."""
        self._cache.write(layer, key, value, self._indices)
        return self._cache.keys_values(layer, len(key))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `ForwardPass.attend`."""
        keys, values = self.update(layer, key, value)
        group = query.shape[2] // key.shape[2]
        keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
        mixed = F.scaled_dot_product_attention(query.transpose(1, 2), keys, values, attn_mask=self.mask)
        return mixed.transpose(1, 2).flatten(2)


class DecodePass:
    """One decoding step: a token for each of many rows, which share prefixes and have sampled tokens of their own.

    Args:
        paged: the sampled tokens of each row.
        offsets: index of each row's token among its sampled tokens.
        levels: the shared prefixes, in order.
        positions: position of each row's token in its whole sequence.
    """

    def __init__(
        self, paged: PagedAttention, offsets: Sequence[int], levels: Sequence[PrefixLevel], positions: Sequence[int]
    ) -> None:
        self._paged, self._levels = paged, levels
        offset = torch.tensor(offsets, device=paged.device)
        self.positions = torch.tensor(positions, device=paged.device)[:, None]
        self._prefix_lengths = self.positions - offset[:, None]
        self._slots = paged.slot_indices(offset)
        beyond = torch.arange(paged.width, device=paged.device) > offset[:, None]
        self._widths = [level.width for level in levels] + [paged.width]
        hidden = torch.cat([level.hidden for level in levels] + [beyond], 1)
        self.mask = _additive_mask(hidden, paged.dtype)[:, None, None]
        self._use_flash = is_faster(paged.dtype, paged.device) and len(offsets) <= MAX_ROWS
        self._masks: list[Any] = []

    def windowed_mask(self, window: int) -> Tensor:
        """See `ForwardPass.windowed_mask`."""
        begin, where = torch.zeros_like(self._prefix_lengths), []
        for level in self._levels:
            where.append(begin + torch.arange(level.width, device=begin.device))
            begin = begin + (~level.hidden).sum(1, keepdim=True)
        where.append(self._prefix_lengths + torch.arange(self._paged.width, device=begin.device))
        return _hide_more(self.mask, (torch.cat(where, 1) <= self.positions - window)[:, None, None])

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See `ForwardPass.update`; shared prefixes are copied for each row, one layer at a time."""
        self._paged.write(layer, key, value, self._slots)
        pairs = [level.gather(layer) for level in self._levels] + [self._paged.gather(layer)]
        return torch.cat([keys for keys, _ in pairs], 2), torch.cat([values for _, values in pairs], 2)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `ForwardPass.attend`; one softmax over prefixes and sampled tokens, each read in place."""
        self._paged.write(layer, key, value, self._slots)
        rows, _, heads, head_dim = query.shape
        query = query.view(rows, key.shape[2], heads // key.shape[2], head_dim)
        if self._use_flash:
            return self._flash_attend(layer, query).view(rows, 1, heads * head_dim)
        scores = [part.scores(layer, query) for part in (*self._levels, self._paged)]
        whole = scores[0] if len(scores) == 1 else torch.cat(scores, -1)
        weights = torch.softmax(torch.add(self.mask, whole, alpha=head_dim**-0.5), -1)
        *shared, own = weights.split(self._widths, -1)
        mixed = self._paged.weighted_values(layer, own)
        for level, part in zip(self._levels, shared, strict=True):
            mixed = mixed + level.weighted_values(layer, part)
        return mixed.view(rows, 1, heads * head_dim)

    def _flash_attend(self, layer: int, query: Tensor) -> Tensor:
        """Attention to each level and block separately, merged by the sums of their weights."""
        parts = (*self._levels, self._paged)
        if not self._masks:
            masks = self.mask[:, 0, 0].split(self._widths, -1)
            self._masks = [part.partial_mask(mask, query.shape[2]) for part, mask in zip(parts, masks, strict=True)]
        pieces = [part.partial_attention(layer, query, mask) for part, mask in zip(parts, self._masks, strict=True)]
        found, sums = (torch.cat(each, 1) for each in zip(*pieces, strict=True))
        return (found * torch.softmax(sums, 1)[..., None].to(found.dtype)).sum(1)


def _additive_mask(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where visible, the lowest number where hidden."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def _hide_more(mask: Tensor, hidden: Tensor) -> Tensor:
    """The additive mask with further positions hidden."""
    return mask.masked_fill(hidden, torch.finfo(mask.dtype).min)
