"""Several verifiers as one, reward functions of verl, and verifiers behind an address."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.errors import BadInput
from selftaught.feedback import http
from selftaught.feedback.http import HttpVerifier
from selftaught.feedback.user import UserFunction
from selftaught.feedback.verifiers import Exact, ExtractedAnswer
from selftaught.feedback.weighted import WeightedVerifiers
from selftaught.records import Feedback, Verdict, make_problem
from selftaught.tasks import Kind, load_task
from selftaught.tasks.source import choose_verifier
from selftaught.tasks.verifier_spec import is_foreign, parts_of

PROBLEM = make_problem("What is 2 + 2?", "4", {"data_source": "sums", "extra_info": {"split": "train"}})


def right(problem: Any, text: str) -> bool:
    return text == "4"


def brief(problem: Any, text: str) -> float | None:
    return None if not text else 1 / len(text)


async def later(problem: Any, text: str) -> bool:
    return text == "4"


def raising(problem: Any, text: str) -> bool:
    raise KeyError("gone")


def compute_score(data_source: str, solution_str: str, ground_truth: str, extra_info: Any = None) -> dict[str, Any]:
    """As in verl's documentation: a score with further figures."""
    known = data_source == "sums" and extra_info == {"split": "train"}
    return {"score": float(known and solution_str.endswith(ground_truth)), "pred": solution_str[-1:]}


def judged(verifier: Any, text: str) -> Feedback:
    try:
        return verifier.judge(PROBLEM, ExtractedAnswer(text, text or None, text or None), "4")
    finally:
        verifier.close()


def test_a_reward_of_verl_runs_unchanged() -> None:
    found = judged(UserFunction(compute_score), "It is 4")
    assert (found.verdict, found.score, found.text) == (Verdict.RIGHT, 1.0, "pred: 4")
    assert judged(UserFunction(compute_score), "5").verdict is Verdict.WRONG

    def with_rest(solution_str: str, **kwargs: Any) -> float:
        return float(sorted(kwargs) == ["data_source", "extra_info", "ground_truth"] and kwargs["ground_truth"] == "4")

    assert judged(UserFunction(with_rest), "4").verdict is Verdict.RIGHT


def test_a_reward_of_verl_with_other_arguments_is_refused() -> None:
    def other(solution_str: str, tokenizer: Any) -> float: ...

    with pytest.raises(BadInput, match="'tokenizer', which verl's form does not have"):
        UserFunction(other)


def test_an_asynchronous_judge_is_awaited() -> None:
    assert judged(UserFunction(later), "4").verdict is Verdict.RIGHT


# --- several ---


@pytest.mark.parametrize(
    ("weights", "text", "verdict", "score"),
    [
        ((1, 1), "4", "right", 1.0),
        ((1, 1), "45", "wrong", 0.25),
        ((3, 1), "four", "wrong", 0.0625),
        ((1, 0), "45", "wrong", 0.0),
        ((1, -1), "45", "wrong", 0.0),  # cut to the scale
        ((1, 1), "", "unknown", None),  # as the second says so
    ],
)
def test_the_score_is_the_weighted_mean(
    weights: tuple[float, float], text: str, verdict: str, score: float | None
) -> None:
    made = WeightedVerifiers([(UserFunction(right), weights[0]), (UserFunction(brief), weights[1])])
    found = judged(made, text)
    assert (found.verdict, found.score) == (verdict, None if score is None else pytest.approx(score))


def test_a_verifier_that_fails_is_no_verifier_that_gives_no_score() -> None:
    found = judged(WeightedVerifiers([(UserFunction(right), 1), (UserFunction(raising), 1)]), "4")
    assert found.verdict is Verdict.UNKNOWN
    assert found.text.startswith("verifier raised: KeyError")
    assert judged(WeightedVerifiers([(UserFunction(brief), 1)]), "").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize("weights", [(), (0,), (-1, -2), (float("nan"),)])
def test_weights_that_make_no_mean_are_refused(weights: tuple[float, ...]) -> None:
    with pytest.raises(BadInput, match="weight above 0"):
        WeightedVerifiers([(Exact(), weight) for weight in weights])


