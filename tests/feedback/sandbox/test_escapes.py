"""Programs that try to leave the sandbox, and candidates that try to pass tests which they fail: none does."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from selftaught.feedback.sandbox import Limits, Sandbox

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
LIMITS = Limits(cpu_seconds=2, seconds=5.0)
_PARTS = Path(__file__).with_name("escapes.txt").read_text().split("\n=== ")[1:]
ALL = {name: code for name, _, code in (part.partition("\n") for part in _PARTS)}
FORGERIES = {name: code for name, code in ALL.items() if name.startswith("forgeries: ")}
ESCAPES = {name: code for name, code in ALL.items() if name not in FORGERIES}
HARMLESS = {
    "read a file of the user's", "list the user's folder", "write to a folder of everyone's",
    "connect to a port of the host", "connect to a Unix socket", "connect to an abstract Unix socket",
    "listen on a port", "make a socket by the system call", "fork", "start a program", "start a shell",
    "read another's shared memory", "read another's segment", "signal a process of the host", "list processes",
    "open a named pipe of the host", "read through a symbolic link", "see a secret in the environment",
    "read its own maps", "take it by a memory file", "make a user namespace",
}  # fmt: skip
"""Programs that are let loose outside of the sandbox, where they must reach what they try to."""


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(LIMITS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """What is there to be reached: files, sockets, a pipe, a process, shared memory."""
    folder = tmp_path_factory.mktemp("outside")
    (folder / "secret").write_text("ESCAPED")
    os.mkfifo(folder / "fifo")
    pipe = os.open(folder / "fifo", os.O_RDWR)
    segment = Path(f"/dev/shm/selftaught-test-{os.getpid()}")
    segment.write_text("ESCAPED")
    libc, key = ctypes.CDLL(None, use_errno=True), 0x5E1F0000 + os.getpid() % 65536
    shared = libc.shmget(key, 4096, 0o1666)
    process = subprocess.Popen(["/bin/sleep", "600"])
    abstract = f"selftaught-test-{os.getpid()}"
    with contextlib.ExitStack() as stack:
        port = listen(stack, socket.AF_INET, ("127.0.0.1", 0))[1]
        listen(stack, socket.AF_UNIX, str(folder / "socket"))
        listen(stack, socket.AF_UNIX, f"\0{abstract}")
        yield {
            "secret": str(folder / "secret"), "scratch": str(folder), "port": str(port), "pid": str(process.pid),
            "socket": str(folder / "socket"), "abstract": abstract, "fifo": str(folder / "fifo"), "shared": str(key),
            "segment": str(segment),
        }  # fmt: skip
    process.kill()
    process.wait()
    os.close(pipe)
    segment.unlink()
    libc.shmctl(shared, 0, None)


def listen(stack: contextlib.ExitStack, family: int, address: object) -> tuple[str, int]:
    """Accept connections at an address until the stack closes; the address."""
    server = stack.enter_context(socket.socket(family))
    server.bind(address)  # pyright: ignore[reportArgumentType]
    server.listen()

    def accept() -> None:
        with contextlib.suppress(OSError):
            while True:
                server.accept()[0].close()

    threading.Thread(target=accept, daemon=True).start()
    return server.getsockname()


def written(code: str, outside: dict[str, str]) -> str:
    """A program with the names of the world outside."""
    for name, value in outside.items():
        code = code.replace("{" + name + "}", value)
    return code


@pytest.mark.parametrize("name", ESCAPES)
def test_no_program_leaves_the_sandbox(name: str, sandbox: Sandbox, outside: dict[str, str]) -> None:
    done = sandbox.run(written(ESCAPES[name], outside))
    assert "ESCAPED" not in done.stdout, done
    assert done.seconds < LIMITS.seconds + 2
    assert len(done.stdout) <= LIMITS.output
    assert not (Path(outside["scratch"]) / "out").exists()


TESTS = (
    "assert f(1) == 42",
    "assert len([f(1)]) == 1 and f(1) == 42",
    "assert sorted([f(1), 0]) == [0, 42]",
    "assert all(map(lambda case: f(case[0]) == case[1], [(1, 42), (2, 43)]))",
    "for got, want in zip(map(f, [1, 2]), [42, 43]):\n    assert got == want",
    "def test_f():\n    assert f(1) == 42",
    "import unittest\nclass Case(unittest.TestCase):\n    def test_f(self):\n        self.assertEqual(f(1), 42)",
)


def test_there_are_a_hundred_of_them() -> None:
    assert len(ESCAPES) >= 100
    assert len(FORGERIES) >= 20


@pytest.mark.parametrize("name", sorted(HARMLESS))
def test_outside_the_same_programs_reach_what_they_try_to(
    name: str, outside: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("A_SECRET", "x")
    code = written(next(code for title, code in ESCAPES.items() if title.endswith(f": {name}")), outside)
    code = code.replace("'/tmp/l'", f"'{outside['scratch']}/l'")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=20)
    (Path(outside["scratch"]) / "out").unlink(missing_ok=True)
    assert "ESCAPED" in done.stdout, done


@pytest.mark.parametrize("name", sorted(FORGERIES))
def test_no_candidate_passes_tests_that_it_fails(name: str, sandbox: Sandbox) -> None:
    for test in TESTS:
        found = sandbox.test(FORGERIES[name], [test])
        assert (found.passed, found.decided) == (0, True), found
    found = sandbox.test(FORGERIES[name], ["def check(c):\n    assert c(1) == 42"], entry_point="f")
    assert found.passed == 0, found


def test_a_right_candidate_passes_the_same_tests(sandbox: Sandbox) -> None:
    for test in TESTS:
        assert sandbox.test("def f(x): return 41 + x", [test]).ok, test
    assert sandbox.test("def f(x): return 42", ["def check(c):\n    assert c(1) == 42"], entry_point="f").ok


def test_a_secret_of_the_environment_is_not_there(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    fresh = Sandbox(LIMITS)
    done = fresh.run("import os\nprint(dict(os.environ))")
    fresh.close()
    assert "PATH" in done.stdout
    assert "secret" not in done.stdout
