"""A set of ids that is small in memory: a run of a million answers holds several ids of each."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterable

RECENT = 8192  # ids whose hashes are in a plain set


class IdSet:
    """Strings, by their 64-bit hashes, at 8 bytes each; of a million, two share one with a probability of 3 in 10^8.

    The hashes are in sorted arrays, each at least twice as long as the next, so that few are searched.
    """

    def __init__(self, ids: Iterable[str] = ()) -> None:
        self._recent: set[int] = set()
        self._sorted: list[array[int]] = []
        for one in ids:
            self.add(one)

    def __len__(self) -> int:
        return len(self._recent) + sum(map(len, self._sorted))

    def __contains__(self, one: str) -> bool:
        return self._has(hash(one))

    def add(self, one: str) -> bool:
        """Add an id; returns whether it was not there."""
        number = hash(one)
        if self._has(number):
            return False
        self._recent.add(number)
        if len(self._recent) == RECENT:
            self._merge()
        return True

    def count(self, ids: Iterable[str]) -> int:
        """How many of some different ids are in the set."""
        return sum(one in self for one in ids)

    def _has(self, number: int) -> bool:
        if number in self._recent:
            return True
        for part in self._sorted:
            place = bisect_left(part, number)
            if place < len(part) and part[place] == number:
                return True
        return False

    def _merge(self) -> None:
        """Move the recent ones into the arrays."""
        import numpy as np

        merged = np.sort(np.fromiter(self._recent, np.int64, len(self._recent)))
        self._recent.clear()
        while self._sorted and len(self._sorted[-1]) < 2 * len(merged):
            merged = np.sort(np.concatenate([np.frombuffer(self._sorted.pop(), np.int64), merged]), kind="stable")
        self._sorted.append(array("q", merged.tobytes()))
