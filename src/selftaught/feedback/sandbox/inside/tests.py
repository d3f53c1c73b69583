"""In a second sandbox: runs the tests of a candidate, whose functions it calls in the candidate's own sandbox.

Lines to the outside begin with C (a call, for the candidate) or V (the verdict, the last line). Only this process knows
what is expected, and it holds no code of the candidate's.
"""

import builtins
import os
import sys
from typing import Any

from . import plain
from .main import execute, told


class Unfit(BaseException):
    """The candidate cannot be tested: it does not begin, ends, or answers with what is no plain data."""


class Candidate:
    """The candidate's end of the line."""

    def __init__(self) -> None:
        self._out = os.fdopen(os.dup(1), "w", encoding="utf-8")
        os.dup2(2, 1)  # what the tests print is no line

    def names(self, entry_point: str) -> dict[str, Any]:
        """What the candidate defines: its functions, as functions here, and its values. None hides a built-in name."""
        hello = self.reply()
        if "error" in hello:
            raise Unfit(hello["error"])
        found = {name: self.function(name) for name in hello["functions"]} | dict(hello["values"])
        return {name: one for name, one in found.items() if name == entry_point or not hasattr(builtins, name)}

    def function(self, name: str) -> Any:
        """A function that calls the candidate's of this name."""

        def call(*args: Any, **kwargs: Any) -> Any:
            self.say("C", {"name": name, "args": list(args), "kwargs": kwargs})
            reply = self.reply()
            if "raised" in reply:
                raise raised(reply)
            for mine, after in zip(args, reply["after"], strict=True):
                update(mine, after)
            return reply["result"]

        call.__name__ = call.__qualname__ = name
        return call

    def reply(self) -> dict[str, Any]:
        """The candidate's next line."""
        line = sys.stdin.readline()
        if not line:
            raise Unfit("the candidate's process ended")
        try:
            reply = plain.loads(line)
            whole = ({"functions", "values"} <= reply.keys()) or ({"result", "after"} <= reply.keys())
            unfit = "" if whole or {"raised", "error"} & reply.keys() else str(reply["unfit"])
        except Exception:
            raise Unfit("the candidate's process sent no answer") from None
        if unfit:
            raise Unfit(unfit)
        return reply

    def say(self, what: str, message: dict[str, Any]) -> None:
        """Write a line."""
        self._out.write(what + plain.dumps(message) + "\n")
        self._out.flush()


def update(mine: Any, after: Any) -> None:
    """Give a mutable argument the content that the candidate left in its copy."""
    if type(mine) is not type(after):
        return
    if isinstance(mine, list):
        mine[:] = after
    elif isinstance(mine, (dict, set)):
        mine.clear()
        mine.update(after)


def raised(reply: dict[str, Any]) -> Exception:
    """What the candidate raised: the nearest exception that is built in."""
    text = str(reply.get("text", ""))
    for name in reply.get("kinds", []):
        kind = getattr(builtins, str(name), None)
        if isinstance(kind, type) and issubclass(kind, Exception):
            try:
                return kind(text)
            except TypeError:  # such as UnicodeDecodeError, which takes five arguments
                break
    return Exception(text)


def run_tests(job: dict[str, Any]) -> None:
    """Run each test by itself; say how many passed, and why the first that failed did."""
    candidate, tests, entry_point = Candidate(), job["tests"], job["entry_point"]
    passed, text = 0, ""
    try:
        theirs = candidate.names(entry_point)
        ours = prelude(job["prelude"])
        names = theirs | {name: one for name, one in ours.items() if name != entry_point or name not in theirs}
        for number, source in enumerate(tests, 1):
            failed = one_test(source, dict(names), entry_point)
            passed += not failed
            text = text or (failed and f"test {number} of {len(tests)} fails\n{failed}")
    except Unfit as e:
        text = f"{e}"
    candidate.say("V", {"passed": passed, "of": len(tests), "text": text[-4000:]})


def prelude(source: str) -> dict[str, Any]:
    """The names that the tests bring along, which the candidate's cannot replace."""
    found = execute(source, "prelude")
    if isinstance(found, str):
        raise RuntimeError(f"the tests' own code fails: {found}")
    return found


def one_test(source: str, names: dict[str, Any], entry_point: str) -> str:
    """Why a test fails; empty if it passes. Where it defines `check`, that is called with the entry point."""
    theirs = names.get("check")
    try:
        exec(compile(source, "<test>", "exec"), names)
        check = names.get("check")
        if entry_point and check is not None and check is not theirs:
            check(names[entry_point])
    except Unfit:
        raise
    except BaseException as e:
        return told(e)
    return ""
