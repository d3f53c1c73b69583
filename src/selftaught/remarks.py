"""One-line remarks to all open runs, from parts that know no run, such as an engine on a slower path."""

from __future__ import annotations

from collections.abc import Callable

Listener = Callable[[str], None]
_open: list[Listener] = []


def remark(line: str) -> None:
    """Send a line to every open run; from any thread."""
    for hear in list(_open):
        hear(line)


def listen(hear: Listener) -> Callable[[], None]:
    """Call `hear` with each remark; returns a function that ends that."""
    _open.append(hear)
    return lambda: _open.remove(hear) if hear in _open else None
