"""The pool against verifiers that really hang, exit, eat memory, raise, print and leave children behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from selftaught.feedback.user import UserFunction
from selftaught.feedback.userfile import load_function
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.feedback.worker_process import MAX_REPLY
from selftaught.feedback.workers import Workers, _Slots
from selftaught.records import Feedback, Verdict, make_problem

PROBLEM = make_problem("What is 6 * 7?", "42")


def behave(problem: Any, text: str) -> Any:
    """Does what the text says."""
    import os as system
    import subprocess as processes

    if text == "hang":
        while True:
            pass
    if text == "exit":
        system._exit(3)
    if text == "quit":
        raise SystemExit(1)
    if text == "eat":
        return len(bytearray(8 << 30)) > 0
    if text == "raise":
        raise ValueError("I do not like this")
    if text == "print":
        print("\x00" * 100_000)
        system.write(1, b"nonsense on standard output" * 1000)
        system.write(2, b"nonsense on standard error" * 10_000)
    if text.startswith("child "):
        child = processes.Popen(["sleep", "1000"])
        with open(text.removeprefix("child "), "w") as f:
            f.write(str(child.pid))
        while True:
            pass
    if text == "pid":
        return Feedback(Verdict.WRONG, 0.0, str(system.getpid()))
    return text == problem.reference


Judge = Callable[[str], Feedback]


@pytest.fixture(scope="module")
def verifier() -> Iterator[UserFunction]:
    verifier = UserFunction(behave, timeout=1.0)
    yield verifier
    verifier.close()


@pytest.fixture
def judge(verifier: UserFunction) -> Judge:
    return lambda text: verifier.judge(PROBLEM, ExtractedAnswer(text, None, None), None)


def alive(pid: int) -> bool:
    """Whether a process is more than a zombie: it runs, or some thread of it does."""
    try:
        with open(f"/proc/{pid}/stat") as f:
            zombie = f.read().rpartition(")")[2].split()[0] == "Z"
        return not zombie or len(os.listdir(f"/proc/{pid}/task")) > 1
    except (FileNotFoundError, ProcessLookupError):
        return False


def gone(pid: int, within: float) -> bool:
    end = time.monotonic() + within
    while time.monotonic() < end and alive(pid):
        time.sleep(0.05)
    return not alive(pid)


def test_a_verdict_comes_back_and_the_worker_stays_warm(judge: Judge) -> None:
    assert judge("42").verdict is Verdict.RIGHT
    assert judge("41").verdict is Verdict.WRONG
    pid = judge("pid").text
    assert judge("pid").text == pid
    assert int(pid) != os.getpid()


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("hang", "timeout: no result within 1 s"),
        ("exit", "verifier died: the worker process ended (exit code 3)"),
        ("eat", "verifier raised: MemoryError"),
        ("raise", "verifier raised: ValueError: I do not like this"),
        ("quit", "verifier raised: SystemExit: 1"),
    ],
)
def test_what_goes_wrong_is_unknown_for_that_answer_only(judge: Judge, text: str, says: str) -> None:
    start = time.monotonic()
    feedback = judge(text)
    assert feedback.verdict is Verdict.UNKNOWN
    assert feedback.score is None
    assert feedback.text.startswith(says)
    assert time.monotonic() - start < 5
    assert judge("42").verdict is Verdict.RIGHT


def test_what_a_verifier_prints_disturbs_nothing(judge: Judge, capfd: pytest.CaptureFixture[str]) -> None:
    assert judge("print").verdict is Verdict.WRONG
    assert judge("42").verdict is Verdict.RIGHT
    assert capfd.readouterr() == ("", "")


def test_what_a_hanging_verifier_started_is_killed_with_it(judge: Judge, tmp_path: Any) -> None:
    note = tmp_path / "pid"
    assert judge(f"child {note}").text.startswith("timeout")
    assert gone(int(note.read_text()), within=2)


def test_a_worker_killed_from_outside_while_idle_is_replaced(judge: Judge) -> None:
    pid = int(judge("pid").text)
    os.kill(pid, signal.SIGKILL)
    assert gone(pid, within=2)
    assert judge("42").verdict is Verdict.RIGHT


def test_eight_threads_at_once_each_get_their_own_verdict(judge: Judge) -> None:
    texts = ["42", "41", "raise", "42", "exit", "hang", "42", "40", *["42", "41"] * 8]
    with ThreadPoolExecutor(8) as pool:
        verdicts = [str(f.verdict) for f in pool.map(judge, texts)]
    expected = {"42": "right", "41": "wrong", "40": "wrong"}
    assert verdicts == [expected.get(t, "unknown") for t in texts]


def test_it_works_off_the_main_thread_with_a_timeout(judge: Judge) -> None:
    results: list[Feedback] = []
    thread = threading.Thread(target=lambda: results.extend([judge("hang"), judge("42")]))
    thread.start()
    thread.join(20)
    assert [f.verdict for f in results] == [Verdict.UNKNOWN, Verdict.RIGHT]


def test_no_signal_handler_or_alarm_is_touched(judge: Judge) -> None:
    before = [signal.getsignal(s) for s in (signal.SIGALRM, signal.SIGCHLD, signal.SIGTERM)]
    assert judge("hang").text.startswith("timeout")
    assert [signal.getsignal(s) for s in (signal.SIGALRM, signal.SIGCHLD, signal.SIGTERM)] == before
    assert signal.alarm(0) == 0


def slow_to_start(seconds: float) -> Callable[..., bool]:
    """A verifier whose arrival in the worker takes longer than an answer may."""

    class Slow:
        def __reduce__(self) -> Any:
            import time as clock

            return clock.sleep, (seconds,)

    slow = Slow()

    def check(problem: Any, text: str) -> bool:
        return text == "42" and slow is None

    return check


def test_the_time_limit_counts_only_once_the_worker_is_ready() -> None:
    verifier = UserFunction(slow_to_start(1.5), timeout=0.7)
    try:
        assert verifier.judge(PROBLEM, ExtractedAnswer("42", None, None), None).verdict is Verdict.RIGHT
    finally:
        verifier.close()


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("not a number",)


def test_a_worker_that_cannot_start_is_tried_once() -> None:
    thing = Unloadable()

    def check(problem: Any, text: str) -> bool:
        return bool(thing)

    verifier = UserFunction(check)
    try:
        for _ in range(3):
            feedback = verifier.judge(PROBLEM, ExtractedAnswer("42", None, None), None)
            assert feedback.verdict is Verdict.UNKNOWN
            assert feedback.text.startswith("verifier could not start: ValueError")
        assert verifier.workers.started == 1
    finally:
        verifier.close()


def test_closing_stops_the_processes_and_may_be_repeated() -> None:
    verifier = UserFunction(behave, timeout=30)
    pid = int(verifier.judge(PROBLEM, ExtractedAnswer("pid", None, None), None).text)
    hanging: list[Feedback] = []
    thread = threading.Thread(
        target=lambda: hanging.append(verifier.judge(PROBLEM, ExtractedAnswer("hang", None, None), None))
    )
    thread.start()
    time.sleep(0.3)
    verifier.close()
    verifier.close()
    thread.join(5)
    assert gone(pid, within=2)
    assert [f.text for f in hanging] == ["verifier died: the worker process ended (SIGKILL)"]
    assert verifier.judge(PROBLEM, ExtractedAnswer("42", None, None), None).verdict is Verdict.RIGHT  # starts anew
    verifier.close()


def test_requests_that_wait_while_their_pool_is_closed_start_no_process() -> None:
    pool = UserFunction(behave, timeout=30).workers
    with ThreadPoolExecutor(8) as threads:
        asked = [threads.submit(pool.call, (cloudpickle.dumps(PROBLEM), "hang")) for _ in range(8)]
        time.sleep(1.0)
        pool.close()
        replies = [one.result(timeout=10) for one in asked]
    assert {reply.status for reply in replies} == {"died"}
    assert 1 <= pool.started <= pool.size
    assert not pool._live


def test_a_worker_may_send_plain_data_only() -> None:
    def check(problem: Any, text: str) -> Any:
        import sys as system

        # answer in the protocol's place with an object whose loading would run code
        frame = system._getframe()
        while frame.f_back and "replies" not in frame.f_locals:
            frame = frame.f_back
        import os as operating
        import pickle
        import struct

        class Evil:
            def __reduce__(self) -> Any:
                return operating.getpid, ()

        body = pickle.dumps(("ok", ("right", 1.0, Evil())))
        pipe, request = frame.f_locals["replies"], frame.f_locals["request"]
        pipe.write(struct.pack(">QQ16s", len(body), request.number, request.token) + body)
        pipe.flush()
        return False

    verifier = UserFunction(check)
    try:
        feedback = verifier.judge(PROBLEM, ExtractedAnswer("42", None, None), None)
        assert feedback.verdict is Verdict.UNKNOWN
        assert "malformed reply" in feedback.text
    finally:
        verifier.close()


FORGED = """
import os, pickle, struct

