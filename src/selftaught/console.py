"""Progress of a run on stderr, with speed and time left."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from selftaught.terminal import make_visible, print_text


class Meter(Protocol):
    """The progress of one task."""

    def advance(self, by: int = 1, note: str = "") -> None:
        """Count `by` more steps as done."""
        ...


class Console:
    """Shows progress: bars on a terminal, otherwise (or with `lines`) a line now and then; nothing with `quiet`."""

    def __init__(self, *, quiet: bool = False, every: float = 15.0, lines: bool = False) -> None:
        self.quiet, self._every = quiet, every
        self._fancy = not quiet and not lines and sys.stderr.isatty()

    def print(self, line: str) -> None:
        """Print a line."""
        if not self.quiet:
            print_text(line, to=sys.stderr)

    @contextmanager
    def meter(self, what: str, total: int) -> Iterator[Meter]:
        """Show the progress of `total` steps of `what`."""
        if self.quiet or total == 0:
            yield _Silent()
        elif self._fancy:
            with _bar(what, total) as bar:
                yield bar
        else:
            yield _Lines(self, what, total, self._every)


@contextmanager
def training_progress(
    console: Console, what: str, steps: int, tick: Callable[[float], None]
) -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar as a trainer's callback: called with steps done, steps in all, and the loss.

    Args:
        tick: called with the seconds since the start, at each step and at the end.
    """
    started = time.monotonic()
    with console.meter(what, steps) as meter:
        done = 0

        def progress(step: int, _total: int, loss: float) -> None:
            nonlocal done
            meter.advance(step - done, f"loss {loss:.3f}")
            done = step
            tick(time.monotonic() - started)

        try:
            yield progress
        finally:
            tick(time.monotonic() - started)


class _Silent:
    def advance(self, by: int = 1, note: str = "") -> None:
        """Show nothing."""


class _Lines:
    def __init__(self, console: Console, what: str, total: int, every: float) -> None:
        self._console, self._what, self._total, self._every = console, what, total, every
        self._done, self._started = 0, time.monotonic()
        self._printed = self._started

    def advance(self, by: int = 1, note: str = "") -> None:
        """Count, and print a line when it is time."""
        self._done += by
        now = time.monotonic()
        if now - self._printed >= self._every:
            self._printed = now
            left = (now - self._started) / max(1, self._done) * (self._total - self._done)
            tail = f", {note}" if note else ""
            self._console.print(f"  {self._what}: {self._done}/{self._total}, {left:.0f} s left{tail}")


@contextmanager
def _bar(what: str, total: int) -> Iterator[Meter]:
    from rich.console import Console as Rich
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (TextColumn("  {task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    left = TextColumn("left"), TimeRemainingColumn(), TextColumn("{task.fields[note]}", markup=False)
    with Progress(*columns, *left, console=Rich(stderr=True), transient=True) as progress:
        task = progress.add_task(make_visible(what), total=total, note="")

        class Bar:
            def advance(self, by: int = 1, note: str = "") -> None:
                progress.update(task, advance=by, note=make_visible(note))

        yield Bar()
