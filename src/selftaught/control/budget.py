"""A limit on the tokens a run may spend, and the exception that stops it early."""

from __future__ import annotations

from dataclasses import dataclass

from selftaught.journal.ledger import Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """Token limit of a run: generated, judge and trained tokens together; None means no limit.

    Checked before each round and each call that spends, never during one, so that a resumed run stops at the same
    place as an uninterrupted one. A run exceeds it by at most one call.
    """

    tokens: int | None = None

    def is_exhausted(self, usage: Usage) -> bool:
        """Whether no tokens are left."""
        return self.tokens is not None and usage.spent >= self.tokens


class RunStopped(Exception):
    """Stops a run early (budget spent, or nothing left to train on); results so far are kept."""
