"""Schedule requests to vLLM: each waits until the weights that it needs are loaded."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from selftaught.engines.vllm.server import RequiredWeights, VllmServer

MAX_WEIGHTS_WAIT = 30.0  # seconds that one base is served while requests for another wait


class PolicyScheduler:
    """Admits requests, and loads the weights that they need. For one event loop.

    Full weights are replaced only while no request is in progress, an adapter only while none of its own is.

    Attributes:
        load_seconds: wall-clock seconds spent loading weights.
    """

    def __init__(self, server: VllmServer) -> None:
        self.load_seconds = 0.0
        self._server = server
        self._active: Counter[str] = Counter()  # by version, requests in progress
        self._waiting: dict[object, tuple[str, float]] = {}  # version of the base waited for, and since when
        self._failed: dict[str, tuple[float, Exception]] = {}  # version -> when it last failed to load, and why
        self._changed = asyncio.Event()  # set, and replaced, when waiters should check again
        self._loading, self._unloading = False, 0
        self._weights_since = 0.0  # when the current base was loaded

    @property
    def num_active(self) -> int:
        """Number of requests in progress."""
        return self._active.total()

    @asynccontextmanager
    async def using(self, need: RequiredWeights) -> AsyncIterator[None]:
        """Wait until `need` is loaded; inside the context it stays loaded.

        Raises:
            BadInput: they cannot be loaded.
        """
        await self._wait_for_weights(need)
        version = need.policy.version
        self._active[version] += 1
        try:
            yield
        finally:
            self._active[version] -= 1
            if not self._active[version]:
                del self._active[version]
                self._notify()

    async def _wait_for_weights(self, need: RequiredWeights) -> None:
        ticket, since, version = object(), time.monotonic(), need.policy.version
        self._waiting[ticket] = need.base.version, since
        try:
            while not self._can_start(need):
                if version in self._failed and self._failed[version][0] >= since:
                    raise self._failed[version][1]
                if self._can_load(need):
                    await self._load(need)
                else:
                    await self._changed.wait()
        except BaseException:
            self._notify()  # others may have waited for this one
            raise
        finally:
            del self._waiting[ticket]

    async def unload(self) -> None:
        """Stop the server once no request is in progress; new requests wait until then."""
        self._unloading += 1
        try:
            while self._active or self._loading:
                await self._changed.wait()
            self._server.stop()
        finally:
            self._unloading -= 1
            self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _can_start(self, need: RequiredWeights) -> bool:
        if self._loading or self._unloading or not self._server.has_weights(need):
            return False
        patience = time.monotonic() - MAX_WEIGHTS_WAIT
        others = any(whole != need.base.version and since < patience for whole, since in self._waiting.values())
        return not (others and self._weights_since < patience)

    def _can_load(self, need: RequiredWeights) -> bool:
        if self._loading or self._unloading or self._server.has_weights(need):
            return False
        if not self._active:
            return True
        return self._server.has_base(need) and self._server.has_lora_slot(self._active)

    async def _load(self, need: RequiredWeights) -> None:
        """Load what is needed; if that fails, all requests that wait for it fail."""
        whole, started = not self._server.has_base(need), time.perf_counter()
        self._loading = True
        try:
            await self._server.load(need, self._active)
        except Exception as error:  # of many kinds; each means that these weights cannot be loaded
            self._failed[need.policy.version] = time.monotonic(), error
            raise
        finally:
            self._loading = False
            self.load_seconds += time.perf_counter() - started
            if whole:
                self._weights_since = time.monotonic()
            self._notify()
