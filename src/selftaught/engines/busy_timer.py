"""Count the seconds in which an engine has requests in progress."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager


class BusyTimer:
    """Mixin that counts `busy_seconds`; for use on one thread.

    Attributes:
        busy_seconds: see `Engine`.
    """

    busy_seconds = 0.0
    _active_requests, _last_change = 0, 0.0

    @contextmanager
    def _busy(self) -> Iterator[None]:
        """Mark a request as in progress. Time shared by several requests counts once."""
        if not self._active_requests:
            self._last_change = time.perf_counter()
        self._active_requests += 1
        try:
            yield
        finally:
            self._active_requests -= 1
            now = time.perf_counter()
            self.busy_seconds += now - self._last_change
            self._last_change = now