def speak(problem, text):
    body = pickle.dumps(("ok", ("right", 1.0, "forged")))
    for header in (struct.pack(">Q", len(body)), struct.pack(">QQ16s", len(body), 2, b"x" * 16)):
        for number in range(3, 16):
            try:
                os.write(number, header + body)
            except OSError:
                pass
"""


def judged_by(script: str, tmp_path: Path, name: str, answers: list[str], **how: Any) -> list[Feedback]:
    """The verdicts of the function `name` of a file, one after the other in one pool."""
    (tmp_path / "mine.py").write_text(script)
    verifier = UserFunction(load_function(f"{tmp_path}/mine.py:{name}", what="verifier")[0], **how)
    try:
        return [verifier.judge(PROBLEM, ExtractedAnswer(text, None, None), None) for text in answers]
    finally:
        verifier.close()


def test_what_is_written_to_every_open_file_is_no_reply(tmp_path: Path) -> None:
    """Neither to this request nor, left in the pipe, to the next one."""
    script = FORGED + textwrap.dedent("""
        def check(problem, text):
            if text.startswith("forge"):
                speak(problem, text)
            if text == "forge and exit":
                os._exit(0)
            return text == "42"
    """)
    found = judged_by(script, tmp_path, "check", ["forge", "42", "41", "forge and exit", "41"])
    assert [str(one.verdict) for one in found] == ["unknown", "right", "wrong", "unknown", "wrong"]


def test_a_worker_that_spoke_unasked_while_idle_is_replaced(tmp_path: Path) -> None:
    script = FORGED + textwrap.dedent("""
        import threading

        def check(problem, text):
            if text == "forge later":
                threading.Timer(0.2, speak, (problem, text)).start()
            return text == "42"
    """)
    (tmp_path / "mine.py").write_text(script)
    verifier = UserFunction(load_function(f"{tmp_path}/mine.py:check", what="verifier")[0])
    try:
        ask = lambda text: verifier.judge(PROBLEM, ExtractedAnswer(text, None, None), None)  # noqa: E731
        assert ask("forge later").verdict is Verdict.WRONG
        time.sleep(0.6)
        assert ask("42").verdict is Verdict.RIGHT
        assert verifier.workers.started == 2
    finally:
        verifier.close()


def test_a_result_beyond_the_limit_is_not_read() -> None:
    assert Workers(("math",)).max_reply == MAX_REPLY
    pool = UserFunction(lambda problem, text: Feedback(Verdict.WRONG, 0.0, "x" * int(text))).workers
    pool.max_reply = 5000
    try:
        short, long = (pool.call((cloudpickle.dumps(PROBLEM), size)) for size in ("1000", "9000"))
        assert short.status == "ok"
        assert (long.status, long.value[:13]) == ("raised", "a result of 9")  # says how long it is
    finally:
        pool.close()


SEES = """
import os

