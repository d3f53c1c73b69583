"""What an endpoint is paid across kills: booked before it is sent, never beyond the cap, and told."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.console import Console
from selftaught.engines.openai.engine import Limits, OpenAIEngine
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.journal import Journal, Usage
from selftaught.journal.bookings import Unanswered
from selftaught.records import make_problem
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task
from selftaught.testing.endpoint import Endpoint as Server
from selftaught.testing.endpoint import Got, completion, error, sums

WIDTH = 8


def command(folder: Path, count: int, *options: str) -> list[str]:
    """`eval` on as many sums, eight requests at a time."""
    data = folder / "t.jsonl"
    rows = [{"question": f"What is {i} + {i + 1}?", "answer": str(2 * i + 1)} for i in range(count)]
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["eval", "--task", str(data), "--model", "openai:tiny", "--test", str(count), "--train", "0", "--dev", "0"]
    return [*words, "--out", str(folder / "out"), "--json", "--max-batch-size", str(WIDTH), *options]


def started(words: list[str], **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "selftaught", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, **environment},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip


def wait_until(happened: Callable[[], Any]) -> None:
    end = time.monotonic() + 60
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.005)


def questions(server: Server) -> Counter[str]:
    return Counter(got.question for got in list(server.got))


def test_what_a_kill_costs_is_what_was_in_flight_and_is_told(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=0 if len(questions(server)) <= 20 else 30)
    words = command(tmp_path, 40)
    process = started(words)
    wait_until(lambda: len(questions(server)) >= 20 + WIDTH)
    process.kill()
    process.communicate()
    server.script = sums
    assert main(words) == 0
    said = capsys.readouterr()
    twice = sum(count - 1 for count in questions(server).values())
    told = re.search(r"(\d+) requests were in flight when the last process ended: counted as paid for", said.err)
    assert told
    # One may be booked and not have reached the server; and the next ones are sent while answers, which come in on the
    # engine's thread, are on their way to the journal: until they are there, they count as in flight.
    assert 1 <= twice <= int(told[1]) <= 2 * WIDTH
    assert json.loads(said.out)["accuracy"] == 1.0
    assert main(words) == 0  # nothing is asked any more, and the loss is told, but no new one
    said = capsys.readouterr()
    assert "in flight when the last process" not in said.err
    assert (
        f"{told[1]} requests were sent without an answer to keep (cut off, too late, or unusable): counted" in said.err
    )
    assert questions(server).total() == 40 + twice


def test_a_cap_holds_across_kills_at_any_moment(server: Server, tmp_path: Path) -> None:
    """The server bills what it has received, whether or not anybody waits for the answer."""
    cap, price, tokens = 2.0, 1000.0, 40
    server.script = lambda got: completion(sums_text(got), tokens=tokens, delay=0.03)
    words = command(tmp_path, 400, "--max-tokens", "64", "--completion-price", "1000", "--max-cost", str(cap))
    for kill in range(4):
        before = questions(server).total()
        process = started(words)
        wait_until(lambda before=before, kill=kill: questions(server).total() >= before + 3 + 2 * kill)
        process.kill()
        process.communicate()
    ended = started(words)
    _, said = ended.communicate(timeout=120)
    assert ended.returncode == 2
    assert f"the cost limit of ${cap:g}" in said
    assert questions(server).total() * tokens * price / 1e6 <= cap


def sums_text(got: Got) -> str:
    return sums(got).body["choices"][0]["message"]["content"]  # pyright: ignore[reportIndexIssue]


@pytest.mark.parametrize(
    ("sent", "status", "word"), [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]
)
def test_an_interrupt_keeps_the_answers_in_flight(
    server: Server, tmp_path: Path, sent: signal.Signals, status: int, word: str
) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=0.5)
    words = command(tmp_path, 40)
    process = started(words)
    wait_until(lambda: questions(server).total() >= 2 * WIDTH)
    process.send_signal(sent)
    _, err = process.communicate(timeout=20)
    assert process.returncode == status
    assert err.endswith(f"selftaught: {word}; the same command resumes\n")
    assert "answers in progress; interrupt again to abandon them" in err
    server.script = sums
    assert main([*words, "--quiet"]) == 0
    assert questions(server) == dict.fromkeys(questions(server), 1)
    assert questions(server).total() == 40


def test_the_grace_period_may_be_longer(server: Server, tmp_path: Path) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=6)
    words = command(tmp_path, 8, "--quiet")
    process = started(words, SELFTAUGHT_GRACE_SECONDS="30")
    wait_until(lambda: questions(server).total() >= WIDTH)
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    process.communicate()
    server.script = [error(500, "nothing is asked any more")]
    assert main(words) == 0
    assert questions(server).total() == 8


def test_a_second_interrupt_abandons_them(server: Server, tmp_path: Path) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=60)
    process = started(command(tmp_path, 8, "--quiet"), SELFTAUGHT_GRACE_SECONDS="50")
    wait_until(lambda: questions(server).total() >= WIDTH)
    process.send_signal(signal.SIGINT)
    time.sleep(1.0)
    assert process.poll() is None
    began = time.monotonic()
    process.send_signal(signal.SIGINT)
    assert process.wait(20) in (130, -signal.SIGINT)
    assert time.monotonic() - began < 10
    process.communicate()


def opened(folder: Path, engine: OpenAIEngine | None = None, count: int = 3, **how: Any) -> Run:
    """A run on a few sums, one request at a time."""
    problems = [make_problem(f"What is {i} + {i + 1}?", str(2 * i + 1)) for i in range(count)]
    task = Task("sums", problems, [], [], verifier=Exact(), kind=Kind.NUMBER)
    engine = engine or OpenAIEngine(limits=Limits(**{"concurrency": 1, "completion_price": 1000.0} | how), max_tries=2)
    return Run(folder, model="openai:tiny", task=task, engine=engine, console=Console(quiet=True))


@pytest.mark.parametrize("status", [408, 429, 500, 503, 504, 524])
def test_a_request_that_fails_is_asked_again_and_counted_where_it_may_be_billed(
    server: Server, tmp_path: Path, status: int
) -> None:
    server.script = [error(status, "oops"), completion("Answer: 1", tokens=10)]
    with opened(tmp_path, count=1) as run:
        (found,) = run.attempt(run.base, run.task.train, max_tokens=20)
        lost = run.journal.bookings.lost
        notes = run.notes
    assert found.right
    billed = status in (408, 504, 524)
    assert lost.requests == billed
    assert any("1 request was sent without an answer to keep" in note for note in notes) is billed
    with opened(tmp_path, count=1) as run:
        assert run.journal.bookings.in_flight.requests == 0
        assert run.engine.spent == pytest.approx(0.01 + 0.02 * billed)  # pyright: ignore[reportAttributeAccessIssue]


def test_an_answer_that_is_not_kept_is_counted_once(server: Server, tmp_path: Path) -> None:
    server.script = [completion("", finish="content_filter")]
    for _ in range(3):
        with opened(tmp_path, count=1) as run:
            run.attempt(run.base, run.task.train, max_tokens=20)
            told = run.journal.bookings
            assert told.in_flight.requests == 0
    assert told.lost.requests == len(server.got)


def test_what_an_interrupt_abandons_counts_though_it_is_asked_again(server: Server, tmp_path: Path) -> None:
    """As in a notebook: the cell is interrupted, and run again."""
    server.script = lambda got: dataclasses.replace(completion("Answer: 1", tokens=10), delay=30)
    with opened(tmp_path, count=1) as run:
        run._context.sampler._drain = lambda: False  # nothing is waited for
        threading.Timer(1.0, lambda: signal.raise_signal(signal.SIGINT)).start()
        with pytest.raises(KeyboardInterrupt):
            run.attempt(run.base, run.task.train, max_tokens=20)
        server.script = [completion("Answer: 1", tokens=10)]
        assert run.attempt(run.base, run.task.train, max_tokens=20)[0].right
        spent = run.engine.spent  # pyright: ignore[reportAttributeAccessIssue]
    assert spent == pytest.approx(0.03)
    with opened(tmp_path, count=1) as run:
        assert run.engine.spent == pytest.approx(spent)  # pyright: ignore[reportAttributeAccessIssue]


def test_lost_requests_are_no_answers(server: Server, tmp_path: Path) -> None:
    """Where all is refused, it ends after a few, though a request was in flight when the last process was killed."""
    journal = Journal(tmp_path)
    journal.bookings.book(1, 10, 100)
    journal.close()
    server.script = [error(400, "no such field")]
    with opened(tmp_path, count=40) as run, pytest.raises(BadInput, match="no such field"):
        run.attempt(run.base, run.task.train)
    assert len(server.got) == 8


def test_an_engine_keeps_the_accounts_of_one_run_at_a_time(server: Server, tmp_path: Path) -> None:
    engine = OpenAIEngine(limits=Limits())
    with (
        opened(tmp_path / "a", engine),
        pytest.raises(BadInput, match="the engine keeps the accounts of another run; give each run an engine of its"),
    ):
        opened(tmp_path / "b", engine)


def test_a_request_that_is_sent_again_has_the_same_name_and_no_other(server: Server, tmp_path: Path) -> None:
    server.script = [error(500, "oops"), completion("Answer: 1"), completion("Answer: 3"), completion("Answer: 5")]
    with opened(tmp_path) as run:
        run.attempt(run.base, run.task.train)
    named = [(got.question, {k.lower(): v for k, v in got.headers.items()}["idempotency-key"]) for got in server.got]
    assert len(named) == 4
    assert len(set(named)) == len({name for _, name in named}) == 3


# --- the bookings of a journal ---


def test_a_booking_ends_with_the_commit_of_its_answer(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    for request in (1, 2, 3, 4):
        journal.bookings.book(request, 10, 100)
    journal.put("a", "sample", {}, Usage(5, 6), settles=1)
    journal.bookings.release(2)
    journal.bookings.lose(3)
    with pytest.raises(RuntimeError, match="journaled twice"):
        journal.put("a", "sample", {}, settles=4)  # neither is committed
    assert journal.bookings.lost == Unanswered(1, 10, 100)
    journal.close()
    for in_flight in (Unanswered(1, 10, 100), Unanswered(0, 0, 0)):
        journal = Journal(tmp_path)
        assert journal.bookings.in_flight == in_flight
        assert journal.bookings.lost == Unanswered(2, 20, 200)
        journal.close()


def test_a_journal_of_before_bookings_opens(tmp_path: Path) -> None:
    Journal(tmp_path).close()
    with closing(sqlite3.connect(tmp_path / "journal.sqlite")) as file:
        file.execute("DROP TABLE bookings")
    journal = Journal(tmp_path)
    assert journal.bookings.in_flight == Unanswered(0, 0, 0)
    journal.close()
