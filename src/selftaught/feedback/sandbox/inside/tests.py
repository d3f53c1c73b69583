"""In a second sandbox: runs the tests of a candidate, whose functions it calls in the candidate's own sandbox.

Lines to the outside begin with C (a call, for the candidate), F (a test has failed, and why) or V (the verdict, the
last line). Only this process knows what is expected, and it holds no code of the candidate's.
"""

import ast
import builtins
import contextlib
import os
import sys
from collections.abc import Callable
from typing import Any

from . import plain
from .main import execute, told


class Unfit(BaseException):
    """The candidate cannot pass: it does not begin, ends, or answers with what is no plain data."""


class Untestable(BaseException):
    """These tests cannot judge a candidate, whatever it is."""


class Candidate:
    """The candidate's end of the line.

    Args:
        tests: their source.
        entry_point: name of what is tested, which `check` calls otherwise.

    Attributes:
        calls: how often it was called.
        end: why it cannot be tested any further; a test that catches everything catches that, too.
    """

    def __init__(self, tests: list[str], entry_point: str) -> None:
        self._tests, self._entry_point = tests, entry_point
        self._received = 0  # characters of its longest answer
        self.end: Unfit | Untestable | None = None
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
                what = f"the tests hand {e} to {name}, which cannot cross to another process"
                raise self.ends(Unfit(what) if self._received > plain.LARGEST // 4 else Untestable(what)) from None
            self.send("C", line)
            reply = self.reply({"result", "after"})
            if "object" in reply:
                raise self.ends(self._told_of_object(name, str(reply["object"])))
            if "raised" in reply:
                raise raised(reply)
            update(args, reply["after"])
            return reply["result"]

        call.__name__ = call.__qualname__ = name
        return call

    def _told_of_object(self, name: str, what: str) -> Unfit | Untestable:
        """What it means that an answer returns an object of its own: the tests tell whether they are meant for one."""
        names = {name, *(parameters_of_check(self._tests) if name == self._entry_point else ())}
        return Unfit(what) if is_used_as_data(self._tests, names) else Untestable(what)

    def ends(self, why: Unfit | Untestable) -> Unfit | Untestable:
        """Remember the first reason why it cannot be tested further."""
        self.end = self.end or why
        return self.end

    def reply(self, whole: set[str]) -> dict[str, Any]:
        """The candidate's next line: with these entries, or with what it raised, or an error."""
        line = sys.stdin.readline()
        self._received = max(self._received, len(line))
        if not line:
            raise self.ends(Unfit("the candidate's process ended"))
        try:
            reply = plain.loads(line)
            known = whole <= reply.keys() or {"raised", "error", "object"} & reply.keys()
            unfit = str(reply.get("unfit", ""))
        except Exception:
            raise self.ends(Unfit("the candidate's process sent no answer")) from None
        if unfit or not known:
            raise self.ends(Unfit(unfit or "the candidate's process sent no answer"))
        return reply

    def send(self, what: str, line: str) -> None:
        """Write a line."""
        self._out.write(what + line + "\n")
        self._out.flush()


def shows(name: Any, allowed: set[str]) -> bool:
    """Whether the tests may see a name of the candidate's."""
    return name in allowed or not hasattr(builtins, str(name))


def is_used_as_data(tests: list[str], names: set[str]) -> bool:
    """Whether some test uses what a function returns as data, whatever an answer says of itself.

    That is, it asserts the result, compares it with something that is no such result, calculates with it, or hands it
    to a function that takes numbers or sorts. Where the tests do nothing of this, they may be meant for objects.

    Args:
        tests: their source.
        names: that the function has there.
    """
    return any(uses_as_data(tree, names) for tree in map(parsed, tests) if tree)


def uses_as_data(tree: ast.AST, names: set[str]) -> bool:
    """See `is_used_as_data`."""
    stored = [node for node in ast.walk(tree) if isinstance(node, ast.Assign) and is_call(node.value, names)]
    held = {one.id for node in stored for one in node.targets if isinstance(one, ast.Name)}

    def result(node: ast.AST) -> bool:
        return is_call(node, names) or (isinstance(node, ast.Name) and node.id in held)

    return any(shows_data(node, result) for node in ast.walk(tree))


def shows_data(node: ast.AST, result: Callable[[ast.AST], bool]) -> bool:
    """Whether a node of a test uses a result as data.

    Args:
        result: whether a node is such a result.
    """
    if isinstance(node, ast.Compare):
        sides, same = [node.left, *node.comparators], all(isinstance(op, (ast.Is, ast.IsNot)) for op in node.ops)
        return not same and any(map(result, sides)) and not all(map(result, sides))
    if isinstance(node, (ast.Assert, ast.If, ast.While)):
        return result(node.test)
    if isinstance(node, ast.UnaryOp):
        return result(node.operand)
    if isinstance(node, ast.BinOp):
        return result(node.left) != result(node.right)
    return isinstance(node, ast.Call) and takes_numbers(node.func) and any(map(result, node.args))


def takes_numbers(function: ast.expr) -> bool:
    """Whether a function of Python's, or of its module `math`, takes numbers, or sorts."""
    if isinstance(function, ast.Attribute):
        return isinstance(function.value, ast.Name) and function.value.id == "math"
    return isinstance(function, ast.Name) and function.id in ("abs", "round", "sum", "sorted", "int", "float")


def parameters_of_check(tests: list[str]) -> set[str]:
    """What functions `check` call their first parameter, which is the function that is tested."""
    defined = [node for tree in map(parsed, tests) if tree for node in ast.walk(tree)]
    checks = [node for node in defined if isinstance(node, ast.FunctionDef) and node.name == "check"]
    return {node.args.args[0].arg for node in checks if node.args.args}


def parsed(source: str) -> ast.AST | None:
    """A test's syntax tree; None where it has none."""
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def is_call(node: Any, names: set[str]) -> bool:
    """Whether a node calls one of these names."""
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names


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
    tests, passed, text, decided = job["tests"], 0, "", True
    candidate = Candidate(tests, job["entry_point"])
    try:
        functions, values = candidate.names([job["entry_point"], *job["entry_points"]])
        ours = prelude(job["prelude"])
        tested = {job["entry_point"], *job["entry_points"]}
        names = functions | values | {n: one for n, one in ours.items() if n not in tested or n not in functions}
        for number, source in enumerate(tests, 1):
            failed = one_test(source, dict(names), job["entry_point"])
            if candidate.end:
                raise candidate.end
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