def test_several_are_named_in_a_list_or_a_text(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def a(text, gold): return text == gold\ndef b(text, gold): return 0.5\n")
    named = f"{tmp_path}/mine.py:a,{tmp_path}/mine.py:b=0.25"
    for wanted in (named, [right, (brief, 0.25)]):
        made = choose_verifier(wanted, Kind.STRING, [PROBLEM])
        assert isinstance(made, WeightedVerifiers)
        assert [weight for _, weight in made.parts] == [1.0, 0.25]
        made.close()
    found = judged(choose_verifier(named, Kind.STRING, [PROBLEM]), "4")
    assert (found.verdict, found.score) == (Verdict.WRONG, pytest.approx((1 + 0.125) / 1.25))


def test_a_brief_answer_without_a_result_is_not_right() -> None:
    parts = WeightedVerifiers([(Exact(), 1), (UserFunction(brief), 0.2)])
    try:
        found = parts.judge(PROBLEM, ExtractedAnswer("?", None, None), "4")
    finally:
        parts.close()
    assert (found.verdict, found.text) == (Verdict.UNKNOWN, "no answer")


def test_a_reward_of_trl_that_does_not_apply_is_left_out() -> None:
    def of_code(completions: list[str], **kwargs: Any) -> list[float | None]:
        return [None for _ in completions]

    found = judged(WeightedVerifiers([(UserFunction(right), 1), (UserFunction(of_code), 1)]), "4")
    assert (found.verdict, found.score) == (Verdict.RIGHT, 1.0)
    assert judged(WeightedVerifiers([(UserFunction(of_code), 1)]), "4").verdict is Verdict.UNKNOWN


@pytest.mark.parametrize(
    ("spec", "parts"),
    [
        ("exact", [("exact", 1)]),
        ("a.py:f, b.py:g=.5", [("a.py:f", 1), ("b.py:g", 0.5)]),
        ("a.py:f,b.py:g", [("a.py:f", 1), ("b.py:g", 1)]),
        ("tests,a.py:f=-2", [("tests", 1), ("a.py:f", -2)]),
        ("exact=0.5", [("exact", 0.5)]),
        ("runs/lr=0.1/judges.py:f", [("runs/lr=0.1/judges.py:f", 1)]),
        ("runs/a,b/judges.py:f", [("runs/a,b/judges.py:f", 1)]),
        ("http://h/v?k=3", [("http://h/v?k=3", 1)]),
        ("http://h/v?k=1,2", [("http://h/v?k=1,2", 1)]),
        ("http://h/v,a.py:f=2", [("http://h/v", 1), ("a.py:f", 2)]),
        ("a.py:f,http://h/v?k=3", [("a.py:f", 1), ("http://h/v?k=3", 1)]),
        ("a.py:f=heavy", [("a.py:f=heavy", 1)]),
    ],
)
def test_the_parts_of_a_text(spec: str, parts: list[tuple[str, float]]) -> None:
    assert parts_of(spec) == parts


@pytest.mark.parametrize("wanted", [[], (right, 0.5), [[right, 0.5]], [0.5], [(right, "heavy")], [(right, 1, 2)]])
def test_what_is_no_list_of_verifiers_is_one_line(wanted: Any) -> None:
    with pytest.raises(BadInput, match="verifier"):
        choose_verifier(wanted, Kind.STRING)


@pytest.mark.parametrize(
    "wanted",
    ["a.py:f", "exact,a.py:g=0.5", "a.py:f=2", "https://h/v", "exact,http://h/x.py:1", ["a.py:f"], 3, "nothing"],
)
def test_what_runs_code_or_is_sent_away_is_told(wanted: Any) -> None:
    assert is_foreign(wanted)
    assert not any(map(is_foreign, (None, "exact", "math=2", "tests,exact=0.5")))


def test_asynchronous_calls_share_an_event_loop() -> None:
    import asyncio

    loops: list[Any] = []

    async def judge(problem: Any, text: str) -> bool:
        loops.append(asyncio.get_running_loop())
        return loops[0] is loops[-1] and not loops[0].is_closed()

    made = UserFunction(judge)
    assert [made.judge(PROBLEM, ExtractedAnswer("4", "4", "4"), "4").verdict for _ in range(3)] == ["right"] * 3
    made.close()


# --- behind an address ---

Answerer = Callable[[dict[str, Any]], tuple[int, bytes]]


@pytest.fixture
def served() -> Iterator[tuple[str, list[Any], list[Answerer]]]:
    """The address of a server, what it was asked, and how it answers, each time in turn."""
    asked: list[Any] = []
    answers: list[Answerer] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
            status, body = answers[min(len(asked), len(answers)) - 1](asked[-1])
            self.send_response(status)
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/verify", asked, answers
    server.shutdown()
    server.server_close()


def says(status: int, **body: Any) -> Answerer:
    return lambda _: (status, json.dumps(body).encode())


def test_an_answer_is_posted_and_its_score_read(served: Any) -> None:
    url, asked, answers = served
    answers.append(says(200, score=0.5, text="half"))
    found = judged(HttpVerifier(url), "It is 4")
    assert (found.verdict, found.score, found.text) == (Verdict.WRONG, 0.5, "half")
    (one,) = asked
    assert one["prompt"] == [{"role": "user", "content": "What is 2 + 2?"}]
    assert (one["completion"], one["reference"], one["row"]["data_source"]) == ("It is 4", "4", "sums")


@pytest.mark.parametrize(
    ("body", "verdict"),
    [({"score": True}, "right"), ({"reward": 1}, "right"), ({"score": None}, "unknown"), ({"score": "1"}, "unknown"),
     ({}, "unknown"), ({"score": 1, "text": "x" * 2_000_000}, "unknown")],
)  # fmt: skip
def test_what_it_may_answer(served: Any, body: dict[str, Any], verdict: str) -> None:
    url, _, answers = served
    answers.append(says(200, **body))
    assert judged(HttpVerifier(url), "4").verdict == verdict


def test_a_busy_server_is_asked_again_and_a_refusal_is_final(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    url, asked, answers = served
    answers += [says(503), says(429), says(200, score=1)]
    assert judged(HttpVerifier(url), "4").verdict is Verdict.RIGHT
    answers[:] = [says(400)]
    found = judged(HttpVerifier(url), "4")
    assert (found.verdict, len(asked)) == (Verdict.UNKNOWN, 4)
    assert found.text == f"verifier raised: {url}: it answers 400"


def test_a_response_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "TRIES", 1)

    class Dripping(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            with contextlib.suppress(OSError):
                for _ in range(100):
                    self.wfile.write(b" ")
                    self.wfile.flush()
                    time.sleep(0.1)

        def log_message(self, format: str, *args: Any) -> None:
            """Nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Dripping)
    Thread(target=server.serve_forever, daemon=True).start()
    began = time.monotonic()
    found = judged(HttpVerifier(f"http://127.0.0.1:{server.server_port}/", timeout=0.5), "4")
    assert time.monotonic() - began < 5
    assert found.text.endswith("no response (TimeoutError)")
    server.shutdown()
    server.server_close()


def test_secrets_stay_out_of_versions_and_messages(served: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url, _, answers = served
    answers.append(says(400))
    monkeypatch.setenv("SELFTAUGHT_VERIFIER_TOKEN", "hidden-token")
    found = judged(HttpVerifier(f"{url}?key=secret"), "4")
    assert "secret" not in found.text + found.source
    assert HttpVerifier(f"{url}?key=1").version != HttpVerifier(f"{url}?key=2").version
    with pytest.raises(BadInput, match="not of the form") as refused:
        HttpVerifier("http://user:secret@host/v")
    assert "secret" not in str(refused.value)


def test_no_server_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "FIRST_WAIT", 0.01)
    found = judged(HttpVerifier("http://127.0.0.1:9/"), "4")
    assert found.text.startswith("verifier raised: http://127.0.0.1:9/: ")


def test_an_address_is_a_verifier_on_the_command_line(
    served: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    url, asked, answers = served
    answers.append(says(200, score=0.25))
    with load_task("chain_sum", train=0, dev=0, test=1, verifier=url) as task:
        assert isinstance(task.verifier, HttpVerifier)
    sizes = ["--test", "3", "--max-tokens", "4", "--quiet", "--json", "--out", str(tmp_path / "run")]
    assert main(["eval", "--task", "tiny:level=1", "--model", "tiny", "--verifier", "nothing", *sizes]) == 2
    capsys.readouterr()
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"question": f"{n}?", "answer": str(n)}) + "\n" for n in range(3)))
    assert main(["eval", "--task", str(rows), "--model", "tiny", "--verifier", url, *sizes]) == 0
    assert json.loads(capsys.readouterr().out)["mean_score"] == 0.25
    assert len(asked) == 3
