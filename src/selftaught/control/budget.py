"""A limit on the tokens a run may spend, and the exception that stops it early."""

from __future__ import annotations

from dataclasses import dataclass

from selftaught.journal.ledger import Usage


@dataclass(frozen=True, slots=True)
class Budget:
    """Limits of a run; None means no limit.

    Checked before each round and each call that spends, never during one, so that a resumed run stops at the same
    place as an uninterrupted one.

    Attributes:
        tokens: generated, judge and trained tokens together. A run exceeds it by at most one call.
        compute: `Ledger.compute` of a recipe. The last round is cut to fit: it gets a share of its problems and steps.
        round_compute: what a round is expected to cost, so that the first one can be cut too; None: what the round
            before cost.
        round_fixed: the part of it that does not shrink with the round, such as measurements.
    """

    tokens: int | None = None
    compute: int | None = None
    round_compute: int | None = None
    round_fixed: int = 0

    def is_exhausted(self, usage: Usage, compute: int = 0) -> bool:
        """Whether nothing is left.

        Args:
            compute: so far, see `Ledger.compute`.
        """
        out_of_tokens = self.tokens is not None and usage.spent >= self.tokens
        return out_of_tokens or (self.compute is not None and compute >= self.compute)

    @property
    def described(self) -> str:
        """The limit, such as "1,000 tokens"."""
        return f"{self.tokens:,} tokens" if self.tokens is not None else f"{self.compute or 0:,} tokens of compute"


class RunStopped(Exception):
    """Stops a run early (budget spent, or nothing left to train on); results so far are kept."""
