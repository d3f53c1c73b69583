"""Checks of what a method hands to a verb, so that a slip is one line and no traceback."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from selftaught.errors import BadInput
from selftaught.learn import Objective
from selftaught.records import Attempt, Problem

SUBJECTS = (Problem, Attempt)


def require_all(kind: type | tuple[type, ...], values: Any, where: str) -> None:
    """Require a list, or another collection, of values of some kind.

    Raises:
        BadInput: it is something else, such as a single one, or holds something else.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    names = " or ".join(one.__name__ for one in kinds)
    require_list(values, names, where)
    for one in values:
        if not isinstance(one, kinds):
            raise BadInput(f"got {shown(one)} in the list", where=where, fix=f"pass {names} alone")


def require_list(values: Any, of: str, where: str) -> None:
    """Require a list, or another collection that is no text and no mapping.

    Args:
        of: what it is to hold, for the message.

    Raises:
        BadInput: it is something else.
    """
    if not isinstance(values, Collection) or isinstance(values, str | bytes | Mapping):
        raise BadInput(f"got {shown(values)}, expected a list of {of}", where=where, fix="pass a list, of one: [...]")


def require_a(kind: type | tuple[type, ...], value: Any, where: str, fix: str) -> None:
    """Require a value of some kind.

    Raises:
        BadInput: it is something else.
    """
    kinds = kind if isinstance(kind, tuple) else (kind,)
    if not isinstance(value, kinds):
        names = " or ".join(one.__name__ for one in kinds)
        raise BadInput(f"got {shown(value)}, expected {names}", where=where, fix=fix)


def check_training(objective: Any, records: Any, where: str) -> None:
    """Require an objective, and a list of records.

    Raises:
        BadInput: one is something else: the function that makes an objective, a single record, or problems.
    """
    check_objective(objective, where)
    require_list(records, "records", where)
    for one in records:
        if not (hasattr(type(one), "kind") and hasattr(one, "prompt") and hasattr(one, "attempts")):
            fix = "pass records such as Demo(prompt, target)"
            raise BadInput(f"got {shown(one)} in the list, which is no record", where=where, fix=fix)


def check_objective(objective: Any, where: str) -> None:
    """Require an objective.

    Raises:
        BadInput: it is something else, such as the function that makes one.
    """
    if not isinstance(objective, Objective):
        fix = "call it, as in learn.sft()" if callable(objective) else "pass one such as learn.sft()"
        raise BadInput(f"got {shown(objective)}, expected an objective", where=where, fix=fix)


def shown(value: Any) -> str:
    """A value in a message: a plain one as written, others by their type."""
    if value is None or isinstance(value, str | int | float):
        return f"{value!r:.60}"
    kind, name = "class" if isinstance(value, type) else type(value).__name__, getattr(value, "__name__", "")
    return f"the {kind} {name}" if name else f"{'an' if kind[0] in 'AEIOaeio' else 'a'} {kind}"
