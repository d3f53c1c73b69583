"""Checks of settings: one line for a value that is not a choice or out of range."""

from __future__ import annotations

import sys
from contextlib import suppress
from functools import cache
from inspect import get_annotations
from typing import Any, Literal, get_args, get_origin

from selftaught.errors import BadInput, suggest


def check_choices(settings: Any) -> None:
    """Raise `BadInput` for a field whose value is not among the choices of its `Literal` type."""
    for name, choices in _choices(type(settings)).items():
        if (value := getattr(settings, name)) not in choices:
            raise BadInput(f"unknown {value!r}", where=name, fix=suggest(value, choices))


@cache
def _choices(kind: type) -> dict[str, tuple[Any, ...]]:
    """The choices of each field of a class that has a `Literal` type."""
    found: dict[str, tuple[Any, ...]] = {}
    for base in reversed(kind.__mro__):
        for name, hint in get_annotations(base).items():
            with suppress(NameError):  # a name that only the type checker imports is no Literal
                known = eval(hint, vars(sys.modules[base.__module__])) if isinstance(hint, str) else hint
                if get_origin(known) is Literal:
                    found[name] = get_args(known)
    return found


def check_positive(**values: float) -> None:
    """Raise `BadInput` for a setting that is not a finite number above 0."""
    for name, value in values.items():
        if not 0 < value < float("inf"):
            raise BadInput(f"must be above 0, got {value}", where=name, fix="use a number above 0")


def check_range(low: float, high: float, **values: float) -> None:
    """Raise `BadInput` for a setting outside `low <= value < high`."""
    for name, value in values.items():
        if not low <= value < high:
            limits = f"use at least {low:g} and less than {high:g}"
            raise BadInput(f"must be in [{low:g}, {high:g}), got {value}", where=name, fix=limits)
