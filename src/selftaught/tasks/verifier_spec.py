"""Verifiers as users name them: one or several, by name, file, address, function or object, perhaps with weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

from selftaught.errors import BadInput
from selftaught.feedback.userfile import is_userfile
from selftaught.feedback.verifiers import Verifier

AnyVerifier: TypeAlias = (
    "Callable[..., Any] | Verifier | str | Sequence[Callable[..., Any] | Verifier | str | tuple[Any, float]] | None"
)
"""A verifier as users give it: its name, a file's function, an address, a function, or several with weights."""

ADDRESSES = ("http://", "https://")
VERIFIERS = ("exact", "math", "rg", "tests")
FIX = "write file.py:function=0.5, or [function, (other, 0.5)]"
_WEIGHTED = re.compile(r"(.+)=([-+]?(?:\d+\.?\d*|\.\d+))")


def parts_of(wanted: AnyVerifier) -> list[tuple[Any, float]]:
    """The verifiers that are named, each with its weight, 1 by default.

    A text names several with commas between them: `one.py:f,two.py:g=0.5`. A comma is part of an address, unless what
    follows names a verifier; an address takes no weight, as that could be its own.

    Raises:
        BadInput: a list is empty, or something in it is no verifier, or a weight no number.
    """
    if isinstance(wanted, str):
        return [_weighted(one) for one in _split(wanted)]
    if not isinstance(wanted, Sequence):
        return [(wanted, 1.0)]
    parts = [one if isinstance(one, tuple) else (one, 1.0) for one in wanted]
    if isinstance(wanted, tuple) or not parts:
        raise BadInput(f"{wanted!r:.60} is no list of verifiers", where="verifier", fix=FIX)
    for part in parts:
        if len(part) != 2 or not (isinstance(part[0], str) or callable(part[0]) or hasattr(part[0], "judge")):
            raise BadInput(f"{part!r:.60} is no verifier with a weight", where="verifier", fix=FIX)
        if isinstance(part[1], bool) or not isinstance(part[1], (int, float)):
            raise BadInput(f"weight {part[1]!r:.30} of a verifier is no number", where="verifier", fix=FIX)
    return [(verifier, float(weight)) for verifier, weight in parts]


def _split(text: str) -> list[str]:
    pieces = [piece.strip() for piece in text.split(",")]
    if not all(map(_is_named, pieces)) and is_userfile(text):  # the name of a folder has a comma
        return [text]
    parts: list[str] = []
    for piece in pieces:
        if parts and parts[-1].startswith(ADDRESSES) and not _is_named(piece):
            parts[-1] += f",{piece}"
        else:
            parts.append(piece)
    return parts


def _is_named(piece: str) -> bool:
    """Whether a piece of a text is a verifier by itself."""
    name = _weighted(piece)[0]
    return is_userfile(name) or name in VERIFIERS or name.startswith(ADDRESSES)


def _weighted(part: str) -> tuple[str, float]:
    found = None if part.startswith(ADDRESSES) or is_userfile(part) else _WEIGHTED.fullmatch(part)
    return (found[1], float(found[2])) if found else (part, 1.0)


def is_foreign(wanted: Any) -> bool:
    """Whether a verifier, as a command line named it, is more than those of this package: a file, an address."""
    if wanted is None:
        return False
    return not isinstance(wanted, str) or any(name not in VERIFIERS for name, _ in parts_of(wanted))
