"""Runs on a model behind an endpoint: what is kept, what is asked again, what is said, and how they end."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.console import Console
from selftaught.engines.openai.engine import Limits, OpenAIEngine
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.journal import Journal, Usage
from selftaught.learn import sft
from selftaught.models import Demonstration, Notes, resolve
from selftaught.records import Attempt, Demo, content_hash, make_problem
from selftaught.run.run import Run
from selftaught.samples import well_formed
from selftaught.tasks import Kind, Task
from selftaught.testing.endpoint import Endpoint as Server
from selftaught.testing.endpoint import Got, Reply, completion, error, sums

HALF = "\ud83d Answer: 5"


def sums_task(count: int = 6) -> Task:
    problems = [make_problem(f"What is {i} + {i + 1}?", str(2 * i + 1)) for i in range(count)]
    return Task("sums", problems, [], [], verifier=Exact(), kind=Kind.NUMBER)


def run_in(folder: Path, *, count: int = 6, rows: int = 32) -> Run:
    engine = OpenAIEngine(limits=Limits(concurrency=rows), max_tries=2)
    return Run(folder, model="openai:tiny", task=sums_task(count), engine=engine, console=Console(quiet=True))


def attempt(run: Run, **how: Any) -> list[Attempt]:
    return run.attempt(run.base, run.task.train, **how)


@pytest.mark.parametrize(
    "bad",
    [
        error(400, "too long"), error(403, "no"), error(500, "oops"), completion("", finish="error"), completion(""),
        Reply(body=b"<html>"),
    ],
)  # fmt: skip
def test_a_failure_is_no_answer_and_once_mended_only_what_is_missing_is_asked(
    server: Server, tmp_path: Path, bad: Reply
) -> None:
    server.script = lambda got: bad if " 0 + " in got.question else sums(got)
    with run_in(tmp_path) as run:
        tried = attempt(run)
        assert [a.finish_reason for a in tried] == ["error"] + ["stop"] * 5
        assert (tried[0].answer, tried[0].num_tokens, run.journal.count("sample")) == (None, 0, 5)
        counts = run.request_counts
        assert (counts["answered"], counts["refused"] + counts["failed"]) == (5, 1)
        assert any("1 request " in note and "the same command asks again" in note for note in run.notes)
    server.script = sums
    server.got.clear()
    with run_in(tmp_path) as run:
        assert [a.answer for a in attempt(run)] == ["1", "3", "5", "7", "9", "11"]
        assert (run.request_counts["answered"], run.no_answer_reason) == (6, "")
    assert [got.question for got in server.got] == ["What is 0 + 1?"]


@pytest.mark.parametrize(
    "kept",
    [
        {"text": "", "finish": "error", "refused": "it answered 400 (too long)"},
        {"text": "", "finish": "stop", "num_tokens": 5},
        {"text": "", "finish": "length", "num_tokens": 5},
    ],
)
def test_what_older_versions_kept_in_place_of_an_answer_is_asked_again(
    server: Server, tmp_path: Path, kept: dict[str, Any]
) -> None:
    with run_in(tmp_path) as run:
        (first, *_) = attempt(run)
        cost = run.journal.usage()
    with Journal_(tmp_path) as journal:
        payload, usage = journal.get(first.id) or ({}, Usage())
        journal.replace(first.id, {"logprobs": [], **payload, **kept}, usage)  # as it was paid for
    server.got.clear()
    with run_in(tmp_path) as run:
        assert attempt(run)[0].answer == "1"
        assert run.journal.usage().prompt == cost.prompt + 10  # both were paid for
    assert len(server.got) == 1
    with run_in(tmp_path) as run:
        attempt(run)
    assert len(server.got) == 1


class Journal_(Journal):
    def __enter__(self) -> Journal_:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def test_a_reply_that_is_no_utf8_poisons_nothing(server: Server, tmp_path: Path) -> None:
    body = json.dumps(completion("X Answer: 3").body).encode().replace(b"X", b"\xff")
    server.script = lambda got: completion(HALF) if " 2 + " in got.question else Reply(body=body)
    for _ in range(2):
        with run_in(tmp_path) as run:
            tried = attempt(run)
            assert tried[2].text == "\ufffd Answer: 5"
            assert [a.text for a in tried if a is not tried[2]] == ["\ufffd Answer: 3"] * 5
            assert [a.right for a in tried] == [False, True, True, False, False, False]
            assert run.request_counts["replaced"] == 6
    assert len(server.got) == 6


def test_a_folder_poisoned_by_an_older_version_is_read(server: Server, tmp_path: Path) -> None:
    with run_in(tmp_path) as run:
        one = attempt(run)[2]
    with Journal_(tmp_path) as journal:
        payload, usage = journal.get(one.id) or ({}, Usage())
        journal.replace(one.id, {**payload, "text": HALF}, usage)
    with run_in(tmp_path) as run:
        again = attempt(run)[2]
        assert (again.text, again.right) == ("\ufffd Answer: 5", True)
    assert len(server.got) == 6


def test_any_text_has_a_hash_and_hashes_of_text_are_as_ever() -> None:
    assert content_hash("ü", [1, None]) == "ced5858209e8739e"
    assert len({content_hash(text) for text in ("?", "\ufffd", "\ud83d", "\ud83e", "\udcff")}) == 5
    assert well_formed("a\ud83db\ud83d\ude00\udcff") == "a\ufffdb\U0001f600\ufffd"
    assert well_formed(text := "plain") is text


def test_a_mistake_in_a_solver_loses_no_answer_that_is_paid_for(server: Server, tmp_path: Path) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=0.02 if " 0 + " in got.question else 0.3)

    async def broken(ask: Any, problem: Any) -> Any:
        found = await ask(problem.prompt)
        if " 0 + " in problem.question:
            raise LookupError("a method's own mistake")
        await ask(problem.prompt)  # is not paid for any more
        return found

    with run_in(tmp_path, rows=4) as run:
        with pytest.raises(LookupError, match="own mistake"):
            attempt(run, solver=broken)
        assert run.journal.count("sample") == len(server.got) <= 5
    assert len(server.got) >= 4


def test_two_solvings_that_share_an_answer_do_not_share_a_cancellation(server: Server, tmp_path: Path) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=0.2)
    with run_in(tmp_path) as run:
        problem = run.task.train[3]
        seen: list[str] = []

        async def impatient(ask: Any, problem: Any) -> Any:
            seen.append("")
            if len(seen) == 1:
                try:
                    await asyncio.wait_for(ask(problem.prompt), 0.05)
                except TimeoutError:
                    return await ask("What is 1 + 1?")
            return await ask(problem.prompt)

        one, two = (s.attempt for s in run.solve(run.base, [problem, problem], "x", solver=impatient, verify=False))
    assert (one.text, two.text) == ("Answer: 2", "Answer: 7")


# --- the command line ---


def words(folder: Path, count: int = 3, **more: Any) -> list[str]:
    rows = [{"question": f"What is {i} + {i + 1}?", "answer": 2 * i + 1} for i in range(count)]
    (folder / "t.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
    asked = ["eval", "--task", str(folder / "t.jsonl"), "--model", "openai:tiny", "--test", str(count), "--train", "0"]
    return [*asked, "--dev", "0", "--out", str(folder / "out"), "--quiet", "--json", *more.pop("options", [])]


def test_counts_are_in_the_json_even_where_it_is_quiet(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda got: error(400, "too long") if " 0 + " in got.question else completion(HALF)
    assert main(words(tmp_path)) == 0
    shown = capsys.readouterr()
    found = json.loads(shown.out)
    counts = {"answered": 2, "refused": 1, "failed": 0, "retried": 0, "replaced": 2, "thinking_only": 0}
    assert found["requests"] == counts
    assert any("it answered 400 (too long)" in note for note in found["notes"])
    assert shown.err == ""


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(400, "maximum context length is 200"), "it answered 400 (maximum context length is 200)"),
        (completion(None, reasoning="Answer: 4"), "turn off the server's reasoning parser"),  # type: ignore[arg-type]
        (completion(None, finish="length"), "raise --max-tokens"),  # type: ignore[arg-type]
    ],
)
def test_where_nothing_is_answered_the_exit_status_says_so(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str], reply: Reply, says: str
) -> None:
    server.script = [reply]
    assert main(words(tmp_path)) == 2
    shown = capsys.readouterr()
    (line,) = shown.err.splitlines()
    assert line.startswith("selftaught: openai:tiny: none of 3 requests got an answer (")
    assert says in line
    assert json.loads(shown.out)["requests"]["refused"] + json.loads(shown.out)["requests"]["failed"] in (0, 3)


def test_a_refusal_of_everything_stops_the_command_and_mended_it_goes_on(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    server.script = [error(400, "maximum context length is 200")]
    asked = words(tmp_path, 30, options=["--max-batch-size", "1"])
    assert main(asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "OPENAI_BASE_URL: it answered 400 (maximum context length is 200); fix the cause" in line
    assert len(server.got) == 8
    server.script = sums
    server.got.clear()
    assert main(asked) == 0
    assert json.loads(capsys.readouterr().out)["accuracy"] == 1.0
    assert len(server.got) == 30


def test_a_question_that_is_no_utf8_is_asked(
    server: Server, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [
        "solve",
        "self-consistency",
        "What is 4 + 5? \udcff",
        "--model",
        "openai:tiny",
        "--samples",
        "2",
        "--quiet",
    ]
    assert main([*asked, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert "Answer: 9" in found["text"]
    assert found["requests"]["answered"] == 2
    assert "What is 4 + 5? \ufffd" in server.got[0].question
    server.script = [error(400, "no such luck")]
    assert main(asked) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line == "selftaught: openai:tiny: refused: it answered 400 (no such luck); fix it and ask again"


@pytest.mark.parametrize("answered", [0, 20])
def test_an_interrupted_command_says_one_line(server: Server, tmp_path: Path, answered: int) -> None:
    def script(got: Got) -> Reply:
        return dataclasses.replace(sums(got), delay=0 if len(server.got) <= answered else 30)

    server.script = script
    process = subprocess.Popen(
        [sys.executable, "-m", "selftaught", *words(tmp_path, 200, options=["--max-batch-size", "8"])],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env={**os.environ},
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )  # fmt: skip
    wait_until(lambda: len(server.got) >= answered + 8)
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert (process.returncode, out) == (130, "")
    assert err == "selftaught: interrupted; the same command resumes\n"


def test_an_endpoint_that_is_lost_ends_in_one_line(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("selftaught.engines.openai.sender.MAX_BACKOFF", 0.01)

    def script(got: Got) -> Reply:
        if len(server.got) == 20:
            server.close()
        return dataclasses.replace(sums(got), cut=len(server.got) >= 20)

    server.script = script
    assert main(words(tmp_path, 100, options=["--max-batch-size", "8"])) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "and so for 8 tries; run the same command again later: what is paid for is kept" in line


def test_a_cap_that_ends_the_run_says_one_line(
    server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=0.02)
    priced = ["--completion-price", "1000", "--max-cost", "2", "--max-batch-size", "4", "--max-tokens", "256"]
    assert main(words(tmp_path, 300, options=priced)) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "the cost limit of $2" in line


def wait_until(happened: Callable[[], Any]) -> None:
    while not happened():
        time.sleep(0.01)


def test_solve_shows_the_answer_without_its_thinking(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    said = "<think>\nmaybe 5\n</think>\n\nAnswer: 4"
    server.script = lambda _: completion(said)
    asked = ["solve", "self-consistency", "What is 2 + 2?", "--model", "openai:tiny", "--samples", "1", "--quiet"]
    assert main(asked) == 0
    assert capsys.readouterr().out.startswith("Answer: 4\n\n(")
    assert main([*asked, "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["text"] == said


def test_a_policy_with_notes_needs_no_weights(server: Server, tmp_path: Path) -> None:
    notes = Notes("Hint: add.", (Demonstration("What is 1 + 1?", "Answer: 2"),))
    with run_in(tmp_path) as run:
        policy = run.write_notes(run.base, notes)
        assert all(tried.right for tried in run.attempt(policy, run.task.train))
        with pytest.raises(BadInput, match="cannot be trained"):
            run.learn(policy, sft(), [Demo(run.task.train[0].prompt, "1")])
        assert resolve(policy.path) == policy
    assert len(server.got) == 6
    for got in server.got:
        assert [m["role"] for m in got.body["messages"]] == ["system", "user", "assistant", "user"]
        assert [m["content"] for m in got.body["messages"]][:3] == ["Hint: add.", "What is 1 + 1?", "Answer: 2"]
