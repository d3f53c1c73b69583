"""The two ways in which a model is run over cache rows: reading whole sequences, and one step of many rows."""

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
    """One run of a model over cache rows; every layer's keys and values go through it.

    Attributes:
        positions: `[rows, steps]`, where in its sequence each token stands.
        mask: additive, `[rows, 1, steps, keys]`.
    """

    positions: Tensor
    mask: Tensor

    def windowed_mask(self, window: int) -> Tensor:
        """`mask`, and hidden too what lies further back than the last `window` tokens, a token's own included."""
        ...

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """Store keys and values `[rows, steps, kv_heads, head_dim]`.

        Returns:
            All that `mask` speaks of, `[rows, kv_heads, keys, head_dim]`.
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
    """Sequences read from some position on, all in one pass; where one is shorter, it is padded on the right.

    Args:
        rows: one a sequence, holding what comes before.
        starts: the position of each sequence's first token here.
        steps: tokens read of each, padding included.
    """

    def __init__(self, cache: KVCache, starts: Sequence[int], steps: int) -> None:
        first = cache.layers[0]
        self._cache, device = cache, first.device
        self.positions = torch.tensor(starts, device=device)[:, None] + torch.arange(steps, device=device)
        self._indices = (torch.arange(len(starts), device=device)[:, None], self.positions)
        beyond = torch.arange(cache.size[1], device=device) > self.positions[:, :, None]
        self.mask = _additive_mask(beyond, first.dtype)[:, None]

    def windowed_mask(self, window: int) -> Tensor:
        """See `Pass.windowed`."""
        where = torch.arange(self.mask.shape[-1], device=self.mask.device)
        return _hide_more(self.mask, (where <= self.positions[:, :, None] - window)[:, None])

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pass.update`."""
        self._cache.write(layer, key, value, self._indices)
        return self._cache.keys_values(layer, len(key))

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Pass.attend`."""
        keys, values = self.update(layer, key, value)
        group = query.shape[2] // key.shape[2]
        keys, values = keys.repeat_interleave(group, 1), values.repeat_interleave(group, 1)
        mixed = F.scaled_dot_product_attention(query.transpose(1, 2), keys, values, attn_mask=self.mask)
        return mixed.transpose(1, 2).flatten(2)


class DecodePass:
    """One token for each of many rows, which own what they sampled and share what came before.

    Args:
        own: the tokens each row has to itself.
        places: where among its own each row's token goes.
        levels: the beginnings that rows share, in order.
        positions: where in its whole sequence each row's token stands.
    """

    def __init__(
        self, paged: PagedAttention, offsets: Sequence[int], levels: Sequence[PrefixLevel], positions: Sequence[int]
    ) -> None:
        self._paged, self._levels = paged, levels
        place = torch.tensor(offsets, device=paged.device)
        self.positions = torch.tensor(positions, device=paged.device)[:, None]
        self._prefix_lengths = self.positions - place[:, None]
        self._slots = paged.slot_indices(place)
        beyond = torch.arange(paged.width, device=paged.device) > place[:, None]
        self._widths = [level.width for level in levels] + [paged.width]
        self.mask = _additive_mask(torch.cat([level.hidden for level in levels] + [beyond], 1), paged.dtype)[
            :, None, None
        ]
        self._use_flash = is_faster(paged.dtype, paged.device) and len(offsets) <= MAX_ROWS
        self._masks: list[Any] = []

    def windowed_mask(self, window: int) -> Tensor:
        """See `Pass.windowed`."""
        begin, where = torch.zeros_like(self._prefix_lengths), []
        for level in self._levels:
            where.append(begin + torch.arange(level.width, device=begin.device))
            begin = begin + (~level.hidden).sum(1, keepdim=True)
        where.append(self._prefix_lengths + torch.arange(self._paged.width, device=begin.device))
        return _hide_more(self.mask, (torch.cat(where, 1) <= self.positions - window)[:, None, None])

    def update(self, layer: int, key: Tensor, value: Tensor) -> tuple[Tensor, Tensor]:
        """See `Pass.update`; all is copied for each row, for as long as one layer takes."""
        self._paged.write(layer, key, value, self._slots)
        pairs = [level.gather(layer) for level in self._levels] + [self._paged.gather(layer)]
        return torch.cat([keys for keys, _ in pairs], 2), torch.cat([values for _, values in pairs], 2)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        """See `Pass.attend`; one softmax over what is shared and what is not, each multiplied where it lies."""
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
        """Attention to each level and block for itself, joined by the sums of their weights."""
        parts = (*self._levels, self._paged)
        if not self._masks:
            masks = self.mask[:, 0, 0].split(self._widths, -1)
            self._masks = [part.partial_mask(mask, query.shape[2]) for part, mask in zip(parts, masks, strict=True)]
        pieces = [part.partial_attention(layer, query, mask) for part, mask in zip(parts, self._masks, strict=True)]
        found, sums = (torch.cat(each, 1) for each in zip(*pieces, strict=True))
        return (found * torch.softmax(sums, 1)[..., None].to(found.dtype)).sum(1)


def _additive_mask(hidden: Tensor, dtype: torch.dtype) -> Tensor:
    """0 where seen, the least number where hidden."""
    return torch.zeros(hidden.shape, dtype=dtype, device=hidden.device).masked_fill_(hidden, torch.finfo(dtype).min)


def _hide_more(mask: Tensor, hidden: Tensor) -> Tensor:
    """An additive mask that hides more."""
    return mask.masked_fill(hidden, torch.finfo(mask.dtype).min)