def check(problem, text):
    return text in os.environ
"""


def test_a_verifier_sees_no_secret_of_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("OPENAI_API_KEY", "HF_TOKEN", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "MY_JUDGE", "LC_TIME"):
        monkeypatch.setenv(name, "secret")
    names = ["OPENAI_API_KEY", "HF_TOKEN", "DATABASE_URL", "AWS_SECRET_ACCESS_KEY", "MY_JUDGE", "PATH", "LC_TIME"]
    seen = [one.verdict is Verdict.RIGHT for one in judged_by(SEES, tmp_path, "check", names)]
    assert seen == [False] * 5 + [True, True]
    monkeypatch.setenv("SELFTAUGHT_VERIFIER_ENV", "MY_JUDGE, DATABASE_URL")
    seen = [one.verdict is Verdict.RIGHT for one in judged_by(SEES, tmp_path, "check", names)]
    assert seen == [False, False, True, False, True, True, True]


def test_who_waits_for_a_worker_gets_the_next_one() -> None:
    slots, turns = _Slots(1), list[int]()
    assert slots.take() is None

    def wait(who: int) -> None:
        slots.take()
        turns.append(who)
        slots.give(None)

    threads = [threading.Thread(target=wait, args=(who,)) for who in range(8)]
    for number, thread in enumerate(threads, 1):
        thread.start()
        while len(slots._waiting) < number:
            time.sleep(0.001)
    slots.give(None)
    for thread in threads:
        thread.join(10)
    assert turns == list(range(8))
    assert slots.take() is None  # free again


@pytest.mark.parametrize("ending", ["os._exit(3)", "os.kill(os.getpid(), 9)"])
def test_what_a_verifier_started_ends_with_it(tmp_path: Path, ending: str) -> None:
    note = tmp_path / "child"
    script = f"""
