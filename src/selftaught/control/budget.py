"""A limit on the tokens a run may spend, and how a run ends before its method does."""

from __future__ import annotations

from dataclasses import dataclass

from selftaught.journal.ledger import Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """At most this many tokens, generated, judge and trained together; None is no limit.

    It is looked at before each round and each call that spends, never in the middle of one, so that a
    resumed run stops at the same place as an undisturbed one; a run overshoots by one call at most.
    """

    tokens: int | None = None

    def is_exhausted(self, usage: Usage) -> bool:
        """Whether nothing is left."""
        return self.tokens is not None and usage.spent >= self.tokens


class RunStopped(Exception):
    """The run can go no further (its budget is spent, a round left nothing to learn): what was reached stands."""
