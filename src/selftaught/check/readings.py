"""Values for preconditions, read from what a finished run logged."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selftaught.check.legs import SystemResult

Reading = Callable[[SystemResult], float | None]


def logged(group: str, name: str, *, at: int = -1) -> Reading:
    """A number that the method logged with `run.log_metrics(group, {name: ...})`.

    Args:
        at: index among the rounds that logged it; -1 is the last.

    Returns:
        A function of the finished system; None where fewer rounds logged it.
    """

    def read(result: SystemResult) -> float | None:
        found = _logged(result, group, name)
        return found[at] if -len(found) <= at < len(found) else None

    return read


def logged_change(group: str, name: str, *, last: int = 0) -> Reading:
    """How much a logged number changed over the last rounds: its last value minus the one `last` rounds before.

    Args:
        last: number of rounds; 0 counts from the first that logged it.
    """

    def read(result: SystemResult) -> float | None:
        return _change(_logged(result, group, name), last)

    return read


def dev_change(*, last: int = 0) -> Reading:
    """How much greedy accuracy on dev changed over the last rounds; `last` as in `logged_change`."""

    def read(result: SystemResult) -> float | None:
        return _change([float(row["accuracy"]) for row in result.run.history], last)

    return read


def _logged(result: SystemResult, group: str, name: str) -> list[float]:
    rows: list[Any] = [row.get("metrics", {}).get(group, {}) for row in result.run.history]
    return [float(row[name]) for row in rows if name in row]


def _change(values: list[float], last: int) -> float | None:
    before = len(values) - 1 - last if last else 0
    return values[-1] - values[before] if 0 <= before < len(values) - 1 else None