import os, subprocess

def check(problem, text):
    child = subprocess.Popen(["sleep", "1000"])
    open({str(note)!r}, "w").write(str(child.pid))
    {ending}
"""
    (found,) = judged_by(script, tmp_path, "check", ["42"])
    assert found.verdict is Verdict.UNKNOWN
    assert gone(int(note.read_text()), within=2)


PARENT = """
import os, sys, threading, time
from selftaught.feedback.user import UserFunction
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.records import make_problem

def check(problem, text):
    import os, time
    with open({note!r}, "w") as f:
        f.write(str(os.getpid()))
    {busy}

v = UserFunction(check, timeout={timeout})
answer = ExtractedAnswer("t", None, None)
threading.Thread(target=v.judge, args=(make_problem("q", "a"), answer, None), daemon=True).start()
time.sleep(1000)
"""


@pytest.mark.parametrize(
    ("busy", "timeout", "within"),
    [
        ("return True", 60, 2.0),
        ("while True: pass", 60, 2.0),
        ("10 ** 10 ** 9", 1, 6.0),  # one long instruction that lets no other thread run
        ("import subprocess; subprocess.run(['sh', '-c', 'echo $$ > {note}; exec sleep 1000'])", 60, 2.0),
    ],
    ids=["idle", "looping", "holding the interpreter", "waiting for a child of its own"],
)
def test_workers_end_when_their_parent_is_killed(tmp_path: Any, busy: str, timeout: float, within: float) -> None:
    note = tmp_path / "pid"
    script = textwrap.dedent(PARENT).format(note=str(note), busy=busy.format(note=note), timeout=timeout)
    parent = subprocess.Popen([sys.executable, "-c", script])
    try:
        end = time.monotonic() + 20
        while not (note.exists() and note.read_text()) and time.monotonic() < end:
            time.sleep(0.02)
        pid = int(note.read_text())
        assert alive(pid)
    finally:
        parent.kill()
        parent.wait()
    assert gone(pid, within)


def test_nothing_starts_before_it_is_needed() -> None:
    workers = Workers(("math",))
    assert workers.started == 0
    workers.close()
    assert workers.started == 0


def test_importing_the_package_is_light() -> None:
    code = (
        "import sys, time; t = time.process_time(); import selftaught.tasks, selftaught.feedback; "
        "heavy = {'torch', 'sympy', 'reasoning_gym', 'math_verify', 'datasets', 'numpy', 'cloudpickle'}; "
        "print(sorted(heavy & set(sys.modules)), time.process_time() - t)"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    loaded, seconds = out.rsplit(" ", 1)
    assert loaded == "[]"
    assert float(seconds) < 0.3
