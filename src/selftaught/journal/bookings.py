"""What was sent to an endpoint and has no journaled answer yet: booked before it is sent, at the most that it may cost.

A process that is killed leaves its requests in flight booked. The next one counts them as paid for, as nobody knows
whether they were answered, so that a limit of cost holds across kills.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

TABLE = """
CREATE TABLE IF NOT EXISTS bookings (
  id INTEGER PRIMARY KEY, request INTEGER NOT NULL, prompt INTEGER NOT NULL, completion INTEGER NOT NULL,
  lost INTEGER NOT NULL DEFAULT 0
)
"""
SETTLE = "DELETE FROM bookings WHERE request = ? AND lost = 0"

Execute = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]


class Unanswered(NamedTuple):
    """Requests that may have been paid for without an answer: their number, and their tokens at most."""

    requests: int
    prompt: int
    completion: int


class Bookings:
    """Requests that were sent, by their seeds; see `engines.Accounts`. Thread-safe, as `execute` is.

    Args:
        execute: runs a statement of SQL and commits it.

    Attributes:
        in_flight: requests that a killed process left in flight, found when the file was opened.
        lost: all requests so far whose answers are lost, those included.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute, self._open = execute, dict[int, tuple[int, int]]()
        execute(TABLE, ())
        self.in_flight = self._sum("lost = 0")
        execute("UPDATE bookings SET lost = 1", ())
        self.lost = self._sum("lost = 1")

    def book(self, request: int, prompt: int, completion: int) -> None:
        """A request is about to be sent, and takes these tokens at most."""
        self._execute("INSERT INTO bookings VALUES (NULL, ?, ?, ?, 0)", (request, prompt, completion))
        self._open[request] = (prompt, completion)

    def release(self, request: int) -> None:
        """It was refused, or could not be sent: it costs nothing."""
        self._execute(SETTLE, (request,))
        self._open.pop(request, None)

    def lose(self, request: int) -> None:
        """Its answer did not arrive, and may be billed."""
        self._execute("UPDATE bookings SET lost = 1 WHERE request = ? AND lost = 0", (request,))
        prompt, completion = self._open.pop(request)
        before = self.lost
        self.lost = Unanswered(before.requests + 1, before.prompt + prompt, before.completion + completion)

    def take(self, request: int) -> bool:
        """Whether it is in flight; its answer is about to be committed, together with `SETTLE`."""
        return self._open.pop(request, None) is not None

    def _sum(self, which: str) -> Unanswered:
        columns = "COUNT(*), COALESCE(SUM(prompt), 0), COALESCE(SUM(completion), 0)"
        return Unanswered(*self._execute(f"SELECT {columns} FROM bookings WHERE {which}", ())[0])
