"""Remarks of parts that know no run, such as an engine that takes a slower path, for the runs that are open."""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str], None]
_open: list[Listener] = []


def remark(line: str) -> None:
    """Tell every open run; from any thread."""
    for hear in list(_open):
        hear(line)


def listen(hear: Listener) -> Callable[[], None]:
    """Have `hear` called with each remark; returns what ends that."""
    _open.append(hear)
    return lambda: _open.remove(hear) if hear in _open else None
