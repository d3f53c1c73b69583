"""In the sandbox: runs a model's code, then calls its functions for the tests, which run in another sandbox.

Whatever the code does to this process, it can only change its own answers: the tests, what they expect and their
verdict are not here, and only plain data crosses.
"""

import os
import sys
from collections.abc import Callable
from typing import Any

from . import plain
from .main import execute, told


def serve(job: dict[str, str]) -> None:
    """Run the code and answer calls, a line each, until there are no more."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the code prints is for whoever reads its errors
    calls = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    say(out, begin(job["source"]))
    for line in calls:
        say(out, answer(_NAMESPACE, plain.loads(line)))


_NAMESPACE: dict[str, Any] = {}


def begin(source: str) -> dict[str, Any]:
    """Run the code: the names of what it defines, or what it raised."""
    try:
        found = execute(source, "candidate")
    except SystemExit as e:
        return {"error": f"SystemExit: {e.code}"}
    if isinstance(found, str):
        return {"error": found[-4000:]}
    _NAMESPACE.update(found)
    public = {name: value for name, value in found.items() if not name.startswith("__")}
    values = {name: value for name, value in public.items() if not callable(value) and is_plain(value)}
    return {"functions": [name for name, value in public.items() if callable(value)], "values": values}


def is_plain(value: Any) -> bool:
    """Whether a value can be sent."""
    try:
        plain.dumps(value)
    except Exception:
        return False
    return True


def answer(functions: dict[str, Callable[..., Any]], call: dict[str, Any]) -> dict[str, Any]:
    """What a call returns, with its arguments as it left them; or what it raised."""
    args, kwargs = call["args"], call["kwargs"]
    try:
        result = functions[call["name"]](*args, **kwargs)
        return {"result": result, "after": args}
    except BaseException as e:
        return {"raised": type(e).__name__, "kinds": [k.__name__ for k in type(e).__mro__], "text": told(e)[-4000:]}


def say(out: Any, message: dict[str, Any]) -> None:
    """Write a message as a line."""
    try:
        line = plain.dumps(message)
    except Exception as e:
        line = plain.dumps({"unfit": f"an answer holds {e}, which cannot be handed to the tests"[:400]})
    out.write(line + "\n")
    out.flush()
    sys.stdout.flush()
    sys.stderr.flush()
