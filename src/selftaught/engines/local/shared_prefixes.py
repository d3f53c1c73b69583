"""Prefixes that active requests share, each stored once.

There are two levels: prompts under one long header, or partial answers to one prompt, store their common part once
and only the rest separately. What a request samples is in the `PagedCache`.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

from selftaught.engines.local.kv_cache import KVCache, round_to_blocks
from selftaught.engines.local.prefix_attention import PrefixLevel, sort_slots

SPARE_TOKENS = 1024  # memory allocated in advance for further prefixes, at most
MIN_SAVED_TOKENS = 4096  # a second level must save as many: it costs matrix products of its own at every step


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """A prefix in use.

    Attributes:
        ids: its tokens, from position 0.
        parent: the prefix that stores its first tokens, or None.
        slot: its place in its level.
        logits: of the token after it, if it is the prompt of a request.
        ref_count: requests and prefixes that continue it.
        shareable: whether it may be a parent.
    """

    ids: tuple[int, ...]
    parent: SharedPrefix | None
    slot: int
    logits: Tensor | None = None
    ref_count: int = 0
    shareable: bool = False

    @property
    def start(self) -> int:
        """Position of the first token that it stores itself."""
        return len(self.parent.ids) if self.parent else 0

    @property
    def level(self) -> int:
        """0, or 1 if it has a parent."""
        return 1 if self.parent else 0


def choose_shared(sequences: Sequence[tuple[int, ...]], candidates: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Which of `candidates`, prefixes of `sequences`, to store once for all of them: those that save most tokens.

    None of them is a prefix of another. There are none if they would save less than `MIN_SAVED_TOKENS`.
    """
    ordered = sorted(sequences)
    best: dict[tuple[int, ...], tuple[int, list[tuple[int, ...]]]] = {}
    for ids in sorted(candidates, key=len, reverse=True):
        readers = bisect_left(ordered, (*ids, math.inf)) - bisect_left(ordered, ids)
        within = [best.pop(longer) for longer in list(best) if longer[: len(ids)] == ids]
        own, inner = (readers - 1) * len(ids), sum(saved for saved, _ in within)
        best[ids] = (own, [ids]) if own >= inner else (inner, [one for _, chosen in within for one in chosen])
    saved = sum(saved for saved, _ in best.values())
    return [one for _, chosen in best.values() for one in chosen] if saved >= MIN_SAVED_TOKENS else []


class PrefixPool:
    """All prefixes in use; those of a level are contiguous.

    Args:
        new_cache: creates an empty cache.
    """

    def __init__(self, new_cache: Callable[[], KVCache]) -> None:
        self._caches = [new_cache(), new_cache()]
        self._prefixes: list[list[SharedPrefix]] = [[], []]
        self._by_ids: dict[tuple[int, ...], SharedPrefix] = {}

    @property
    def capacity(self) -> int:
        """Tokens that memory is allocated for."""
        return sum(cache.size[0] * cache.size[1] for cache in self._caches)

    def get(self, ids: tuple[int, ...]) -> SharedPrefix | None:
        """The prefix with these tokens."""
        return self._by_ids.get(ids)

    def add(self, ids: tuple[int, ...], source: KVCache, row: int, *, shareable: bool = False) -> SharedPrefix:
        """Store `ids`, copied from a row of `source`, without what a shareable prefix stores already."""
        if found := self._by_ids.get(ids):
            found.shareable = found.shareable or shareable
            return found
        parent = self._find_parent(ids)
        level = 1 if parent else 0
        prefix = SharedPrefix(ids, parent, len(self._prefixes[level]), shareable=shareable)
        self._prefixes[level].append(prefix)
        self._by_ids[ids] = prefix
        if parent:
            parent.ref_count += 1
        self._resize(level)
        self._caches[level].store(prefix.slot, 0, source.read(row, prefix.start, len(ids)))
        return prefix

    def read(self, prefix: SharedPrefix) -> Tensor:
        """A copy of what `prefix` stores itself: `[layers, 2, heads, tokens, head_dim]`."""
        return self._caches[prefix.level].read(prefix.slot, 0, len(prefix.ids) - prefix.start)

    def release(self, prefix: SharedPrefix) -> None:
        """Count one request less for `prefix`; the last one frees its slot."""
        prefix.ref_count -= 1
        self.free_unused(prefix)

    def free_unused(self, prefix: SharedPrefix) -> None:
        """Free the slot of a prefix that nothing uses."""
        if prefix.ref_count or self._by_ids.get(prefix.ids) is not prefix:
            return
        del self._by_ids[prefix.ids]
        held = self._prefixes[prefix.level]
        last = held.pop()
        if last is not prefix:  # moves into the gap, so that the prefixes of a level stay contiguous
            self._caches[prefix.level].copy_row(last.slot, prefix.slot, len(last.ids) - last.start)
            held[prefix.slot], last.slot = last, prefix.slot
        if prefix.parent:
            self.release(prefix.parent)

    def levels(self, prefixes: Sequence[SharedPrefix]) -> list[PrefixLevel]:
        """What the rows that continue `prefixes` attend to."""
        roots = [prefix.parent or prefix for prefix in prefixes]
        levels = [self._level(0, roots, [len(root.ids) for root in roots])]
        if self._prefixes[1]:
            readers = Counter(prefix.slot for prefix in prefixes if prefix.parent)
            spare = min(self._prefixes[1], key=lambda prefix: readers[prefix.slot])  # read, masked, by rows without one
            lengths = [len(prefix.ids) - prefix.start if prefix.parent else 0 for prefix in prefixes]
            levels.append(self._level(1, [prefix if prefix.parent else spare for prefix in prefixes], lengths))
        return levels

    def _level(self, level: int, prefixes: Sequence[SharedPrefix], lengths: Sequence[int]) -> PrefixLevel:
        """One level, for rows that read `prefixes`; slots are moved now instead of copied at every step."""
        held = self._prefixes[level]
        if order := sort_slots([prefix.slot for prefix in prefixes], len(held)):
            self._caches[level].permute_rows(order)
            held[:] = [held[slot] for slot in order]
            for slot, prefix in enumerate(held):
                prefix.slot = slot
        return PrefixLevel(self._caches[level], [prefix.slot for prefix in prefixes], lengths)

    def _find_parent(self, ids: tuple[int, ...]) -> SharedPrefix | None:
        """The longest shareable prefix of the first level that `ids` continues."""
        fit = [s for s in self._prefixes[0] if s.shareable and len(s.ids) < len(ids) and ids[: len(s.ids)] == s.ids]
        return max(fit, key=lambda prefix: len(prefix.ids), default=None)

    def _resize(self, level: int) -> None:
        """Allocate memory for all prefixes of a level; attention reads their whole length, so little is spare."""
        held, cache = self._prefixes[level], self._caches[level]
        tokens = round_to_blocks(max(len(prefix.ids) - prefix.start for prefix in held))
        count, have = cache.size
        if tokens > have or tokens * 2 < have:
            cache.resize(len(held), tokens)
        elif len(held) > count:
            cache.resize(len(held) + min(count // 4 + 1, SPARE_TOKENS // have), have)
