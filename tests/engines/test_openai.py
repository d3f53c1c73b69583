"""The engine for endpoints, against a real HTTP server on loopback."""

from __future__ import annotations

import asyncio
import dataclasses
import gzip
import itertools
import json
import logging
import pickle
import random
import time
import traceback
from collections.abc import Callable, Coroutine, Iterator
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.console import Console
from selftaught.engines import Engine, EngineError, PaidEngine, Request, RequestRefused, Sample, Sampling
from selftaught.engines.base import RequestFailed
from selftaught.engines.local.engine import LocalEngine
from selftaught.engines.openai import endpoint as endpoint_module
from selftaught.engines.openai import limits as limits_module
from selftaught.engines.openai import sender as sender_module
from selftaught.engines.openai.engine import ApiKey, Endpoint, Limits, OpenAIEngine
from selftaught.engines.openai.limits import SlidingWindow
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact
from selftaught.learn import TrainConfig
from selftaught.learn.learner import train_policy
from selftaught.learn.objectives.sft import sft
from selftaught.method import methods
from selftaught.models import Policy, resolve
from selftaught.models.remote import remote_policy
from selftaught.records import Demo, Message, as_prompt, make_problem
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task
from selftaught.testing.endpoint import SECRET, Got, Reply, completion, error, sums
from selftaught.testing.endpoint import Endpoint as Server

PROMPT = as_prompt("What is 2 + 3?")


@pytest.fixture
def make(server: Server) -> Iterator[Callable[..., OpenAIEngine]]:
    """Makes engines, closed after the test."""
    engines: list[OpenAIEngine] = []

    def engine(limits: Limits | None = None, *, timeout: float = 5.0, tries: int = 4, **more: Any) -> OpenAIEngine:
        engines.append(OpenAIEngine(Endpoint(**more), limits, timeout=timeout, max_tries=tries))
        return engines[-1]

    yield engine
    for engine_ in engines:
        engine_.close()


def request(text: str = "What is 2 + 3?", *, seed: int = 0, prefix: str = "", **sampling: Any) -> Request:
    return Request(as_prompt(text), Sampling(**({"max_tokens": 20} | sampling)), seed, prefix)


async def until(happened: Callable[[], Any]) -> None:
    """Wait for it, however slow the machine is."""
    while not happened():
        await asyncio.sleep(0.01)


