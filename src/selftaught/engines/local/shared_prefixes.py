"""The beginnings that requests under way share: each held once, however many rows go on from it.

There are two levels, so that prompts under one long header, or partial answers to one prompt, hold their common part
once and only the rest apart; what a request samples is a third, and its own.
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

SPARE_TOKENS = 1024  # most tokens of memory for stems to come
MIN_SAVED_TOKENS = 4096  # fewest tokens that a second level is to save: at every step it takes products of its own


@dataclass(slots=True, eq=False)
class SharedPrefix:
    """A beginning in use.

    Attributes:
        ids: its tokens, from position 0.
        parent: the stem that holds its first tokens, or None.
        slot: where in its level its own tokens are.
        logits: of the token after it, where a request goes on from there.
        users: requests and stems that go on from it.
        apart: whether others may have it as their parent.
    """

    ids: tuple[int, ...]
    parent: SharedPrefix | None
    slot: int
    logits: Tensor | None = None
    ref_count: int = 0
    shareable: bool = False

    @property
    def start(self) -> int:
        """Position of the first token that it holds itself."""
        return len(self.parent.ids) if self.parent else 0

    @property
    def level(self) -> int:
        """0, or 1 where it has a parent."""
        return 1 if self.parent else 0


def choose_shared(texts: Sequence[tuple[int, ...]], candidates: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Which of `shared`, that `texts` begin with, to hold once for all of them: those that save most tokens.

    None of them begins another; and there are none where they would save less than `SAVING`.
    """
    ordered = sorted(texts)
    best: dict[tuple[int, ...], tuple[int, list[tuple[int, ...]]]] = {}
    for ids in sorted(candidates, key=len, reverse=True):
        readers = bisect_left(ordered, (*ids, math.inf)) - bisect_left(ordered, ids)
        within = [best.pop(longer) for longer in list(best) if longer[: len(ids)] == ids]
        own, inner = (readers - 1) * len(ids), sum(saved for saved, _ in within)
        best[ids] = (own, [ids]) if own >= inner else (inner, [one for _, chosen in within for one in chosen])
    saved = sum(saved for saved, _ in best.values())
    return [one for _, chosen in best.values() for one in chosen] if saved >= MIN_SAVED_TOKENS else []


class PrefixPool:
    """All stems in use; those of a level lie side by side.

    Args:
        rows: makes an empty cache.
    """

    def __init__(self, new_cache: Callable[[], KVCache]) -> None:
        self._caches = [new_cache(), new_cache()]
        self._prefixes: list[list[SharedPrefix]] = [[], []]
        self._by_ids: dict[tuple[int, ...], SharedPrefix] = {}

    @property
    def capacity(self) -> int:
        """Tokens there is memory for."""
        return sum(rows.size[0] * rows.size[1] for rows in self._caches)

    def get(self, ids: tuple[int, ...]) -> SharedPrefix | None:
        """The stem of these tokens."""
        return self._by_ids.get(ids)

    def add(self, ids: tuple[int, ...], source: KVCache, row: int, *, shareable: bool = False) -> SharedPrefix:
        """Hold `ids`, copied from a row of `source`, less what a stem held `apart` in the first level has already."""
        if found := self._by_ids.get(ids):
            found.shareable = found.shareable or shareable
            return found
        parent = self._find_parent(ids)
        level = 1 if parent else 0
        stem = SharedPrefix(ids, parent, len(self._prefixes[level]), shareable=shareable)
        self._prefixes[level].append(stem)
        self._by_ids[ids] = stem
        if parent:
            parent.ref_count += 1
        self._resize(level)
        self._caches[level].store(stem.slot, 0, source.read(row, stem.start, len(ids)))
        return stem

    def release(self, prefix: SharedPrefix) -> None:
        """One request fewer goes on from `stem`; the last one frees its slot."""
        prefix.ref_count -= 1
        self.free_unused(prefix)

    def free_unused(self, prefix: SharedPrefix) -> None:
        """Free the slot of a stem that nobody uses."""
        if prefix.ref_count or self._by_ids.get(prefix.ids) is not prefix:
            return
        del self._by_ids[prefix.ids]
        held = self._prefixes[prefix.level]
        last = held.pop()
        if last is not prefix:  # into the gap, so that the stems of a level stay side by side
            self._caches[prefix.level].copy_row(last.slot, prefix.slot, len(last.ids) - last.start)
            held[prefix.slot], last.slot = last, prefix.slot
        if prefix.parent:
            self.release(prefix.parent)

    def levels(self, prefixes: Sequence[SharedPrefix]) -> list[PrefixLevel]:
        """What the rows that go on from `stems` read."""
        levels = [
            self._level(0, [stem.parent or stem for stem in prefixes], [len((s.parent or s).ids) for s in prefixes])
        ]
        if self._prefixes[1]:
            readers = Counter(stem.slot for stem in prefixes if stem.parent)
            spare = min(self._prefixes[1], key=lambda stem: readers[stem.slot])  # read, and masked, by those without
            lengths = [len(stem.ids) - stem.start if stem.parent else 0 for stem in prefixes]
            levels.append(self._level(1, [stem if stem.parent else spare for stem in prefixes], lengths))
        return levels

    def _level(self, level: int, prefixes: Sequence[SharedPrefix], lengths: Sequence[int]) -> PrefixLevel:
        """One level, for rows that read `read`; slots are moved now rather than copied at every step."""
        held = self._prefixes[level]
        if order := sort_slots([stem.slot for stem in prefixes], len(held)):
            self._caches[level].permute_rows(order)
            held[:] = [held[slot] for slot in order]
            for slot, stem in enumerate(held):
                stem.slot = slot
        return PrefixLevel(self._caches[level], [stem.slot for stem in prefixes], lengths)

    def _find_parent(self, ids: tuple[int, ...]) -> SharedPrefix | None:
        """The longest stem of the first level that `ids` goes on from and that is held apart."""
        fit = [s for s in self._prefixes[0] if s.shareable and len(s.ids) < len(ids) and ids[: len(s.ids)] == s.ids]
        return max(fit, key=lambda stem: len(stem.ids), default=None)

    def _resize(self, level: int) -> None:
        """Memory for all stems of a level; attention reads all of their length, so there is little to spare in it."""
        held, rows = self._prefixes[level], self._caches[level]
        tokens = round_to_blocks(max(len(stem.ids) - stem.start for stem in held))
        count, have = rows.size
        if tokens > have or tokens * 2 < have:
            rows.resize(len(held), tokens)
        elif len(held) > count:
            rows.resize(len(held) + min(count // 4 + 1, SPARE_TOKENS // have), have)
