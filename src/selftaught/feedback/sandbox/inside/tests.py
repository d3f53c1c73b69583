"""In a second sandbox: runs the tests of a candidate, whose functions it calls in the candidate's own sandbox.

Lines to the outside begin with C (a call, for the candidate), F (a test has failed, and why) or V (the verdict, the
last line). Only this process knows what is expected, and it holds no code of the candidate's.
"""

import ast
import builtins
import contextlib
import os
import sys
from collections.abc import Iterable
from typing import Any, TypeGuard

from . import plain
from .main import execute, told


class Unfit(BaseException):
    """The candidate cannot pass: it does not begin, ends, or answers with what is no plain data."""


class Untestable(BaseException):
    """These tests cannot judge a candidate, whatever it is."""


class Candidate:
    """The candidate's end of the line.

    Attributes:
        calls: how often it was called.
    """

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what the tests print is no line
        self.calls = 0

    def names(self, entry_points: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        """What the candidate defines: its functions, as functions here, and its values.

        None hides a built-in name but what is tested.
        """
        hello = self.reply({"functions", "values"})
        if "error" in hello:
            raise Unfit(hello["error"])
        allowed = {name for name in entry_points if name}
        try:
            functions = {str(n): self.function(str(n)) for n in hello["functions"] if shows(n, allowed)}
            values = {str(n): value for n, value in dict(hello["values"]).items() if shows(n, allowed)}
        except Exception:
            raise Unfit("the candidate's process sent no answer") from None
        return functions, values

    def function(self, name: str) -> Any:
        """A function that calls the candidate's of this name."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.calls += 1
            try:
                line = plain.dumps({"name": name, "args": list(args), "kwargs": kwargs})
            except plain.NotPlain as e:
                raise Untestable(f"the tests hand {e} to {name}, which cannot cross to another process") from None
            self.send("C", line)
            reply = self.reply({"result", "after"})
            if "raised" in reply:
                raise raised(reply)
            update(args, reply["after"])
            return reply["result"]

        call.__name__ = call.__qualname__ = name
        return call

    def reply(self, whole: set[str]) -> dict[str, Any]:
        """The candidate's next line: with these entries, or with what it raised, or an error."""
        line = sys.stdin.readline()
        if not line:
            raise Unfit("the candidate's process ended")
        try:
            reply = plain.loads(line)
            known = whole <= reply.keys() or {"raised", "error"} & reply.keys()
            unfit = str(reply.get("unfit", ""))
        except Exception:
            raise Unfit("the candidate's process sent no answer") from None
        if unfit or not known:
            raise Unfit(unfit or "the candidate's process sent no answer")
        return reply

    def send(self, what: str, line: str) -> None:
        """Write a line."""
        self._out.write(what + line + "\n")
        self._out.flush()


def shows(name: Any, allowed: set[str]) -> bool:
    """Whether the tests may see a name of the candidate's."""
    return name in allowed or not hasattr(builtins, str(name))


def classes_in(test: str, names: Iterable[str]) -> list[str]:
    """Those of the names that a test uses as classes and does not bring along."""
    present = [name for name in names if name in test]
    if not present:
        return []
    try:
        tree = ast.parse(test)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return []
    own = {one.name for one in ast.walk(tree) if isinstance(one, (ast.ClassDef, ast.FunctionDef))}
    own |= {one.asname or one.name for one in ast.walk(tree) if isinstance(one, ast.alias)}
    return [name for name in present if name not in own and is_class_in(tree, name)]


def is_class_in(tree: ast.AST, name: str) -> bool:
    """Whether a test uses a name as a class, whose objects stay where they are made.

    That is, they inherit from it, ask whether something is one, enter what it returns, or use a member of that which no
    plain data has, any member where the name is in CapWords. Only the tests tell: what the candidate says of itself
    does not count.
    """
    kinds = () if name[:1].isupper() else plain_types()
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and is_call(node.value, name)]
    made = {one.id for node in stored for one in node.targets if isinstance(one, ast.Name)}
    for node in ast.walk(tree):
        if isinstance(node, ast.withitem) and is_call(node.context_expr, name):
            return True
        if isinstance(node, ast.ClassDef) and any(is_name(base, name) for base in node.bases):
            return True
        if is_call(node, "isinstance") and any(is_name(n, name) for kind in node.args[1:] for n in ast.walk(kind)):
            return True
        if isinstance(node, ast.Attribute) and not any(hasattr(kind, node.attr) for kind in kinds):
            of = node.value
            if is_call(of, name) or (isinstance(of, ast.Name) and of.id in made):
                return True
    return False


