"""Limits at an endpoint, failures that affect one request or all, and the gate that they close."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from selftaught.engines.base import Request, RequestFailed, RequestRefused
from selftaught.engines.busy_timer import BusyTimer
from selftaught.engines.openai.failure_tracker import FailureTracker, stop_error
from selftaught.engines.openai.limits import CostTracker, Limits, RateLimiter, SlidingWindow
from selftaught.engines.openai.protocol import PermanentError
from selftaught.engines.openai.request_gate import RequestGate
from selftaught.errors import BadInput
from selftaught.records import Message


def asked(text: str, seed: int = 0) -> Request:
    return Request((Message("user", text),), seed=seed)


# --- failures --------------------------------------------------------------------------------------


def test_a_failure_of_all_stops_the_run_before_the_first_answer_only() -> None:
    tracker, failure = FailureTracker(), PermanentError("no such model", where="URL", fix="check it", affects_all=True)
    found = tracker.classify(failure, asked("a"))
    assert isinstance(found, BadInput)
    assert (found.where, found.fix) == ("URL", "check it")
    tracker.record_answer()
    assert isinstance(tracker.classify(failure, asked("a")), RequestRefused)


def test_similar_failures_of_different_requests_are_suspected_to_affect_all() -> None:
    tracker = FailureTracker()
    for i in range(7):
        assert isinstance(tracker.classify(PermanentError(f"bad at token {i}"), asked(f"q{i}")), RequestRefused)
        tracker.classify(PermanentError(f"bad at token {i}"), asked(f"q{i}"))  # the same request counts once
    assert tracker.suspected is None
    last = PermanentError("bad at token 1234")
    tracker.classify(last, asked("q7"))
    assert tracker.suspected is last
    tracker.reset()
    assert tracker.suspected is None


def test_an_answer_clears_the_suspicion_and_later_refusals_are_the_requests_own() -> None:
    tracker = FailureTracker()
    for i in range(8):
        tracker.classify(PermanentError("bad"), asked(f"q{i}"))
    tracker.record_answer()
    for i in range(20):
        tracker.classify(PermanentError("bad"), asked(f"q{i}"))
    assert tracker.suspected is None


def test_answers_of_an_earlier_start_count_and_some_failures_hold_after_them() -> None:
    tracker = FailureTracker()
    tracker.answered_before = True
    for i in range(3):
        tracker.classify(PermanentError("bad", stop_after=2), asked(f"q{i}"))
    assert tracker.suspected is None
    for i in range(2):
        tracker.classify(PermanentError("bad", stop_after=2, until_first_answer=False), asked(f"q{i}"))
    assert tracker.suspected is not None


def test_a_failing_server_is_told_apart_by_seeds_and_a_refusal_is_not() -> None:
    for server_failed, kind in ((True, RequestFailed), (False, RequestRefused)):
        tracker = FailureTracker()
        for seed in range(2):
            failure = PermanentError("x", server_failed=server_failed, stop_after=2)
            assert type(tracker.classify(failure, asked("q", seed))) is kind
        assert (tracker.suspected is not None) is server_failed


# --- rate ------------------------------------------------------------------------------------------


def test_usage_leaves_the_window_after_a_minute_and_can_be_corrected() -> None:
    window = SlidingWindow(10)
    first, second = window.add(6, 100.0), window.add(4, 110.0)
    assert window.delay(1, 120.0) == 40.0  # until the first leaves
    assert window.delay(7, 120.0) == 50.0  # until the second does, too
    second.amount = 1
    assert window.delay(3, 120.0) == 0.0
    assert window.delay(9, 160.0) == 0.0
    assert first.amount == 6


@settings(max_examples=40, deadline=None)
@example(uses=[(1, 2.2e-309), (1, 0.0), (1, 30.0), (3, 30.0)], limit=5)
@given(st.lists(st.tuples(st.integers(1, 5), st.floats(0, 30)), max_size=30), st.integers(5, 12))
def test_who_waits_as_told_never_exceeds_the_limit_of_any_minute(uses: list[tuple[int, float]], limit: int) -> None:
    window, now, sent = SlidingWindow(limit), 0.0, list[tuple[float, int]]()
    for amount, pause in uses:
        now += pause
        while (delay := window.delay(amount, now)) > 0:
            now += delay + 1e-6
        window.add(amount, now)
        sent.append((now, amount))
        assert sum(a for at, a in sent if at > now - 60) <= limit


def test_no_limit_never_waits() -> None:
    window = SlidingWindow(None)
    window.add(10**9, 0.0)
    assert window.delay(10**9, 0.0) == 0.0


def test_a_request_larger_than_a_minute_allows_is_refused_at_once() -> None:
    with pytest.raises(RequestRefused, match="it may take 1,001 tokens, of 1,000 allowed a minute"):
        asyncio.run(RateLimiter(Limits(tokens_per_minute=1000)).acquire(1001))


def test_a_pause_holds_requests_and_a_shorter_one_does_not_end_it() -> None:
    async def held() -> float:
        limiter = RateLimiter(Limits())
        limiter.pause(0.03)
        limiter.pause(0.0)
        started = time.monotonic()
        await limiter.acquire(5)
        return time.monotonic() - started

    assert asyncio.run(held()) >= 0.03


# --- cost ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"concurrency": 0}, "concurrency must be ≥ 1, got 0"),
        ({"tokens_per_minute": -1}, "tokens_per_minute must be ≥ 1, got -1"),
        ({"prompt_price": float("nan")}, "prompt_price must be ≥ 0, got nan"),
        ({"max_cost": float("inf")}, "max_cost must be ≥ 0, got inf"),
        ({"max_cost": 1.0}, "a cost limit needs the price of tokens"),
    ],
)
def test_a_limit_that_cannot_be_kept_is_one_line(wrong: dict[str, Any], said: str) -> None:
    with pytest.raises(BadInput, match=said) as caught:
        Limits(**wrong)
    assert caught.value.where == next(iter(wrong))


def test_prices_are_per_million_tokens() -> None:
    assert Limits(prompt_price=2.5, completion_price=10.0).cost(4000, 1000) == pytest.approx(0.02)


def test_a_reservation_waits_for_one_in_progress_and_is_refused_where_none_is() -> None:
    async def spend() -> float:
        tracker = CostTracker(Limits(completion_price=1e6, max_cost=10.0))  # a dollar a token
        first = await tracker.reserve(0, 8)
        waiting = asyncio.create_task(tracker.reserve(0, 8))
        await asyncio.sleep(0)
        assert not waiting.done()
        first.cost = 2.0  # cheaper than reserved: the second fits
        tracker.settle(first)
        second = await waiting
        second.cost = 8.0
        tracker.settle(second)
        with pytest.raises(BadInput, match=r"the cost limit of \$10 leaves no room .* \$10 are spent"):
            await tracker.reserve(0, 1)
        return tracker.spent

    assert asyncio.run(spend()) == 10.0


# --- the gate --------------------------------------------------------------------------------------


def test_stopping_cancels_what_is_not_sent_and_awaits_what_is() -> None:
    async def stop() -> tuple[list[str], Exception | None]:
        gate, ended, go = RequestGate(), list[str](), asyncio.Event()

        async def sent() -> None:
            with gate.request(), gate.sending():
                await go.wait()
                ended.append("answered")

        async def queued() -> None:
            try:
                with gate.request():
                    await go.wait()
            except asyncio.CancelledError:
                ended.append("cancelled")

        tasks = [asyncio.create_task(one()) for one in (sent, queued)]
        await asyncio.sleep(0)
        gate.stop(BadInput("the key is void"))
        gate.stop(BadInput("a later reason"))
        assert str(gate.stop_error).startswith("the key is void")
        await tasks[1]
        go.set()
        await tasks[0]
        return ended, gate.stop_error  # forgotten with the last request

    assert asyncio.run(stop()) == (["cancelled", "answered"], None)


def test_stopping_an_idle_gate_leaves_it_open() -> None:
    gate = RequestGate()
    gate.stop(BadInput("too late"))
    assert gate.stop_error is None


def test_a_suspected_failure_holds_new_requests_until_those_under_way_have_ended() -> None:
    async def suspect(answered: bool) -> str:
        gate, go = RequestGate(), asyncio.Event()

        async def first() -> None:
            with gate.request():
                await gate.wait_while_suspected()
                await go.wait()
                if answered:
                    gate.failures.record_answer()

        async def second() -> str:
            with gate.request():
                try:
                    await gate.wait_while_suspected()
                except BadInput as error:
                    return str(error)
                return "sent"

        one = asyncio.create_task(first())
        await asyncio.sleep(0)
        gate.failures.suspected = PermanentError("nothing works")
        two = asyncio.create_task(second())
        await asyncio.sleep(0)
        assert not two.done()
        go.set()
        await one
        return await two

    assert asyncio.run(suspect(answered=True)) == "sent"
    assert asyncio.run(suspect(answered=False)) == str(stop_error(PermanentError("nothing works")))


def test_seconds_shared_by_several_requests_count_once() -> None:
    timer = BusyTimer()
    started = time.perf_counter()
    with timer._busy(), timer._busy():
        time.sleep(0.01)
    busy = timer.busy_seconds
    time.sleep(0.01)
    with timer._busy():
        pass
    assert 0.01 <= busy <= timer.busy_seconds < time.perf_counter() - started - 0.009
