"""In the sandbox: runs a model's code, then calls its functions for the tests, which run in another sandbox.

Whatever the code does to this process, it can only change its own answers: the tests, what they expect and their
verdict are not here, and only plain data crosses.
"""

import os
import sys
from typing import Any

from . import plain
from .main import execute, told

LONGEST_VALUE = 20_000  # characters of a value that is sent before anything is asked


def serve(job: dict[str, str]) -> None:
    """Run the code and answer calls, a line each, until there are no more."""
    out = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)  # what the code prints is for whoever reads its errors
    calls = os.fdopen(os.dup(0), encoding="utf-8")
    nothing = os.open("/dev/null", os.O_RDONLY)
    os.dup2(nothing, 0)
    functions: dict[str, Any] = {}
    say(out, begin(job["source"], job["entry_point"], functions))
    for line in calls:
        call = plain.loads(line)
        say(out, answer(functions[call["name"]], call["name"], call["args"], call["kwargs"]))


def begin(source: str, entry_point: str, functions: dict[str, Any]) -> dict[str, Any]:
    """Run the code: the names of what it defines, or what it raised.

    Args:
        entry_point: an expression for what is tested, if it is no name, such as `Solution().solve`.
        functions: gets what can be called, by name.
    """
    try:
        found = execute(source, "candidate")
        if isinstance(found, str):
            return {"error": found[-4000:]}
        public = {name: value for name, value in found.items() if not name.startswith("__")}
        if entry_point and not entry_point.isidentifier():
            public[entry_point] = eval(entry_point, found)
    except BaseException as e:
        return {"error": f"{type(e).__name__}: {e}"[:4000]}
    functions.update((name, value) for name, value in public.items() if callable(value))
    values = {name: value for name, value in public.items() if name not in functions and is_small(value)}
    return {"functions": list(functions), "values": values}


def is_small(value: Any) -> bool:
    """Whether a value can be sent at once: plain, short, and not used up by it."""
    try:
        return len(plain.dumps(value, iterators=False)) <= LONGEST_VALUE
    except Exception:
        return False


def answer(function: Any, name: str, args: list[Any], kwargs: dict[str, Any]) -> dict[str, Any]:
    """What a call returns, with those of its arguments that it changed; or what it raised."""
    mutable = {i: plain.dumps(one) for i, one in enumerate(args) if isinstance(one, (list, dict, set))}
    try:
        result = function(*args, **kwargs)
        if isinstance(function, type) and not is_plain(result):
            return {"object": f"{name} makes objects of a class of the answer's, which stay in its process"}
        after = {i: args[i] for i, before in mutable.items() if plain.dumps(args[i], iterators=False) != before}
        return {"result": result, "after": after}
    except plain.NotPlain as e:
        return {"unfit": f"an argument holds {e} after the call, which cannot be handed to the tests"}
    except BaseException as e:
        given = [one if is_small(one) else str(one)[:4000] for one in getattr(e, "args", ())]
        kinds = [kind.__name__ for kind in type(e).__mro__]
        return {"raised": type(e).__name__, "kinds": kinds, "args": given, "text": told(e)[-4000:]}


def is_plain(value: Any) -> bool:
    """Whether a value is plain data, and is not used up by finding out."""
    try:
        plain.dumps(value, iterators=False)
    except Exception:
        return False
    return True


def say(out: Any, message: dict[str, Any]) -> None:
    """Write a message as a line."""
    try:
        line = plain.dumps(message)
    except plain.NotPlain as e:
        line = plain.dumps({"unfit": f"an answer holds {e}, which cannot be handed to the tests"[:400]})
    except BaseException as e:  # of a class of its own, or an iterator that raises
        line = plain.dumps({"unfit": f"an answer cannot be read: {type(e).__name__}: {e}"[:400]})
    out.write(line + "\n")
    out.flush()
    sys.stdout.flush()
    sys.stderr.flush()
