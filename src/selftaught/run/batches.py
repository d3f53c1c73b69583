"""A batch in progress: how far it is, how fast, and what becomes of it when it is interrupted."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from selftaught.console import Console, Meter
from selftaught.engines import Engine, PaidEngine
from selftaught.journal import Ledger

TICK_SECONDS = 5.0


class RunInterrupted(BaseException):
    """The user has interrupted the run; requests that were not sent yet fail with it, past a solver's own handlers."""


def drain(engines: Sequence[Engine], reason: RunInterrupted, console: Console) -> bool:
    """Send nothing more; whether there are paid answers in progress that are worth waiting for."""
    paid = [engine for engine in engines if isinstance(engine, PaidEngine) and engine.in_flight]
    for engine in paid:
        engine.cancel_unsent(reason)
    if count := sum(engine.in_flight for engine in paid):
        answers = "1 answer" if count == 1 else f"{count} answers"
        console.print(f"  interrupted: waiting for {answers} in progress; interrupt again to abandon them")
    return bool(paid)


def advancing(meter: Meter, ledger: Ledger, tick: Callable[[], None]) -> Callable[[], None]:
    """A function to call after each result: it shows the speed so far.

    Args:
        tick: called every `TICK_SECONDS` or so.
    """
    before, started = ledger.usage.spent, time.monotonic()
    ticked = started

    def advance() -> None:
        nonlocal ticked
        now, spent = time.monotonic(), ledger.usage.spent
        speed = (spent - before) / max(1e-9, now - started)
        meter.advance(1, f"{speed:.0f} tokens/s, {spent:,} tokens spent")
        if now - ticked > TICK_SECONDS:
            ticked = now
            tick()

    return advance
