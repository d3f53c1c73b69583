"""Code as an answer: whether a text is Python, and the whole program that an answer is part of."""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import Any, TypeGuard

VISIBLE = "visible_tests"
"""Key of `Problem.meta` with the tests that solvers may see, in the form of a reference."""


def has_tests(reference: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether a problem's reference is what `tests_of` makes."""
    return isinstance(reference, Mapping) and bool({"tests", "io"} & reference.keys())


def is_python(text: str) -> bool:
    """Whether a text is Python, and more than a word or a number."""
    try:
        body = ast.parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return any(not isinstance(one, ast.Expr) for one in body)


def saying_result(test: str) -> str:
    """A test whose equations (`assert f(1) == 2`) say what the call came to where they do not hold."""
    tree = ast.parse(test)
    for node in ast.walk(tree):
        if not (isinstance(node, ast.Assert) and node.msg is None and isinstance(node.test, ast.Compare)):
            continue
        if isinstance(node.test.left, ast.Call) and [type(one) for one in node.test.ops] == [ast.Eq]:
            got = ast.NamedExpr(ast.Name("got_", ast.Store()), node.test.left)
            node.test.left, node.msg = got, ast.parse('f"it is {got_!r}"', mode="eval").body
    return ast.unparse(ast.fix_missing_locations(tree))


def stub(code: str) -> str | None:
    """Code that ends in the head of a function, made whole with an empty body; None if it is no such code."""
    for body in ("    pass\n", "\n    pass\n"):
        whole = code if code.endswith("\n") else code + "\n"
        try:
            ast.parse(whole + body)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            continue
        return whole + body
    return None


def program(code: str, reference: Mapping[str, Any]) -> str:
    """The whole program of an answer: behind the start that it continues, or with the start's imports and helpers.

    Args:
        code: an answer.
        reference: the problem's, see `tests_of`.
    """
    start, name = reference.get("start", ""), reference.get("entry_point", "")
    if not start or not name:
        return code
    if re.search(rf"^(?:async\s+def|def|class)\s+{re.escape(name)}\b|^{re.escape(name)}\s*=", code, re.MULTILINE):
        return f"{stub(start) or ''}\n\n{code}"
    return start + ("" if start.endswith("\n") else "\n") + code
