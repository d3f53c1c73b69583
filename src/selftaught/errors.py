"""The one exception a user is meant to read.

Everything that is the user's to mend (a misspelt name, a malformed line, a full disk) is raised as
`BadInput`; the command line prints it as one line and exits with 2. Any other exception is our own
defect and keeps its traceback.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BadInput(Exception):
    """What is wrong, where, and what to do, in one line.

    Args:
        what: what is wrong, naming what was got and what was expected.
        where: a file, `file:line`, option or field; empty when `what` says it already.
        fix: what to do about it, as an imperative.
    """

    def __init__(self, what: str, *, where: str = "", fix: str = "") -> None:
        self.what, self.where, self.fix = what, where, fix
        line = f"{where}: {what}" if where else what
        super().__init__(" ".join(f"{line}; {fix}".split()) if fix else " ".join(line.split()))


def suggest(name: str, known: Iterable[str], *, limit: int = 3) -> str:
    """A phrase naming the known names closest to `name`: `did you mean 'star'?`, or all of a short list."""
    names = sorted(set(known))
    close = difflib.get_close_matches(name, names, n=limit, cutoff=0.5)
    if close:
        return "did you mean " + " or ".join(repr(n) for n in close) + "?"
    if len(names) <= 12:
        return "known: " + ", ".join(names)
    return f"known: {', '.join(names[:8])}, ... ({len(names)} in all)"
