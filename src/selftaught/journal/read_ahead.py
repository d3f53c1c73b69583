"""Effects that a rerun will ask for next, read from a journal many at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

Row = tuple[Any, ...]

LEAST, MOST = 8, 512  # effects read at a time
KEPT, KEPT_CHARS = 4096, 16_000_000  # effects, and characters of their payloads
AT_ONCE = 2_000_000  # characters that are read at a time, about
FOLLOWING = (
    "SELECT key, payload, prompt, generated, judge, trained FROM effects"
    " WHERE id > ? AND id <= ? AND kind IN ('sample', 'verify') ORDER BY id LIMIT ?"
)


class ReadAhead:
    """The samples and verdicts behind those that had to be looked up, by key. Thread-safe.

    A rerun asks for them in about the order in which they were journaled, and to read many costs little more than to
    read one. How many are read at a time doubles while they are asked for, and halves while most of them are not.

    Args:
        query: reads rows of the journal.
        last: number of the last effect of earlier sessions; this one's are not read ahead, as it asks for few of them.
    """

    def __init__(self, query: Callable[[str, tuple[Any, ...]], list[Row]], last: int) -> None:
        self._query, self._last, self._guard, self._size = query, last, threading.Lock(), LEAST
        self._rows: dict[str, Row] = {}
        self._unused: set[str] = set()
        self._chars = 0

    def get(self, key: str) -> Row | None:
        """The payload and cost of an effect; None if it was not read ahead."""
        with self._guard:
            self._unused.discard(key)
            return self._rows.get(key)

    def follow(self, number: int) -> None:
        """Read on behind the effect of a number."""
        if number >= self._last:
            return
        with self._guard:
            asked_for = 2 * len(self._unused) <= KEPT
            self._size = min(MOST, 2 * self._size) if asked_for else max(LEAST, self._size // 2)
            usual = self._chars // max(1, len(self._rows))
            size = min(self._size, max(LEAST, AT_ONCE // max(1, usual)))
            for key, *row in self._query(FOLLOWING, (number, self._last, size)):
                if key not in self._rows:
                    self._rows[key] = tuple(row)
                    self._unused.add(key)
                    self._chars += len(row[0])
            while len(self._rows) > KEPT or self._chars > KEPT_CHARS:
                self._drop(next(iter(self._rows)))

    def forget(self, key: str) -> None:
        """An effect has changed."""
        with self._guard:
            if key in self._rows:
                self._drop(key)

    def _drop(self, key: str) -> None:
        self._chars -= len(self._rows.pop(key)[0])
        self._unused.discard(key)
