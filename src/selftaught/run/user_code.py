"""Errors that a solver or judge of a user's own file raises, as one line."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

from selftaught.errors import BadInput
from selftaught.feedback.userfile import error_location, is_user_module
from selftaught.identity import solver_name, unwrap

PACKAGE = Path(__file__).resolve().parents[1]


@contextmanager
def errors_of(function: Any, what: Literal["solver", "judge"]) -> Iterator[None]:
    """Turn what a user's function raises into one line; what the package raises for it keeps its traceback.

    Raises:
        BadInput: the function is of a user's file, and an error arises there, or in a library that it calls.
    """
    try:
        yield
    except BadInput:
        raise
    except Exception as error:
        if (file := _file_of(function)) is None or not _arises_in(error, file):
            raise
        said = f"{what} {solver_name(function)} raises {type(error).__name__}: {error}"
        fix = "repair it and run the same command again"
        raise BadInput(said, where=error_location(error, _short(file)), fix=fix) from error


def _file_of(function: Any) -> Path | None:
    """The user's file that a function, method or object comes from; None if it comes from elsewhere."""
    inner = unwrap(function)
    inner = getattr(inner, "function", inner)
    inner = inner if hasattr(inner, "__code__") else type(inner).__call__
    if not is_user_module(getattr(inner, "__module__", "")):
        return None
    return Path(inner.__code__.co_filename)


def _arises_in(error: Exception, file: Path) -> bool:
    """Whether an error passed through the file, and the package was not called from there."""
    passed = [Path(frame.filename).resolve() for frame in traceback.extract_tb(error.__traceback__)]
    if (own := file.resolve()) not in passed:
        return False
    below = passed[len(passed) - passed[::-1].index(own) :]
    return not any(one.is_relative_to(PACKAGE) for one in below)


def _short(file: Path) -> Path:
    return file.relative_to(Path.cwd()) if file.is_relative_to(Path.cwd()) else file
