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

from selftaught.engines.local.kv_cache import Rows, rounded
from selftaught.engines.local.prefix_attention import Level, tidied

SPARE = 1024  # most tokens of memory for stems to come
SAVING = 4096  # fewest tokens that a second level is to save: at every step it takes products of its own


@dataclass(slots=True, eq=False)
class Stem:
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
    parent: Stem | None
    slot: int
    logits: Tensor | None = None
    users: int = 0
    apart: bool = False

    @property
    def start(self) -> int:
        """Position of the first token that it holds itself."""
        return len(self.parent.ids) if self.parent else 0

    @property
    def level(self) -> int:
        """0, or 1 where it has a parent."""
        return 1 if self.parent else 0


def apart(texts: Sequence[tuple[int, ...]], shared: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Which of `shared`, that `texts` begin with, to hold once for all of them: those that save most tokens.

    None of them begins another; and there are none where they would save less than `SAVING`.
    """
    ordered = sorted(texts)
    best: dict[tuple[int, ...], tuple[int, list[tuple[int, ...]]]] = {}
    for ids in sorted(shared, key=len, reverse=True):
        readers = bisect_left(ordered, (*ids, math.inf)) - bisect_left(ordered, ids)
        within = [best.pop(longer) for longer in list(best) if longer[: len(ids)] == ids]
        own, inner = (readers - 1) * len(ids), sum(saved for saved, _ in within)
        best[ids] = (own, [ids]) if own >= inner else (inner, [one for _, chosen in within for one in chosen])
    saved = sum(saved for saved, _ in best.values())
    return [one for _, chosen in best.values() for one in chosen] if saved >= SAVING else []


class Trunk:
    """All stems in use; those of a level lie side by side.

    Args:
        rows: makes an empty cache.
    """

    def __init__(self, rows: Callable[[], Rows]) -> None:
        self._rows = [rows(), rows()]
        self._held: list[list[Stem]] = [[], []]
        self._by_ids: dict[tuple[int, ...], Stem] = {}

    @property
    def tokens(self) -> int:
        """Tokens there is memory for."""
        return sum(rows.size[0] * rows.size[1] for rows in self._rows)

    def get(self, ids: tuple[int, ...]) -> Stem | None:
        """The stem of these tokens."""
        return self._by_ids.get(ids)

    def place(self, ids: tuple[int, ...], source: Rows, row: int, *, apart: bool = False) -> Stem:
        """Hold `ids`, copied from a row of `source`, less what a stem held `apart` in the first level has already."""
        if found := self._by_ids.get(ids):
            found.apart = found.apart or apart
            return found
        parent = self._parent(ids)
        level = 1 if parent else 0
        stem = Stem(ids, parent, len(self._held[level]), apart=apart)
        self._held[level].append(stem)
        self._by_ids[ids] = stem
        if parent:
            parent.users += 1
        self._fit(level)
        self._rows[level].put(stem.slot, 0, source.take(row, stem.start, len(ids)))
        return stem

    def leave(self, stem: Stem) -> None:
        """One request fewer goes on from `stem`; the last one frees its slot."""
        stem.users -= 1
        self.prune(stem)

    def prune(self, stem: Stem) -> None:
        """Free the slot of a stem that nobody uses."""
        if stem.users or self._by_ids.get(stem.ids) is not stem:
            return
        del self._by_ids[stem.ids]
        held = self._held[stem.level]
        last = held.pop()
        if last is not stem:  # into the gap, so that the stems of a level stay side by side
            self._rows[stem.level].move(last.slot, stem.slot, len(last.ids) - last.start)
            held[stem.slot], last.slot = last, stem.slot
        if stem.parent:
            self.leave(stem.parent)

    def levels(self, stems: Sequence[Stem]) -> list[Level]:
        """What the rows that go on from `stems` read."""
        levels = [self._level(0, [stem.parent or stem for stem in stems], [len((s.parent or s).ids) for s in stems])]
        if self._held[1]:
            readers = Counter(stem.slot for stem in stems if stem.parent)
            spare = min(self._held[1], key=lambda stem: readers[stem.slot])  # read, and masked, by those without
            lengths = [len(stem.ids) - stem.start if stem.parent else 0 for stem in stems]
            levels.append(self._level(1, [stem if stem.parent else spare for stem in stems], lengths))
        return levels

    def _level(self, level: int, read: Sequence[Stem], lengths: Sequence[int]) -> Level:
        """One level, for rows that read `read`; slots are moved now rather than copied at every step."""
        held = self._held[level]
        if order := tidied([stem.slot for stem in read], len(held)):
            self._rows[level].permute(order)
            held[:] = [held[slot] for slot in order]
            for slot, stem in enumerate(held):
                stem.slot = slot
        return Level(self._rows[level], [stem.slot for stem in read], lengths)

    def _parent(self, ids: tuple[int, ...]) -> Stem | None:
        """The longest stem of the first level that `ids` goes on from and that is held apart."""
        fit = [s for s in self._held[0] if s.apart and len(s.ids) < len(ids) and ids[: len(s.ids)] == s.ids]
        return max(fit, key=lambda stem: len(stem.ids), default=None)

    def _fit(self, level: int) -> None:
        """Memory for all stems of a level; attention reads all of their length, so there is little to spare in it."""
        held, rows = self._held[level], self._rows[level]
        tokens = rounded(max(len(stem.ids) - stem.start for stem in held))
        count, have = rows.size
        if tokens > have or tokens * 2 < have:
            rows.resize(len(held), tokens)
        elif len(held) > count:
            rows.resize(len(held) + min(count // 4 + 1, SPARE // have), have)
