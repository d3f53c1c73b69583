"""Tasks whose answers are code, judged by tests: rows with tests, and the code in a reply.

A row has tests if it has one of

- `test` and `entry_point` (HumanEval): the test defines `check(candidate)`, the question is the code to be continued;
- `test_list`, with `test_setup_code` and `test_imports` (MBPP), or `tests`: a text or a list of texts, each a piece of
  Python that raises nothing if it passes; names that it does not define are the answer's;
- `tests` as a list of `{"input", "output"}`, or as one with lists: the answer is a program that reads standard input.

Tests that solvers may see (`Task.shown`) are those of `visible_tests` or `public_tests`, in the same forms; else the
first of MBPP's, which the question of its authors shows, and the examples (`>>> f(1)`) in the code of HumanEval.
"""

from __future__ import annotations

import ast
import builtins
import doctest
import re
from collections.abc import Mapping
from typing import Any

from selftaught.errors import BadInput
from selftaught.feedback.code import VISIBLE, is_python, stub

INSTRUCTION = "Finish with the complete code in one block that begins with ```python."
"""Appended to every question of a code task unless another instruction is given."""

_PYTHON = ("", "py", "python", "python3")
_EXAMPLE = re.compile(r"[\s*>\d.-]*?(\w+\(.*\))\s*(?:==|=>|->|➞|returns?)\s*(.+)")
_FENCE = re.compile(r"([ \t]*)(`{3,}|~{3,})[ \t]*([\w+-]*)[^`]*")


def tests_of(get: Any, question: str, where: str) -> dict[str, Any] | None:
    """The tests of a row, as the reference of its problem; None if it has none.

    Args:
        get: name of a field -> its value, None if it is missing or empty.
        question: text of the question, without the instruction.
        where: `file:line`, for messages.

    Returns:
        `tests`, a list of Python texts, with `entry_point`, `entry_points` (names that the tests call), `prelude` (code
        of the tests' own), `start` (code that the answer continues) and `calls` (what an answer must define, for the
        question), or `io`, a list of (input, output).

    Raises:
        BadInput: its tests define `check` and it names no entry point, or inputs and outputs are no text.
    """
    test, entry_point = get("test"), get("entry_point")
    entry_point = entry_point if isinstance(entry_point, str) else ""
    if isinstance(test, str) and entry_point and is_test(test):
        start = stub(question)
        return _reference([test], entry_point, [], start or "", question if start else "", "")
    for name in ("test_list", "tests"):
        some = _listed(get(name))
        if some and all(isinstance(one, str) and is_test(one) for one in some):
            if not entry_point and any(re.search(r"^def check\b", one, re.MULTILINE) for one in some):
                fix = "name the function to be tested in a field `entry_point`"
                raise BadInput(f"{name!r} defines check(...), and the row has no entry point", where=where, fix=fix)
            called = names_called(some, get("code"))
            setup = "\n".join([*_listed(get("test_imports")), *_listed(get("test_setup_code"))])
            return _reference(some, entry_point, called, setup, "", "" if entry_point else _heads(called, get("code")))
        if some and all(isinstance(one, Mapping) and {"input", "output"} <= one.keys() for one in some):
            pairs = [[one["input"], one["output"]] for one in some]
            if not all(isinstance(text, str) for pair in pairs for text in pair):
                fix = "write what a program reads and prints as text, or name the answer (--answer-field)"
                raise BadInput(f"an input or output of {name!r} is no text", where=where, fix=fix)
            return {"io": pairs}
    return None


def visible_tests_of(get: Any, tests: Mapping[str, Any], where: str) -> dict[str, Any] | None:
    """The tests of a row that solvers may see, in the form of its reference; None if there are none.

    Args:
        get: name of a field -> its value.
        tests: the row's reference, see `tests_of`.
        where: `file:line`, for messages.

    Raises:
        BadInput: the field is neither Python that can fail nor a list of inputs and outputs.
    """
    for name in (VISIBLE, "public_tests"):
        if not (some := _listed(get(name))):
            continue
        try:
            found = tests_of({"tests": some, "entry_point": tests.get("entry_point")}.get, "", where)
        except BadInput:
            if name == VISIBLE:
                raise
            continue  # of another form than ours, as some data sets have it
        if found:
            return found if "io" in found else {**found, "prelude": tests.get("prelude", "")}
        if name == VISIBLE:
            fix = 'write a list of Python tests, or of {"input", "output"}'
            raise BadInput(f"{name!r} is neither Python that can fail nor inputs and outputs", where=where, fix=fix)
    if tests.get("tests") == (listed := _listed(get("test_list"))) and len(listed) > 1:  # the others stay hidden
        return {**tests, "tests": tests["tests"][:1]}
    if (start := tests.get("start")) and (examples := _examples(start, tests["entry_point"])):
        return {**tests, "tests": examples, "entry_point": "", "entry_points": [tests["entry_point"]]}
    return None


