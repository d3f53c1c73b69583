"""Tasks whose answers are code, judged by tests: rows with tests, and the code in a reply.

A row has tests if it has one of

- `test` and `entry_point` (HumanEval): the test defines `check(candidate)`, the question is the code to be continued;
- `test_list`, with `test_setup_code` (MBPP), or `tests`: a text or a list of texts, each a piece of Python that raises
  nothing if it passes; names that it does not define are the answer's;
- `tests` as a list of `{"input", "output"}`: the answer is a program that reads standard input.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from selftaught.errors import BadInput
from selftaught.feedback.code import is_python, stub

INSTRUCTION = "Finish with the complete code in one block that begins with ```python."
"""Appended to every question of a code task unless another instruction is given."""

_FENCE = re.compile(r"^[ \t]*```[ \t]*(\w*)[^\n`]*\n(.*?)(?:^[ \t]*```|\Z)", re.MULTILINE | re.DOTALL)
_PYTHON = ("", "py", "python", "python3")
_LOOKS_LIKE_TEST = re.compile(r"\bassert\b|\braise\b|def check\b")


def tests_of(get: Any, question: str, where: str) -> dict[str, Any] | None:
    """The tests of a row, as the reference of its problem; None if it has none.

    Args:
        get: name of a field -> its value, None if it is missing or empty.
        question: text of the question, without the instruction.
        where: `file:line`, for messages.

    Returns:
        `tests`, a list of Python texts, with `entry_point`, `prelude` (code of the tests' own) and `start` (code that
        the answer continues), or `io`, a list of (input, output).

    Raises:
        BadInput: its tests are neither text nor pairs of input and output.
    """
    test, entry_point = get("test"), get("entry_point")
    if isinstance(test, str) and isinstance(entry_point, str) and _LOOKS_LIKE_TEST.search(test):
        start = stub(question)
        return _reference([test], entry_point, start or "", question if start else "")
    setup = get("test_setup_code")
    for name in ("test_list", "tests"):
        given = get(name)
        some: list[Any] = given if isinstance(given, list) else [given]
        if not some or some == [None]:
            continue
        if all(isinstance(one, str) for one in some) and _LOOKS_LIKE_TEST.search("\n".join(some)):
            return _reference(some, entry_point or "", setup if isinstance(setup, str) else "", "")
        if all(isinstance(one, Mapping) and {"input", "output"} <= one.keys() for one in some):
            return {"io": [[str(one["input"]), str(one["output"])] for one in some]}
        if name == "test_list":
            fix = 'write Python texts ("assert f(1) == 2"), or objects {"input": ..., "output": ...}'
            raise BadInput(f"{name!r} holds no tests", where=where, fix=fix)
    return None


def _reference(tests: list[str], entry_point: str, prelude: str, start: str) -> dict[str, Any]:
    return {"tests": tests, "entry_point": entry_point, "prelude": prelude, "start": start}


def find_code(text: str) -> str | None:
    """The code in a reply: its last fenced block of Python, else the whole reply if that is Python.

    A block without an end, as of a truncated reply, counts if it is Python. A block of another language never does.
    """
    blocks = [m[2] for m in _FENCE.finditer(text) if m[1].lower() in _PYTHON]
    if blocks:
        closed = re.search(r"^[ \t]*```[ \t]*$", text, re.MULTILINE)
        last = blocks[-1].strip("\n")
        return last if last and (closed or is_python(last)) else None
    whole = text.strip("\n")
    return whole if whole.strip() and "```" not in whole and (is_python(whole) or _continues(whole)) else None


def _continues(text: str) -> bool:
    """Whether a text is the body of a function."""
    return text[:1] in (" ", "\t") and is_python("def f():\n" + text)
