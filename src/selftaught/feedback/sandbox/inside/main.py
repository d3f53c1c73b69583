"""Runs in the sandbox, in an interpreter of its own: limits the process, reads a job from stdin, and does it.

A job is one line of JSON with a `kind`: "program", "candidate" or "tests". Nothing of selftaught is there but the
modules of this folder.
"""

import json
import linecache
import os
import resource
import sys
import traceback
import types

HERE = os.path.dirname(os.path.abspath(__file__))
BOX = os.path.dirname(HERE)
READY = "ready\n"


def main() -> None:
    """Limit, read, run."""
    limit(json.loads(sys.argv[1]))
    sys.stdout.write(READY)
    sys.stdout.flush()
    job = json.loads(sys.stdin.readline())
    if job["kind"] == "program":
        run_program(job)
    elif job["kind"] == "candidate":
        from .candidate import serve

        serve(job)
    else:
        from .tests import run_tests

        run_tests(job)


def limit(limits: dict[str, int]) -> None:
    """Set limits that the process cannot raise again. At that on processor time it gets a signal, then it is killed."""
    for name, value in limits.items():
        kind = getattr(resource, name)
        hard = resource.getrlimit(kind)[1]
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(kind, (value, value + 1 if name == "RLIMIT_CPU" else value))


def run_program(job: dict[str, str]) -> None:
    """Run a program as `__main__`, with a text as its standard input."""
    given = os.open("/tmp", os.O_TMPFILE | os.O_RDWR, 0o600)
    rest = job["stdin"].encode()
    while rest:
        rest = rest[os.write(given, rest) :]
    os.lseek(given, 0, os.SEEK_SET)
    os.dup2(given, 0)
    os.close(given)
    sys.stdin = open(0, encoding="utf-8")  # noqa: SIM115 - for as long as the process lives
    sys.argv = ["program"]
    sys.path.remove(BOX)
    namespace = execute(job["source"], "__main__")
    if isinstance(namespace, str):
        sys.stderr.write(namespace)
        sys.stdout.flush()
        sys.exit(1)


def execute(source: str, name: str) -> "dict[str, object] | str":
    """Run Python code as a module of a name; its namespace, or the traceback of what it raised."""
    file = f"<{'program' if name == '__main__' else name}>"
    linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    module = sys.modules[name] = types.ModuleType(name)
    if "random" in source:  # the same verdict each time
        import random

        random.seed(0)
    try:
        exec(compile(source, file, "exec"), module.__dict__)
    except SystemExit:
        raise
    except BaseException as e:
        return told(e)
    return module.__dict__


def told(e: BaseException) -> str:
    """A traceback without the frames of this folder."""
    frames = e.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(HERE):
        frames = frames.tb_next
    return "".join(traceback.format_exception(type(e), e, frames, limit=-5))