def _examples(start: str, name: str) -> list[str]:
    """The examples in the docstring of the function that an answer continues, as tests."""
    functions = {one.name: one for one in ast.parse(stub(start) or "").body if isinstance(one, ast.FunctionDef)}
    text = (name in functions and ast.get_docstring(functions[name])) or ""
    try:
        found = [(one.source, one.want) for one in doctest.DocTestParser().get_examples(text)]
    except ValueError:  # a prompt without a space, and the like
        found = []
    found = found or [(one[1], one[2]) for line in text.splitlines() if (one := _EXAMPLE.fullmatch(line))]
    tests = [(_equation(call.strip(), want.strip(), {*functions, *dir(builtins)}), call) for call, want in found]
    return [test for test, call in tests if test and name in call]


def _equation(call: str, want: str, known: set[str]) -> str:
    """An example as a test; empty where it has other names than `known`, or its result is not written as Python."""
    try:
        made = ast.parse(call, mode="eval")
        ast.literal_eval(want)
    except (SyntaxError, ValueError, TypeError, RecursionError, MemoryError):
        return ""
    names = {node.id for node in ast.walk(made) if isinstance(node, ast.Name)}
    return f"assert {ast.unparse(made)} == {want}" if names <= known else ""


def _listed(given: Any) -> list[Any]:
    """What a field holds as a list; a mapping of lists, as some libraries hold rows, as the rows."""
    if isinstance(given, Mapping) and given and all(isinstance(one, list) for one in given.values()):
        return [dict(zip(given, row, strict=False)) for row in zip(*given.values(), strict=False)]
    return given if isinstance(given, list) else [] if given is None else [given]


def is_test(text: str) -> bool:
    """Whether a text is Python that asserts or raises something, or defines what does."""
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(isinstance(node, (ast.Assert, ast.Raise)) for node in ast.walk(tree)) or "TestCase" in text


def names_called(tests: list[str], code: Any) -> list[str]:
    """Names that tests call and do not define: of the reference, if there is one, else not built in."""
    trees = [node for text in tests for node in ast.walk(ast.parse(text))]
    called = [node.func.id for node in trees if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)]
    defined = {one.name for one in trees if isinstance(one, (ast.FunctionDef, ast.ClassDef))}
    theirs = _functions(code)
    known = [name for name in called if name in theirs or not (theirs or hasattr(builtins, name) or name in defined)]
    return list(dict.fromkeys(known))


def _heads(names: list[str], code: Any) -> str:
    """What an answer must define: heads of functions, of the reference if there is one."""
    heads = _functions(code)
    return ", ".join(heads.get(name, name) for name in names)


def _functions(code: Any) -> dict[str, str]:
    """Name -> head of each function of a program."""
    try:
        body = ast.parse(code).body if isinstance(code, str) else []
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return {}
    return {one.name: f"{one.name}({ast.unparse(one.args)})" for one in body if isinstance(one, ast.FunctionDef)}


def _reference(
    tests: list[str], entry_point: str, entry_points: list[str], prelude: str, start: str, calls: str
) -> dict[str, Any]:
    return {
        "tests": tests, "entry_point": entry_point, "entry_points": entry_points, "prelude": prelude, "start": start,
        "calls": calls,
    }  # fmt: skip


# --- the code in a reply ---


def find_code(text: str) -> str | None:
    """The code in a reply: of its blocks of Python the last that defines something, else the last, else the reply.

    A block that is not labeled counts only if it is Python, as output is shown in such blocks, too; one without an end,
    as of a truncated reply, likewise. A block of another language never does.
    """
    found = [code for label, code, whole in _blocks(text) if _counts(label, code, whole)]
    defining = [code for code in found if re.search(r"^(?:async def|def|class)\s", code, re.MULTILINE)]
    if found:
        return (defining or found)[-1]
    whole = text.strip("\n")
    fenced = "```" in whole or "~~~" in whole
    return whole if whole.strip() and not fenced and (is_python(whole) or _continues(whole)) else None


def _counts(label: str, code: str, whole: bool) -> bool:
    if label.lower() not in _PYTHON or not code.strip():
        return False
    return is_python(code) or _continues(code) or bool(label and whole)


def _blocks(text: str) -> list[tuple[str, str, bool]]:
    """Each fenced block: its label, its text without the fence's indentation, and whether it has an end."""
    found: list[tuple[str, str, bool]] = []
    opened: re.Match[str] | None = None
    lines: list[str] = []
    for line in text.split("\n"):
        fence = _FENCE.fullmatch(line.rstrip("\r"))
        if opened is None:
            opened, lines = fence, []
        elif fence and _ends(opened, fence):
            found.append((opened[3], "\n".join(lines), True))
            opened = None
        else:
            lines.append(line.removeprefix(opened[1]))
    return [*found, (opened[3], "\n".join(lines), False)] if opened else found


def _ends(opened: re.Match[str], fence: re.Match[str]) -> bool:
    """Whether a fence ends the block that another one opened: of the same kind, no further in, and nothing else."""
    alike = fence[2].startswith(opened[2]) and len(fence[1]) <= len(opened[1])
    return alike and not fence[3] and fence[0].strip() == fence[2]


def _continues(text: str) -> bool:
    """Whether a text is the body of a function."""
    return text[:1] in (" ", "\t") and is_python("def f():\n" + text)