def plain_types() -> tuple[type, ...]:
    """The types of plain data."""
    from collections import deque
    from decimal import Decimal
    from fractions import Fraction
    from types import GeneratorType

    of_python = (bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, range, GeneratorType)
    return (*of_python, deque, Decimal, Fraction, type({}.keys()), type({}.items()))


def is_call(node: Any, name: str) -> TypeGuard[ast.Call]:
    """Whether a node calls this name."""
    return isinstance(node, ast.Call) and is_name(node.func, name)


def is_name(node: Any, name: str) -> bool:
    """Whether a node is this name."""
    return isinstance(node, ast.Name) and node.id == name


def update(args: tuple[Any, ...], after: Any) -> None:
    """Give mutable arguments the content that the candidate left in its copies."""
    changed = after if isinstance(after, dict) else {}
    for number, mine in enumerate(args):
        new = changed.get(number)
        if new is None or type(new) is not type(mine):
            continue
        if isinstance(mine, list):
            mine[:] = new
        elif isinstance(mine, (dict, set)):
            mine.clear()
            mine.update(new)


def raised(reply: dict[str, Any]) -> Exception:
    """What the candidate raised: the nearest exception that is built in, but none that ends a loop in silence."""
    given, text = reply.get("args"), str(reply.get("text", ""))
    args = tuple(given) if isinstance(given, (list, tuple)) else ()
    found: Exception = Exception(*args)
    for name in reply.get("kinds", []):
        kind = getattr(builtins, str(name), None)
        if kind in (StopIteration, StopAsyncIteration):
            found = RuntimeError(f"the candidate raised {name}")
            break
        if isinstance(kind, type) and issubclass(kind, Exception):
            with contextlib.suppress(TypeError):  # UnicodeDecodeError, whose arguments may not have crossed
                found = kind(*args)
            break
    found.add_note(text)
    return found


def run_tests(job: dict[str, Any]) -> None:
    """Run each test by itself; say how many passed, and why the first that failed did."""
    candidate, tests, passed, text, decided = Candidate(), job["tests"], 0, "", True
    try:
        functions, values = candidate.names([job["entry_point"], *job["entry_points"]])
        ours = prelude(job["prelude"])
        tested = {job["entry_point"], *job["entry_points"]}
        names = functions | values | {n: one for n, one in ours.items() if n not in tested or n not in functions}
        for number, source in enumerate(tests, 1):
            if made := classes_in(source, functions):
                raise Untestable(f"the tests use {made[0]}, a class of the answer's")
            failed = one_test(source, dict(names), job["entry_point"])
            passed += not failed
            if failed and not text:
                text = f"test {number} of {len(tests)} fails\n{failed}"[-4000:]
                candidate.send("F", plain.dumps(text))
        if passed and not candidate.calls and not any(name in source for name in values for source in tests):
            passed, text, decided = 0, "no test calls what the answer defines", False
    except Unfit as e:
        text = text or str(e)
    except Untestable as e:
        text, decided = text or str(e), bool(text)
    candidate.send("V", plain.dumps({"passed": passed, "text": text[-4000:], "decided": decided}))


def prelude(source: str) -> dict[str, Any]:
    """The names that the tests bring along, which the candidate's cannot replace."""
    found = execute(source, "prelude")
    if isinstance(found, str):
        raise Untestable(f"the tests' own code fails: {found}")
    return found


def one_test(source: str, names: dict[str, Any], entry_point: str) -> str:
    """Why a test fails; empty if it passes.

    Runs what it defines, too: `check`, with the entry point, functions `test...`, and cases of unittest.
    """
    before = dict(names)
    if "random" in source:  # the same verdict each time
        import random

        random.seed(0)
    try:
        exec(compile(source, "<test>", "exec"), names)
        new = {name: one for name, one in names.items() if one is not before.get(name)}
        if entry_point and callable(check := new.get("check")):
            check(names[entry_point])
        for name, one in new.items():
            if name.startswith("test") and callable(one) and not isinstance(one, type):
                one()
            elif isinstance(one, type) and any(kind.__name__ == "TestCase" for kind in one.__mro__[1:]):
                run_case(one)
    except (Unfit, Untestable):
        raise
    except BaseException as e:
        return told(e)
    return ""


def run_case(case: Any) -> None:
    """Run the tests of a case of unittest.

    Raises:
        AssertionError: one fails.
    """
    import unittest

    found = unittest.TestResult()
    unittest.defaultTestLoader.loadTestsFromTestCase(case).run(found)
    if wrong := [*found.failures, *found.errors]:
        raise AssertionError(wrong[0][1])
