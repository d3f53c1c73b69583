"""The event loop in a thread of its own, and work that concurrent callers share."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator

import pytest

from selftaught.errors import BadInput
from selftaught.run.background import BackgroundLoop, SharedTasks, cancel


@pytest.fixture
def loop() -> Iterator[BackgroundLoop]:
    loop = BackgroundLoop()
    yield loop
    loop.stop_pool()
    loop.close()


def test_results_and_exceptions_come_back_to_the_caller(loop: BackgroundLoop) -> None:
    async def thread_name() -> str:
        return threading.current_thread().name

    async def failing() -> None:
        raise KeyError("lost")

    assert loop.run(thread_name()) == "selftaught-run"
    with pytest.raises(KeyError, match="lost"):
        loop.run(failing())
    assert loop.run(thread_name()) == "selftaught-run"  # it goes on after a failure


def test_it_cannot_be_waited_for_from_within(loop: BackgroundLoop) -> None:
    async def nested() -> None:
        loop.run(asyncio.sleep(0))

    with pytest.raises(BadInput, match="cannot use the run that calls it; sample with its `ask`"):
        loop.run(nested())


def test_closing_cancels_what_still_runs_and_may_be_repeated() -> None:
    loop, ended = BackgroundLoop(), threading.Event()

    async def endless() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    async def begin() -> asyncio.Task[None]:
        task = asyncio.ensure_future(endless())
        await asyncio.sleep(0)
        return task

    task = loop.run(begin())
    loop.stop_pool()
    loop.close()
    loop.close()
    assert ended.is_set()
    assert task.cancelled()


class Work:
    """Work that waits to be released, and counts how often it was begun and cancelled."""

    def __init__(self, error: Exception | None = None) -> None:
        self.begun, self.cancelled, self.release, self.error = 0, 0, asyncio.Event(), error

    async def __call__(self) -> int:
        self.begun += 1
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        if self.error:
            raise self.error
        return self.begun


async def callers(share: SharedTasks, key: str, work: Work, count: int) -> list[asyncio.Task[int]]:
    found = [asyncio.ensure_future(share(key, work)) for _ in range(count)]
    for _ in range(3):
        await asyncio.sleep(0)
    return found


def test_concurrent_callers_of_a_key_share_one_result_and_later_ones_begin_anew() -> None:
    async def whole() -> None:
        share, work, other = SharedTasks(), Work(), Work()
        waiting = await callers(share, "a", work, 3)
        different = await callers(share, "b", other, 1)
        for one in (work, other):
            one.release.set()
        assert await asyncio.gather(*waiting) == [1, 1, 1]
        assert await asyncio.gather(*different) == [1]
        assert await share("a", work) == 2

    asyncio.run(whole())


def test_an_error_reaches_every_caller_and_is_not_kept() -> None:
    async def whole() -> None:
        share, work = SharedTasks(), Work(ValueError("bad"))
        waiting = await callers(share, "a", work, 2)
        work.release.set()
        found = await asyncio.gather(*waiting, return_exceptions=True)
        assert [str(error) for error in found] == ["bad", "bad"]
        work.error = None
        assert await share("a", work) == 2

    asyncio.run(whole())


@pytest.mark.parametrize(("cancelled", "stopped"), [(1, 0), (2, 1)])
def test_work_is_cancelled_when_its_last_caller_is(cancelled: int, stopped: int) -> None:
    async def whole() -> None:
        share, work = SharedTasks(), Work()
        waiting = await callers(share, "a", work, 2)
        await cancel(waiting[:cancelled])
        assert (work.begun, work.cancelled) == (1, stopped)
        work.release.set()
        assert [await task for task in waiting[cancelled:]] == [1] * (2 - cancelled)

    asyncio.run(whole())
