"""What a run has paid an endpoint for: by earlier starts, and for requests that got no answer."""

from __future__ import annotations

from selftaught.console import Console
from selftaught.engines import PaidEngine
from selftaught.journal import Journal, Usage
from selftaught.journal.bookings import Unanswered


def go_on_paying(engine: PaidEngine, journal: Journal, before: Usage, console: Console) -> None:
    """Let an engine begin with what the run has spent so far, and book from now on what it sends.

    Args:
        before: usage of the answers that the journal holds; what is lost comes on top.
    """
    lost, flight = journal.bookings.lost, journal.bookings.in_flight
    engine.add_prior_usage(before.prompt, before.generated + before.judge)
    engine.add_prior_usage(lost.prompt, lost.completion, answered=False)
    engine.keep_accounts(journal.bookings)
    if flight.requests:
        console.print(f"  {_count(flight)} in flight when the last process ended: {_cost(flight)}")


def lost_line(lost: Unanswered) -> str:
    """What was sent and not answered, in all starts of the run."""
    return f"{_count(lost)} sent without an answer to keep (cut off, too late, or unusable): {_cost(lost)}"


def _count(some: Unanswered) -> str:
    return f"{some.requests:,} request{'s were' if some.requests > 1 else ' was'}"


def _cost(some: Unanswered) -> str:
    return f"counted as paid for, {some.prompt:,} prompt and {some.completion:,} sampled tokens at most"
