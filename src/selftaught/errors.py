"""The one exception that users are meant to read.

Whatever the user can fix (a misspelled name, a malformed line, a full disk) is raised as `BadInput`; the command line
prints it as one line and exits with 2. Any other exception is a bug in selftaught and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from selftaught.renamed import RENAMED


class BadInput(Exception):
    """What is wrong, where, and what to do, in one line.

    Args:
        what: what is wrong, with the value found and the one expected.
        where: a file, `file:line`, option or field; empty if `what` names it.
        fix: what to do, as an imperative.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        line = f"{where}: {what}" if where else what
        super().__init__(" ".join(f"{line}; {fix}".split()) if fix else " ".join(line.split()))


def suggest(name: str, known: Iterable[str], *, limit: int = 3, listed: Iterable[str] | None = None) -> str:
    """A phrase naming what `name` probably means: `use 'temperature'` for a renamed one, `did you mean 'star'?`, or
    all of a short list.

    Args:
        name: as given; a flag keeps its dashes.
        known: the names there are, written alike.
        limit: most names suggested.
        listed: those to list and count where none is near, if not all.
    """
    names = sorted(set(known))
    if new := _renamed(name, names):
        return f"use {new!r}"
    close = difflib.get_close_matches(name, names, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(n) for n in close) + "?"
    names = names if listed is None else sorted(listed)
    if len(names) <= 12:
        return "known: " + ", ".join(names)
    return f"known: {', '.join(names[:8])}, ... ({len(names)} in all)"


def _renamed(name: str, names: Iterable[str]) -> str | None:
    """The new name of a renamed one, where it is among `names`."""
    written = {_plain(one): one for one in names}
    return next((written[new] for new in RENAMED.get(_plain(name), ()) if new in written), None)


def _plain(name: str) -> str:
    return name.removeprefix("--").replace("-", "_")