def go(work: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(work)


def ask(engine: Engine, *requests: Request, model: str = "tiny") -> list[Any]:
    """What each request comes to: a sample or an exception."""
    policy = remote_policy(model)

    async def all_of_them() -> list[Any]:
        return await asyncio.gather(*(engine.sample(policy, r) for r in requests), return_exceptions=True)

    return go(all_of_them())


def one(engine: Engine, asked: Request | None = None, **more: Any) -> Sample:
    found = ask(engine, asked or request(), **more)[0]
    if isinstance(found, BaseException):
        raise found
    return found


# --- what is asked, and what comes back ---


def test_an_answer_comes_back_as_the_endpoint_counted_it(server: Server, make: Any) -> None:
    server.script = [completion("Answer: 5", prompt=17, tokens=4, logprobs=[-0.5, -0.25, 0.0])]
    engine = make()
    found = one(engine)
    assert isinstance(engine, Engine)
    assert isinstance(engine, PaidEngine)
    assert (found.text, found.finish_reason, found.prompt_tokens) == ("Answer: 5", "stop", 17)
    assert (found.token_ids, found.num_tokens, found.tokens) == ((), 4, 4)
    assert found.logprobs == (-0.5, -0.25, 0.0)
    assert found.policy == remote_policy("tiny").version
    assert engine.busy_seconds > 0


def test_the_request_says_all_that_decides_the_answer(server: Server, make: Any) -> None:
    prompt = (Message("system", "Be brief."), Message("user", "2 + 3? \ud800 ü"))
    how = Sampling(temperature=0.7, top_p=0.9, top_k=40, max_tokens=33, stop=("\n\n",))
    one(make(), Request(prompt, how, seed=2**62 + 5))
    (got,) = server.got
    assert got.path == "/v1/chat/completions"
    assert got.headers["authorization"] == f"Bearer {SECRET}"
    assert got.body == {
        "model": "tiny",
        "messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "2 + 3? \ud800 ü"}],
        "temperature": 0.7,
        "top_p": 0.9,
        "top_k": 40,
        "max_tokens": 33,
        "stop": ["\n\n"],
        "seed": 5,
        "logprobs": True,
    }


def test_servers_that_sample_by_habits_of_their_own_are_told_not_to(server: Server, make: Any) -> None:
    server.owner = "vllm"
    one(make())
    assert server.got[-1].body["top_k"] == -1
    assert server.got[-1].body["repetition_penalty"] == 1.0
    assert server.got[-1].body["min_p"] == 0.0
    server.owner = "somebody"
    one(make())
    assert not {"top_k", "min_p", "repetition_penalty"} & server.got[-1].body.keys()


@pytest.mark.parametrize(
    ("reply", "text", "finish"),
    [
        (completion("cut", finish="length"), "cut", "length"),
        (completion("cut", finish="content_filter"), "cut", "length"),
        (completion("one END two"), "one ", "stop"),
        (completion("one END two", finish="length"), "one ", "stop"),
        (completion(None, finish="length"), "", "length"),  # type: ignore[arg-type]  # all went into thinking
    ],
)
def test_how_an_answer_ended(server: Server, make: Any, reply: Reply, text: str, finish: str) -> None:
    server.script = [reply]
    found = one(make(), request(stop=("END",)))
    assert (found.text, found.finish_reason) == (text, finish)


def test_a_refusal_by_the_model_is_its_answer(server: Server, make: Any) -> None:
    reply = completion()
    reply.body["choices"][0]["message"] = {"role": "assistant", "content": None, "refusal": "I will not."}
    server.script = [reply]
    assert one(make()).text == "I will not."


def test_many_loops_can_share_an_engine(server: Server, make: Any) -> None:
    engine = make()
    assert [one(engine, request(f"{i} + 1")).text for i in range(3)] == ["Answer: 1", "Answer: 2", "Answer: 3"]


# --- failures that pass ---


def test_a_429_is_waited_out_as_long_as_it_says_by_everyone(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        first = got is server.got[0]
        return error(429, "slow down", headers={"Retry-After": "0.6"}) if first else sums(got)

    server.script = script
    found = ask(make(Limits(concurrency=1)), *(request(f"{i} + 1") for i in range(3)))
    assert [s.text for s in found] == ["Answer: 1", "Answer: 2", "Answer: 3"]
    refused, *others = [got.at for got in server.got]
    assert len(others) == 3
    assert min(others) - refused >= 0.6


def test_everyone_waits_even_those_that_were_not_refused(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        if got.question == "1":
            return error(429, "slow down", headers={"retry-after-ms": "1000"}) if got is server.got[0] else sums(got)
        return sums(got)

    server.script = script
    engine = make()

    async def work() -> None:
        policy = remote_policy("tiny")
        first = asyncio.ensure_future(engine.sample(policy, request("1")))
        await until(lambda: server.got)
        await asyncio.sleep(0.3)  # by now it has its 429
        await asyncio.gather(first, engine.sample(policy, request("2")))

    go(work())
    assert server.got[0].question == "1"
    assert all(got.at - server.got[0].at >= 1 for got in server.got[1:])


def test_a_date_is_a_time_to_wait_too(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        until = formatdate(time.time() + 2, usegmt=True)  # whole seconds: 1 to 2 of them
        return error(503, "restarting", headers={"Retry-After": until}) if got is server.got[0] else sums(got)

    server.script = script
    one(make())
    first, second = server.got
    assert 0.8 <= second.at - first.at <= 8


def test_an_endpoint_that_wants_to_be_left_alone_for_long_ends_the_run(server: Server, make: Any) -> None:
    server.script = [error(429, "daily limit", headers={"Retry-After": "86400"})]
    with pytest.raises(BadInput, match="asks to wait for 86,400 s; run the same command again later"):
        one(make())
    assert len(server.got) == 1


@pytest.mark.parametrize(
    "trouble",
    [
        error(500, "oops"),
        error(502, "bad gateway"),
        error(429, "no header"),
        Reply(503, b"<html>overloaded</html>"),
        Reply(body=b'{"choices": [{"message": {"con'),
        Reply(body={"error": {"message": "upstream", "code": 502}}),
        Reply(body={"choices": [], "usage": {}}),
        Reply(body=[1]),
        Reply(body=b"[" * 200_000),
        Reply(cut=True),
        completion(logprobs=[float("nan")]),
        completion(5),  # type: ignore[arg-type]
        completion(""),
        completion("", finish="error"),
    ],
)
def test_what_may_pass_is_tried_again(server: Server, make: Any, trouble: Reply) -> None:
    server.script = [trouble, trouble, completion("there")]
    assert one(make()).text == "there"
    assert len(server.got) == 3


def test_what_does_not_pass_ends_in_one_line(server: Server, make: Any) -> None:
    server.script = [error(500, "the model\nfell \x1b[31mover")]
    engine = make(Limits(concurrency=1), tries=3)
    first, second, *left = ask(engine, *(request(f"{i}") for i in range(5)))
    for failed in (first, second):  # two in a row: nobody is served any more
        assert isinstance(failed, RequestFailed)
        assert str(failed) == "it answered 500 (the model fell [31mover), and so for 3 tries"
    for stopped in left:
        assert isinstance(stopped, BadInput)
        assert str(stopped) == f"{server.url}: {first}; run the same command again later: what is paid for is kept"
    assert len(server.got) == 6


def test_a_request_that_the_server_falls_over_fails_alone(server: Server, make: Any) -> None:
    server.script = lambda got: error(500, "oops") if "bad" in got.question else sums(got)
    found = ask(make(Limits(concurrency=1), tries=2), *(request(text) for text in ("bad", "1 + 1", "bad too", "2 + 2")))
    assert [isinstance(one, RequestFailed) for one in found] == [True, False, True, False]


def test_waits_double_and_differ(monkeypatch: pytest.MonkeyPatch, server: Server, make: Any) -> None:
    monkeypatch.setattr(sender_module, "INITIAL_BACKOFF", 0.1)
    server.script = [error(500, "oops")] * 3 + [completion()]
    random.seed(0)
    engines = [make() for _ in range(2)]
    gaps = []
    for engine in engines:
        server.got.clear()
        one(engine)
        times = [got.at for got in server.got]
        gaps.append([b - a for a, b in itertools.pairwise(times)])
    for found in gaps:
        for gap, longest in zip(found, (0.1, 0.2, 0.4), strict=True):
            assert longest / 2 <= gap <= longest + 1
    assert gaps[0] != gaps[1]


@pytest.mark.parametrize("late", [completion(delay=30), completion(drip=0.2)])
def test_a_late_answer_is_given_up_and_asked_for_again(server: Server, make: Any, late: Reply) -> None:
    server.script = [late, completion("in time")]
    started = time.monotonic()
    assert one(make(timeout=1)).text == "in time"
    assert time.monotonic() - started < 20  # the drip alone would take longer


def test_an_answer_that_is_always_late_is_an_error(server: Server, make: Any) -> None:
    server.script = [completion(delay=1)]
    with pytest.raises(RequestFailed, match=r"no answer within 0\.1 s, and so for 2 tries"):
        one(make(timeout=0.1, tries=2))


def test_a_server_that_is_not_there_is_said_at_once(monkeypatch: pytest.MonkeyPatch, server: Server, make: Any) -> None:
    gone = Server()
    gone.close()
    with pytest.raises(BadInput, match="cannot be reached") as caught:
        go(make(url=gone.url).sample(remote_policy("tiny", gone.url), request()))
    assert gone.url in str(caught.value)
    assert "tries" not in str(caught.value)


# --- failures that last ---


def test_a_refused_request_fails_alone(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        return error(400, "maximum context length is 4096") if "long" in got.question else sums(got)

    server.script = script
    good, bad, fine = ask(make(), request("1 + 1"), request("long"), request("2 + 2"))
    assert (good.text, fine.text) == ("Answer: 2", "Answer: 4")
    assert isinstance(bad, RequestRefused)
    assert "400 (maximum context length is 4096)" in str(bad)
    assert len(server.got) == 3


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (error(401, f"Incorrect API key provided: {SECRET}"), "OPENAI_API_KEY: the key was not accepted"),
        (error(404, "no such model"), "there is no model 'tiny'"),
        (error(400, "no such model", code="model_not_found"), "there is no model 'tiny'"),
        (error(429, "You exceeded your quota", code="insufficient_quota"), "no credit left"),
        (Reply(307, b"", {"Location": "http://elsewhere.example/"}), "307"),
    ],
)
def test_what_is_wrong_with_the_account_is_the_users_to_mend(
    server: Server, make: Any, reply: Reply, says: str
) -> None:
    server.script = [reply]
    with pytest.raises(BadInput) as caught:
        one(make())
    assert says in str(caught.value)
    assert SECRET not in str(caught.value)
    assert len(server.got) == 1


def test_a_request_that_may_not_be_asked_fails_alone(server: Server, make: Any) -> None:
    server.script = lambda got: error(403, f"{SECRET} may not") if "secret" in got.question else sums(got)
    bad, fine = ask(make(), request("secret"), request("2 + 2"))
    assert fine.text == "Answer: 4"
    assert isinstance(bad, RequestRefused)
    assert str(bad) == "it answered 403 (<key> may not)"


@pytest.mark.parametrize("reply", [error(400, "the context is 7 tokens"), error(403, "not yours")])
def test_a_refusal_that_meets_every_request_stops_them_in_the_servers_words(
    server: Server, make: Any, reply: Reply
) -> None:
    server.script = [reply]
    found = ask(make(Limits(concurrency=4)), *(request(f"{i} + 1") for i in range(100)))
    kinds = [type(one) for one in found]
    assert kinds.count(RequestRefused) == len(server.got) <= 11  # 8, and those sent before these were answered
    assert kinds.count(BadInput) == 100 - len(server.got)
    assert f"({json.loads(json.dumps(reply.body))['error']['message']})" in str(found[-1])


def test_refusals_that_come_before_the_answers_stop_nothing(server: Server, make: Any) -> None:
    """Answers take longer than refusals; that the first ones to come back are refusals says nothing."""

    def script(got: Got) -> Reply:
        long = "long" in got.question
        return error(400, "too long") if long else dataclasses.replace(sums(got), delay=0.3)

    server.script = script
    asked = [request(f"{i} long") for i in range(20)] + [request(f"{i} + 1") for i in range(5)]
    found = ask(make(Limits(concurrency=9)), asked[-1], *asked[:-1])
    assert sum(isinstance(one, Sample) for one in found) == 5
    assert sum(type(one) is RequestRefused for one in found) == 20


def test_what_was_answered_on_an_earlier_start_tells_that_refusals_are_the_requests_own(
    server: Server, make: Any
) -> None:
    server.script = [error(400, "too long")]
    engine = make(Limits(concurrency=1))
    engine.add_prior_usage(100, 5)
    assert {type(one) for one in ask(engine, *(request(f"{i}") for i in range(12)))} == {RequestRefused}


def test_those_under_way_are_answered_where_the_key_is_no_longer_taken(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        return error(401, "no") if got.question == "0 + 0" else dataclasses.replace(sums(got), delay=2.0)

    server.script = script
    engine = make(Limits(concurrency=4))

    async def work() -> list[Any]:
        policy = remote_policy("tiny")
        first = [asyncio.ensure_future(engine.sample(policy, request(f"{i} + 1"))) for i in range(3)]
        await until(lambda: len(server.got) == 3)
        more = [asyncio.ensure_future(engine.sample(policy, request(f"{i} + 0"))) for i in range(9)]
        return await asyncio.gather(*first, *more, return_exceptions=True)

    found = go(work())
    assert [one.text for one in found[:3]] == ["Answer: 1", "Answer: 2", "Answer: 3"]
    assert all(isinstance(one, BadInput) and "the key was not accepted" in str(one) for one in found[3:])
    assert len(server.got) == 4
    server.script = sums
    assert one(engine, request("4 + 5")).text == "Answer: 9"  # the key may be mended by then


def test_winding_up_answers_what_is_under_way_and_sends_nothing_more(server: Server, make: Any) -> None:
    server.script = [completion(delay=0.3)]
    engine = make(Limits(concurrency=2))

    async def work() -> list[Any]:
        policy = remote_policy("tiny")
        asked = [asyncio.ensure_future(engine.sample(policy, request(f"{i}"))) for i in range(6)]
        await until(lambda: len(server.got) == 2)
        engine.cancel_unsent(LookupError("a method's own mistake"))
        return await asyncio.gather(*asked, return_exceptions=True)

    found = go(work())
    assert sum(isinstance(one, Sample) for one in found) == len(server.got) == 2
    assert sum(isinstance(one, LookupError) for one in found) == 4


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (Reply(body=b"<html>welcome</html>"), "no JSON (it begins with '<html>welcome</html>')"),
        (Reply(body=b"data: {}\n\n"), "no JSON (it begins with 'data: {}')"),
        (Reply(body=b""), "empty"),
        (Reply(body=b"7"), "no JSON object"),
        (completion(finish=None), "without a finish_reason (null)"),  # type: ignore[arg-type]
        (completion([{"type": "image_url", "image_url": {}}]), "parts of type image_url, and no text"),  # type: ignore[arg-type]
        (completion("", finish="tool_calls"), "called a tool"),
        (completion(""), "its answer is empty"),
        (completion("", finish="error"), "the model's provider failed"),
        (Reply(body={"error": {"message": "upstream is down"}}), "the model's provider failed (upstream is down)"),
    ],
)
def test_an_unusual_form_is_tried_a_few_times_and_named(server: Server, make: Any, reply: Reply, says: str) -> None:
    server.script = [reply]
    with pytest.raises(RequestFailed) as caught:
        one(make(tries=8))
    assert says in str(caught.value)
    assert len(server.got) == 3


def test_an_answer_without_end_is_cut_short(monkeypatch: pytest.MonkeyPatch, server: Server, make: Any) -> None:
    monkeypatch.setattr(endpoint_module, "MAX_RESPONSE_BYTES", 1 << 20)
    bomb = gzip.compress(b" " * (50 << 20))
    for reply in (Reply(body=b" " * (2 << 20)), Reply(body=bomb, headers={"Content-Encoding": "gzip"})):
        server.script = [reply]
        with pytest.raises(RequestFailed, match="its answer is longer than 1 MiB"):
            one(make())


@pytest.mark.parametrize("lost", ["usage", "model"])
def test_answers_that_cannot_be_counted_or_named_are_refused(server: Server, make: Any, lost: str) -> None:
    reply = completion()
    del reply.body[lost]
    server.script = [reply]
    with pytest.raises(BadInput, match=lost):
        one(make())


@pytest.mark.parametrize(
    "usage",
    [
        {"prompt_tokens": -1, "completion_tokens": 2}, {"prompt_tokens": "7"}, None, 5,
        {"prompt_tokens": 3, "completion_tokens": 2**63},
    ],
)  # fmt: skip
def test_odd_counts_are_no_counts(server: Server, make: Any, usage: Any) -> None:
    reply = completion()
    reply.body["usage"] = usage
    server.script = [reply]
    with pytest.raises(BadInput, match="usage"):
        one(make())


# --- what an endpoint may not know ---


def test_fields_that_an_endpoint_refuses_are_left_out_from_then_on(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        if "max_tokens" in got.body:
            return error(400, "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.")
        if "seed" in got.body:
            return error(422, "Extra inputs are not permitted: seed")
        if "logprobs" in got.body:
            return error(403, "You are not allowed to request logprobs from this model")
        return sums(got)

    server.script = script
    engine = make()
    assert one(engine).text == "Answer: 5"
    assert len(server.got) == 4
    assert one(engine).text == "Answer: 5"
    assert len(server.got) == 5
    assert server.got[-1].body["max_completion_tokens"] == 20
    assert engine.spent == 0


def test_what_changes_the_sampling_is_not_left_out_but_told(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        if got.body.get("temperature", 1) != 1:
            said = f"Unsupported value: 'temperature' does not support {got.body['temperature']} with this model."
            return error(400, said, param="temperature")
        return sums(got)

    server.script = script
    found = ask(make(), *(request(f"{i}", temperature=0.5) for i in range(3)))
    assert all(isinstance(one, BadInput) for one in found)
    assert "does not support temperature=0.5: it answered 400 (Unsupported value: 'temperature'" in str(found[0])
    assert "--temperature 1" in str(found[0])
    assert one(make(), request(temperature=1.0)).text == "Answer: 5"


@pytest.mark.parametrize(
    "refusal",
    [
        lambda name: error(400, f"Unsupported parameter: '{name}' is not supported with this model.", param=name),
        lambda name: error(400, f"Unrecognized request argument supplied: {name}"),
        lambda name: Reply(422, {"detail": [{"loc": ["body", name], "msg": "Extra inputs are not permitted"}]}),
    ],
)
def test_fields_that_change_nothing_are_left_out(server: Server, make: Any, refusal: Callable[[str], Reply]) -> None:
    def script(got: Got) -> Reply:
        names = ("temperature", "top_p", "stop", "min_p", "seed")
        refused = next((name for name in names if name in got.body), None)
        return refusal(refused) if refused else completion("one END two")

    server.owner, server.script = "vllm", script
    engine = make()
    assert one(engine, request(stop=("END",))).text == "one "
    assert len(server.got) == 6
    one(engine)
    assert len(server.got) == 7


def test_log_probabilities_that_are_needed_and_not_there_are_refused(server: Server, make: Any) -> None:
    assert one(make()).logprobs == ()  # nobody needs them
    engine = make(logprobs=True)
    with pytest.raises(RequestRefused, match="gives no log-probabilities"):
        one(engine)
    asked = len(server.got)
    with pytest.raises(RequestRefused, match="gives no log-probabilities"):
        one(engine)
    assert len(server.got) == asked  # it is known by now, and not paid for again
    server.script = [completion(logprobs=[-1.0])]
    assert one(make(logprobs=True)).logprobs == (-1.0,)
    one(make(logprobs=False))
    assert "logprobs" not in server.got[-1].body


def test_a_prefix_needs_a_server_that_continues(server: Server, make: Any) -> None:
    asked = request(prefix="Let me see:")
    with pytest.raises(RequestRefused, match="continues a message"):
        one(make(), asked)
    assert server.got == []
    for owner, more in (("vllm", {}), ("sglang", {}), ("openai", {"continue_final_message": True})):
        server.owner = owner
        one(make(**more), asked)
        body = server.got[-1].body
        assert body["messages"][-1] == {"role": "assistant", "content": "Let me see:"}
        assert body["continue_final_message"] is True
        assert body["add_generation_prompt"] is False
    with pytest.raises(RequestRefused):
        one(make(continue_final_message=False), asked)


def test_a_server_without_a_list_of_models_serves_as_well(server: Server, make: Any) -> None:
    for models in (Reply(404, b""), Reply(body=b"<html>"), Reply(body={"data": None})):
        server.models = models
        assert one(make()).text == "Answer: 5"


def test_the_list_of_models_is_asked_for_once(server: Server, make: Any) -> None:
    ask(make(), *(request(f"{i}") for i in range(10)))
    assert sum(got.path == "/v1/models" for got in server.all) == 1


# --- limits ---


def test_no_more_are_under_way_than_allowed(server: Server, make: Any) -> None:
    server.script = lambda got: dataclasses.replace(sums(got), delay=0.03)
    ask(make(Limits(concurrency=3)), *(request(f"{i}") for i in range(20)))
    assert server.most == 3
    server.most = 0
    ask(make(Limits(concurrency=20)), *(request(f"{i}") for i in range(20)))
    assert server.most > 3


def test_no_more_are_sent_a_minute_than_allowed(monkeypatch: pytest.MonkeyPatch, server: Server, make: Any) -> None:
    monkeypatch.setattr(limits_module, "MINUTE", 0.5)
    server.script = lambda got: error(500, "oops") if len(server.got) == 2 else sums(got)  # retries count
    started = time.monotonic()
    found = ask(make(Limits(requests_per_minute=4)), *(request(f"{i}") for i in range(7)))
    assert all(isinstance(s, Sample) for s in found)
    arrived = [got.at - started for got in server.all]
    assert len(arrived) == 9
    assert min(arrived[4:8]) >= 0.5
    assert min(arrived[8:]) >= 1.0


def test_tokens_a_minute_count_what_answers_took_once_it_is_known(
    monkeypatch: pytest.MonkeyPatch, server: Server, make: Any
) -> None:
    monkeypatch.setattr(limits_module, "MINUTE", 2.0)
    server.script = [completion(prompt=50, tokens=50)]
    engine = make(Limits(tokens_per_minute=500, concurrency=8))
    started = time.monotonic()
    found = ask(engine, *(request("Say it.", max_tokens=250) for _ in range(5)))  # at most about 340 tokens each
    assert all(isinstance(s, Sample) for s in found)
    arrived = [got.at - started for got in server.got]
    assert min(arrived[3:]) >= 2  # three of 100 leave too little for a fourth, by what it may take
    assert arrived[-1] < 6  # by what they may take alone, each would have a minute of its own
    too_long = ask(engine, request(max_tokens=600))[0]
    assert isinstance(too_long, RequestRefused)
    assert "of 500 allowed a minute" in str(too_long)


def test_a_window_never_lets_through_too_much() -> None:
    dice = random.Random(0)
    for _ in range(50):
        window, now, log = SlidingWindow(limit := dice.randint(5, 40)), 0.0, []
        for _ in range(60):
            amount = dice.randint(1, 5)
            now += dice.choice((0.0, dice.uniform(0, 20)))
            delay = window.delay(amount, now)
            now += delay
            assert window.delay(amount, now + 1e-6) == 0
            window.add(amount, now + 1e-6)
            log.append((now + 1e-6, amount))
            assert sum(n for at, n in log if at > now + 1e-6 - 60) <= limit
            if delay:  # no longer than needed: a moment earlier it did not fit
                assert sum(n for at, n in log[:-1] if at > now - 1e-3 - 60) + amount > limit


def test_a_cap_is_never_passed(server: Server, make: Any) -> None:
    """A request may cost 2 cents at most and does cost 1; under a cap of 10.5 cents 9 can be sent, not 10."""
    priced = Limits(completion_price=1000.0, max_cost=0.105, concurrency=4)
    server.script = [completion(prompt=10, tokens=10, delay=0.02)]
    engine = make(priced)
    found = ask(engine, *(request(f"{i}") for i in range(40)))
    paid = [s for s in found if isinstance(s, Sample)]
    refused = [s for s in found if isinstance(s, BadInput)]
    assert len(paid) + len(refused) == 40
    assert len(paid) == len(server.got) == 9
    assert engine.spent == pytest.approx(0.09)
    assert "the cost limit of $0.105" in str(refused[0])
    assert "raise it and run the same command again" in str(refused[0])
    assert ask(engine, request(max_tokens=1))[0].text  # a shorter one fits


def test_those_under_way_are_served_before_the_cap_ends_the_run(server: Server, make: Any) -> None:
    server.script = [completion(tokens=20, delay=0.3)]
    engine = make(Limits(completion_price=1000.0, max_cost=0.05))
    order: list[str] = []

    async def note(asked: Request) -> None:
        try:
            await engine.sample(remote_policy("tiny"), asked)
            order.append("answered")
        except BadInput:
            order.append("refused")

    async def work() -> None:
        await asyncio.gather(*(note(request(f"{i}")) for i in range(4)))

    go(work())
    assert order == ["answered", "answered", "refused", "refused"]
    assert len(server.got) == 2


def test_prompts_cost_too_and_are_never_underestimated(server: Server, make: Any) -> None:
    text = "ü" * 1000  # 2,000 bytes
    priced = Limits(prompt_price=1000.0, max_cost=1.9)
    with pytest.raises(BadInput, match="the cost limit"):
        one(make(priced), request(text))
    assert server.got == []
    server.script = [completion(prompt=1500)]
    engine = make(dataclasses.replace(priced, max_cost=2.2))
    one(engine, request(text))
    assert engine.spent == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("trouble", "lost"),
    [
        (error(429, "slow down"), 0),
        (error(500, "oops"), 0),
        (Reply(body=b"{"), 0.02),
        (completion(delay=30), 0.02),
        (Reply(cut=True), 0.02),
    ],
)
def test_an_answer_that_is_lost_counts_as_paid_for(server: Server, make: Any, trouble: Reply, lost: float) -> None:
    server.script = [trouble, completion(tokens=10)]
    engine = make(Limits(completion_price=1000.0), timeout=2)
    one(engine)
    assert engine.spent == pytest.approx(0.01 + lost)


def test_what_was_spent_before_counts(server: Server, make: Any) -> None:
    engine = make(Limits(prompt_price=100.0, completion_price=1000.0, max_cost=0.1))
    engine.add_prior_usage(100, 90)
    assert engine.spent == pytest.approx(0.1)
    with pytest.raises(BadInput, match="the cost limit"):
        one(engine)
    assert server.got == []


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrency": 0}, {"requests_per_minute": 0}, {"tokens_per_minute": -1}, {"prompt_price": -1.0},
        {"max_cost": float("nan"), "prompt_price": 1.0}, {"max_cost": 1.0},
    ],
)  # fmt: skip
def test_limits_that_mean_nothing_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(BadInput):
        Limits(**wrong)


# --- the key ---


def test_the_key_shows_nowhere(server: Server, make: Any, caplog: pytest.LogCaptureFixture, capfd: Any) -> None:
    caplog.set_level(logging.DEBUG)
    engine = make()
    replies = [
        error(401, f"Incorrect API key provided: {SECRET}."), error(400, f"bad {SECRET}"), error(403, SECRET),
        error(404, SECRET), Reply(500, SECRET.encode()), Reply(418, {"detail": [{"input": SECRET}]}),
        completion(model=SECRET), completion(model="tiny"), Reply(cut=True), completion(delay=30),
    ]  # fmt: skip
    shown = [repr(engine), repr(Endpoint()), repr(ApiKey(SECRET)), f"{ApiKey(SECRET)}", str(vars(engine))]
    shown += [
        json.dumps(dataclasses.astuple(Limits())),
        repr(engine._client._client),
        repr(engine._client._client.headers),
    ]
    for reply in replies:
        server.script = [reply]
        found = ask(make(tries=1, timeout=1), request())[0]
        if isinstance(found, BaseException):
            shown += [str(found), repr(found), *traceback.format_exception(found)]
    shown += [caplog.text, *capfd.readouterr()]
    assert all(got.headers["authorization"] == f"Bearer {SECRET}" for got in server.all)
    assert "HTTP Request" in caplog.text
    assert [text for text in shown if SECRET in text or SECRET[8:] in text] == []


def test_a_key_is_not_pickled() -> None:
    with pytest.raises(TypeError, match="must not be pickled"):
        pickle.dumps(ApiKey(SECRET))


@pytest.mark.parametrize("key", ["sk-\u2013abcdef", "sk-abc def", "sk-abc\ndef"])
def test_a_mangled_key_is_refused_unseen(server: Server, monkeypatch: pytest.MonkeyPatch, key: str) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", key)
    with pytest.raises(BadInput, match="OPENAI_API_KEY") as caught:
        Endpoint()
    assert key not in str(caught.value)
    assert "def" not in str(caught.value)


def test_a_line_end_behind_a_key_does_no_harm(server: Server, monkeypatch: pytest.MonkeyPatch, make: Any) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", SECRET + "\n")
    one(make())
    assert server.got[0].headers["authorization"] == f"Bearer {SECRET}"


def test_a_redirect_does_not_carry_the_key_away(server: Server, make: Any) -> None:
    other = Server()
    server.script = [Reply(308, b"", {"Location": other.url + "/chat/completions"})]
    with pytest.raises(BadInput, match="308"):
        one(make())
    assert other.all == []
    other.close()


def test_openais_own_endpoint_needs_a_key_and_others_do_not(
    server: Server, monkeypatch: pytest.MonkeyPatch, make: Any
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY")
    one(make())
    assert "authorization" not in server.got[0].headers
    monkeypatch.delenv("OPENAI_BASE_URL")
    with pytest.raises(BadInput, match="OPENAI_API_KEY: there is none"):
        Endpoint()


@pytest.mark.parametrize(
    "url",
    ["localhost:8000/v1", "ftp://host/v1", "http://user:word@host/v1", "http://host/v1?key=word", "http://host:x"],
)
def test_an_address_that_is_none_is_refused(monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("OPENAI_BASE_URL", url)
    with pytest.raises(BadInput, match="OPENAI_BASE_URL") as caught:
        resolve("openai:tiny")
    assert "word" not in str(caught.value)


# --- policies ---


def test_a_policy_names_the_model_and_where_it_is(server: Server) -> None:
    policy = resolve("openai:org/tiny")
    assert policy.remote == "org/tiny"
    assert policy.version == f"openai:org/tiny@{server.url.removeprefix('http://')}"
    assert resolve("openai:org/tiny") == policy
    with pytest.raises(BadInput, match="names no model"):
        resolve("openai:")
    with pytest.raises(BadInput, match="behind an endpoint"):
        _ = policy.weights


def test_a_policy_that_the_endpoint_does_not_hold_is_an_error(server: Server, make: Any, tmp_path: Path) -> None:
    engine = make()
    learnt = Policy("0123", tmp_path, base=remote_policy("tiny"))
    elsewhere = remote_policy("tiny", "http://other.example/v1")
    for policy in (Policy("abc", tmp_path), learnt, elsewhere):
        with pytest.raises(EngineError, match="does not hold policy"):
            go(engine.sample(policy, request()))
    assert server.all == []


@pytest.mark.parametrize(
    ("asked", "answers", "fine"),
    [
        ("tiny", "tiny", True),
        ("gpt-4o", "gpt-4o-2024-08-06", True),
        ("llama3", "llama3:latest", True),
        ("Org/Tiny", "tiny", True),
        ("gpt-4", "gpt-4o", False),
        ("gpt-4o", "gpt-4o-mini", False),
        ("tiny", "large", False),
    ],
)
def test_another_model_than_the_one_asked_for_is_an_error(
    server: Server, make: Any, asked: str, answers: str, fine: bool
) -> None:
    server.script = [completion(model=answers)]
    if fine:
        one(make(), model=asked)
        return
    with pytest.raises(BadInput, match=f"answers with model '{answers}' when asked for '{asked}'"):
        one(make(), model=asked)
    one(make(served_model_name=answers), model=asked)


def test_a_model_that_changes_under_way_is_an_error(server: Server, make: Any) -> None:
    server.script = [completion(model="tiny-2024-01-01"), completion(model="tiny-2024-02-02")]
    engine = make()
    one(engine)
    with pytest.raises(BadInput, match="was 'tiny-2024-01-01' so far and is 'tiny-2024-02-02' now"):
        one(engine)


def test_weights_are_neither_trained_nor_loaded(server: Server, tmp_path: Path) -> None:
    policy = resolve("openai:tiny")
    with pytest.raises(BadInput, match="behind an endpoint"):
        train_policy(policy, sft(), [Demo(PROMPT, "5")], TrainConfig(), seed=0, folder=tmp_path)
    local = LocalEngine()
    with pytest.raises(BadInput, match="behind an endpoint"):
        go(local.sample(policy, request()))
    local.close()


# --- cancelled, closed ---


def test_a_cancelled_request_leaves_the_others_alone(server: Server, make: Any) -> None:
    def script(got: Got) -> Reply:
        return completion(delay=30) if got.question == "slow" else sums(got)

    server.script = script
    engine = make(Limits(concurrency=1, completion_price=1000.0))

    async def work() -> None:
        policy = remote_policy("tiny")
        slow = asyncio.ensure_future(engine.sample(policy, request("slow")))
        waiting = asyncio.ensure_future(engine.sample(policy, request("1 + 1")))
        last = asyncio.ensure_future(engine.sample(policy, request("2 + 2")))
        await until(lambda: server.got)
        waiting.cancel()
        slow.cancel()
        assert (await asyncio.wait_for(last, 10)).text == "Answer: 4"
        assert slow.cancelled()
        assert waiting.cancelled()

    go(work())
    assert [got.question for got in server.got] == ["slow", "2 + 2"]
    assert engine.spent == pytest.approx(0.02 + 0.009)  # the cancelled one had been sent, and may be billed


def test_closing_does_not_wait_for_answers_and_logs_nothing(
    server: Server, make: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server.script = [completion(delay=30)]
    engine = make(Limits(concurrency=2))

    async def work() -> list[Any]:
        policy = remote_policy("tiny")
        asked = [asyncio.ensure_future(engine.sample(policy, request(f"{i}"))) for i in range(4)]
        await until(lambda: len(server.got) == 2)
        await asyncio.to_thread(engine.close)
        return await asyncio.gather(*asked, return_exceptions=True)

    started = time.monotonic()
    found = go(work())
    assert time.monotonic() - started < 20
    assert [str(error) for error in found] == ["the engine was closed"] * 4
    assert [r for r in caplog.records if r.levelno >= logging.WARNING] == []


# --- in a run ---


def sums_task(count: int = 6) -> Task:
    problems = [make_problem(f"What is {i} + {i + 1}?", str(2 * i + 1)) for i in range(3 * count)]
    splits = problems[:count], problems[count : 2 * count], problems[2 * count :]
    return Task("sums", *splits, verifier=Exact(), kind=Kind.NUMBER)


def run_in(folder: Path, **more: Any) -> Run:
    return Run(folder / "run", model="openai:tiny", task=sums_task(), console=Console(quiet=True), **more)


def test_what_the_endpoint_counts_lands_in_the_ledger_once(server: Server, tmp_path: Path) -> None:
    for _ in range(2):
        with run_in(tmp_path) as run:
            tried = run.attempt(run.base, run.task.train, samples=2, solver=methods()["self-consistency"])
            found = run.measure(run.base)
            usage = run.ledger.usage
            assert run.journal.usage() == usage
        assert len(tried) == 12
        written = [len(sums(got).body["choices"][0]["message"]["content"]) for got in server.got]
        assert (usage.prompt, usage.generated) == (10 * len(written), sum(written))
        assert found.accuracy == 1.0
        assert found.mean_tokens == pytest.approx(sum(written[-6:]) / 6, abs=0.5)
        assert all(a.num_tokens == len(a.text) and a.token_ids == () for a in tried)
    assert len(server.got) == 12 * methods()["self-consistency"].options[0].default + 6  # the second run paid nothing


def test_a_run_goes_on_where_the_cap_stopped_it(server: Server, tmp_path: Path) -> None:
    priced = Limits(concurrency=2, completion_price=1000.0, max_cost=0.06)  # an answer of 9 or 10 tokens costs a cent

    def attempt(limits: Limits) -> int:
        engine = OpenAIEngine(limits=limits)
        with run_in(tmp_path, engine=engine, settings=Settings(sampling=Sampling(max_tokens=20))) as run:
            try:
                return len(run.attempt(run.base, run.task.train, samples=2))
            finally:
                assert engine.spent == pytest.approx(run.journal.usage().generated / 1000)
                assert any("spent at the endpoint" in note for note in run.notes)

    with pytest.raises(BadInput, match="the cost limit"):
        attempt(priced)
    paid = len(server.got)
    assert 2 <= paid <= 5
    with pytest.raises(BadInput, match="the cost limit"):
        attempt(priced)
    assert len(server.got) == paid  # every answer was kept, and none fits any more
    assert attempt(dataclasses.replace(priced, max_cost=1.0)) == 12
    assert len(server.got) == 12


def test_a_refused_request_is_an_outcome_of_the_run(server: Server, tmp_path: Path) -> None:
    server.script = lambda got: error(400, f"no {SECRET}") if " 0 + " in got.question else sums(got)
    with run_in(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train)
        assert [a.finish_reason for a in tried] == ["error"] + ["stop"] * 5
        assert "refused" in run.notes[0]
    assert all(SECRET.encode() not in path.read_bytes() for path in (tmp_path / "run").iterdir())


def test_a_recipe_that_learns_says_in_a_line_that_it_cannot(server: Server, tmp_path: Path) -> None:
    with run_in(tmp_path) as run, pytest.raises(BadInput) as caught:
        methods()["rest-em"](run, run.base, run.task, rounds=1, samples=2)
    assert "openai:tiny cannot be trained" in str(caught.value)


TASK = ["--task", "chain_sum:min_terms=2,max_terms=2,max_digits=2", "--model", "openai:tiny", "--quiet"]


def test_the_command_line_measures_an_endpoint(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["eval", *TASK, "--test", "5", "--max-tokens", "30", "--completion-price", "1", "--json"]
    assert main([*words, "--out", str(tmp_path / "out")]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["accuracy"] == 1.0
    assert len(server.got) == 5
    assert main([*words, "--out", str(tmp_path / "out")]) == 0  # all kept
    assert len(server.got) == 5
    assert SECRET not in shown.out + shown.err


def test_the_command_line_asks_an_endpoint(server: Server, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["solve", "self-consistency", "What is 4 + 5?", "--model", "openai:tiny", "--samples", "3", "--quiet"]
    assert main(words) == 0
    assert "Answer: 9" in capsys.readouterr().out
    assert len(server.got) == 3


def test_the_command_line_keeps_the_cap(server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = [
        "eval",
        *TASK,
        "--test",
        "50",
        "--max-tokens",
        "20",
        "--max-batch-size",
        "1",
        "--out",
        str(tmp_path / "out"),
    ]
    assert main([*words, "--completion-price", "1000", "--max-cost", "0.05"]) == 2
    assert "max_cost: the cost limit of $0.05" in capsys.readouterr().err
    assert len(server.got) <= 4


def test_the_command_line_refuses_to_teach_an_endpoint_before_anything_is_paid(
    server: Server, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--train", "4", "--dev", "4", "--test", "4", "--out", str(tmp_path / "out")]
    assert main(["run", "rest-em", *TASK, *small]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("selftaught: learn: openai:tiny cannot be trained")
    assert server.all == []
    assert not (tmp_path / "out").exists()
