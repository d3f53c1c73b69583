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
SETTLE = "DELETE FROM bookings WHERE id = ?"

Execute = Callable[[str, tuple[Any, ...]], list[tuple[Any, ...]]]


class Unanswered(NamedTuple):
    """Requests that may have been paid for without an answer: their number, and their tokens at most."""

    requests: int
    prompt: int
    completion: int


class _Booking(NamedTuple):
    row: int
    prompt: int
    completion: int


class Bookings:
    """Requests that were sent, by their seeds; see `engines.base.Accounts`. Thread-safe, as `execute` is.

    Args:
        execute: runs a statement of SQL and commits it.

    Attributes:
        in_flight: requests that a killed process left in flight, found when the file was opened.
        lost: all requests so far whose answers are lost, those included.
    """

    def __init__(self, execute: Execute) -> None:
        self._execute, self._open = execute, dict[int, _Booking]()
        execute(TABLE, ())
        self.in_flight = self._sum("lost = 0")
        execute("UPDATE bookings SET lost = 1", ())
        self.lost = self._sum("lost = 1")

    def book(self, request: int, prompt: int, completion: int) -> None:
        """A request is about to be sent, and takes these tokens at most; what was sent of it before is lost."""
        self.lose(request)
        insert = "INSERT INTO bookings VALUES (NULL, ?, ?, ?, 0) RETURNING id"
        row = self._execute(insert, (request, prompt, completion))[0][0]
        self._open[request] = _Booking(row, prompt, completion)

    def release(self, request: int) -> None:
        """It was refused, or could not be sent: it costs nothing."""
        if booking := self._open.pop(request, None):
            self._execute(SETTLE, (booking.row,))

    def lose(self, request: int) -> None:
        """There is no answer that is kept, and it may be billed."""
        if booking := self._open.pop(request, None):
            self._execute("UPDATE bookings SET lost = 1 WHERE id = ?", (booking.row,))
            count, prompt, completion = self.lost
            self.lost = Unanswered(count + 1, prompt + booking.prompt, completion + booking.completion)

    def take(self, request: int) -> int | None:
        """The row of a request whose answer is about to be committed, together with `SETTLE`; None if there is none."""
        booking = self._open.pop(request, None)
        return booking.row if booking else None

    def _sum(self, which: str) -> Unanswered:
        columns = "COUNT(*), COALESCE(SUM(prompt), 0), COALESCE(SUM(completion), 0)"
        return Unanswered(*self._execute(f"SELECT {columns} FROM bookings WHERE {which}", ())[0])
