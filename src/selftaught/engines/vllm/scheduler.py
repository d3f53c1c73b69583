"""Who is served by vLLM when: requests wait until the weights that they need are held."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from selftaught.engines.vllm.server import Need, Server

PATIENCE = 30.0  # seconds whole weights are served while requests for others wait


class Turns:
    """Lets requests in, and has loaded what they need. For one event loop.

    Whole weights are replaced only while no answer is under way, an adapter only while none of its own is.

    Attributes:
        load_seconds: wall-clock seconds spent loading weights.
    """

    def __init__(self, server: Server) -> None:
        self.load_seconds = 0.0
        self._server = server
        self._under_way: Counter[str] = Counter()  # versions of policies with answers under way
        self._waiting: dict[object, tuple[str, float]] = {}  # whole weights waited for, since when
        self._failed: dict[str, tuple[float, Exception]] = {}  # version -> when it last failed to load, and why
        self._changed = asyncio.Event()  # set, and replaced, when who waits should look again
        self._loading, self._leaving = False, 0
        self._began = 0.0  # when the whole weights that are held were loaded

    @property
    def under_way(self) -> int:
        """Number of answers under way."""
        return self._under_way.total()

    @asynccontextmanager
    async def held(self, need: Need) -> AsyncIterator[None]:
        """Inside, the weights that are needed are held and stay as they are.

        Raises:
            BadInput: they cannot be loaded.
        """
        await self._admitted(need)
        version = need.policy.version
        self._under_way[version] += 1
        try:
            yield
        finally:
            self._under_way[version] -= 1
            if not self._under_way[version]:
                del self._under_way[version]
                self._pulse()

    async def _admitted(self, need: Need) -> None:
        ticket, since, version = object(), time.monotonic(), need.policy.version
        self._waiting[ticket] = need.whole.version, since
        try:
            while not self._may_enter(need):
                if version in self._failed and self._failed[version][0] >= since:
                    raise self._failed[version][1]
                if self._may_load(need):
                    await self._load(need)
                else:
                    await self._changed.wait()
        except BaseException:
            self._pulse()  # someone may have given way to this one
            raise
        finally:
            del self._waiting[ticket]

    async def forget(self) -> None:
        """Stop the server once no answer is under way; who comes meanwhile waits."""
        self._leaving += 1
        try:
            while self._under_way or self._loading:
                await self._changed.wait()
            self._server.stop()
        finally:
            self._leaving -= 1
            self._pulse()

    def _pulse(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _may_enter(self, need: Need) -> bool:
        if self._loading or self._leaving or not self._server.holds(need):
            return False
        patience = time.monotonic() - PATIENCE
        others = any(whole != need.whole.version and since < patience for whole, since in self._waiting.values())
        return not (others and self._began < patience)

    def _may_load(self, need: Need) -> bool:
        if self._loading or self._leaving or self._server.holds(need):
            return False
        if not self._under_way:
            return True
        return self._server.holds_whole(need) and self._server.has_room(self._under_way)

    async def _load(self, need: Need) -> None:
        """Load what is needed; where it cannot be, all that wait for it fail."""
        whole, started = not self._server.holds_whole(need), time.perf_counter()
        self._loading = True
        try:
            await self._server.load(need, self._under_way)
        except Exception as error:  # of many kinds; each means that these weights are not to be had
            self._failed[need.policy.version] = time.monotonic(), error
            raise
        finally:
            self._loading = False
            self.load_seconds += time.perf_counter() - started
            if whole:
                self._began = time.monotonic()
            self._pulse()
