"""The local engine: torch in this process, many requests in one continuously refilled batch."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections import OrderedDict
from concurrent.futures import Future
from typing import TYPE_CHECKING, Any

from selftaught.engines.base import EngineError, Request, Sample, check_request
from selftaught.errors import BadInput, nearest
from selftaught.models.device import DTYPES, pick_device, pick_dtype
from selftaught.models.policy import Policy
from selftaught.records import Prompt

if TYPE_CHECKING:
    from selftaught.engines.batch import Batch, Job

PATIENCE = 30.0  # seconds a policy is served while requests for another one wait


class LocalEngine:
    """Samples with torch in this process; a worker thread owns the weights and the batch.

    Every step decodes one token for all rows; a finished row is replaced at once by the next request.
    A prompt shared by several requests is computed once. A policy not yet held is loaded; the batch
    serves one policy at a time.

    Args:
        dtype: "auto" (bfloat16 where the processor multiplies it natively, else float32), or a name.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        rows: most requests decoded together.
        cache_gib: most memory for keys and values; fewer rows are used rather than more memory, but one
            request always runs.
        fused: use the fused pass where the architecture has one.
        held: how many policies' weights stay loaded.

    Raises:
        BadInput: an unknown dtype, or a number that leaves no room for any request.
    """

    name = "local"

    def __init__(
        self, *, dtype: str = "auto", device: str = "auto", rows: int = 128, cache_gib: float = 2.0,
        fused: bool = True, held: int = 1,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise BadInput(f"unknown dtype {dtype!r}", where="dtype", fix=nearest(dtype, DTYPES))
        if rows < 1 or held < 1 or cache_gib <= 0:
            raise BadInput(
                f"rows={rows}, held={held}, cache_gib={cache_gib}", where="LocalEngine", fix="use more than 0"
            )
        self.busy_seconds = 0.0
        self.load_seconds = 0.0
        self._settings = (dtype, device, fused)
        self._most_rows, self._budget, self._most_held = rows, int(cache_gib * 2**30), held
        self._inbox: list[Job] = []
        self._releases: list[Future[None]] = []
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        # The worker's own:
        self._queue: list[Job] = []
        self._held: OrderedDict[str, Batch] = OrderedDict()
        self._batch: Batch | None = None
        self._turn_began = 0.0

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        check_request(request)
        return await self._ask(policy, request)

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """See `Engine.logprobs`."""
        return await self._ask(policy, Request(prompt), scored=text)

    def release(self) -> None:
        """Drop weights, caches and prefixes, once no answer is under way; the next request loads again."""
        done: Future[None] = Future()
        with self._wake:
            if self._thread is None or self._closed:
                return
            self._releases.append(done)
            self._wake.notify()
        done.result()

    def close(self) -> None:
        """Stop the worker; requests still waiting fail with `EngineError`. Closing twice is harmless."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        atexit.unregister(self.close)

    async def _ask(self, policy: Policy, request: Request, scored: str | None = None) -> Any:
        from selftaught.engines.batch import Job

        job = Job(policy, request, Future(), time.monotonic(), scored)
        with self._wake:
            if self._closed:
                raise EngineError("the engine is closed")
            self._inbox.append(job)
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="selftaught-engine", daemon=True)
                self._thread.start()
                atexit.register(self.close)  # torch aborts the process where a thread still computes at its end
            self._wake.notify()
        return await asyncio.wrap_future(job.future)

    # --- from here on, on the worker thread ---

    def _work(self) -> None:
        import torch

        with torch.inference_mode():
            while self._has_work():
                started = time.perf_counter()
                try:
                    self._turn()
                except Exception as error:  # our own defect or out of memory: those under way learn of it, nobody hangs
                    self._fail(error)
                self.busy_seconds += time.perf_counter() - started
        closed = EngineError("the engine was closed")
        self._fail(closed)
        for job in self._queue:
            job.settle(error=closed)
        self._queue.clear()
        self._forget()

    def _has_work(self) -> bool:
        """Wait for something to do; False once the engine is closed."""
        with self._wake:
            while not (self._inbox or self._queue or self._releases or self._active or self._closed):
                self._wake.wait()
            self._queue += self._inbox
            self._inbox.clear()
            return not self._closed

    @property
    def _active(self) -> list[Job]:
        return self._batch.active if self._batch else []

    def _turn(self) -> None:
        """Let requests in, and decode one token for each that is."""
        if not self._releases:
            self._admit()
        elif not self._active:
            self._forget()
        if self._batch and self._batch.active:
            self._batch.step()

    def _fail(self, error: Exception) -> None:
        """Fail all requests in the batch, and drop its memory, which may be half written."""
        for job in self._active:
            job.settle(error=error)
        if self._batch:
            self._batch.active.clear()
            self._batch.rest()

    def _forget(self) -> None:
        self._held.clear()
        self._batch = None
        with self._wake:
            done, self._releases = self._releases, []
        for future in done:
            future.set_result(None)

    def _admit(self) -> None:
        """Take requests for the policy being served from the queue, as many as there is room for."""
        if not self._active and self._queue and not self._switch(self._queue[0].policy):
            return
        batch = self._batch
        if batch is None or self._others_wait(batch.policy.version):
            return
        new: list[Job] = []
        kept: list[Job] = []
        for i, job in enumerate(self._queue):
            if job.policy.version != batch.policy.version:
                kept.append(job)
            elif job.future.cancelled() or not self._prepared(batch, job):
                continue
            elif batch.has_room([*new, job]):
                new.append(job)
            else:
                kept += self._queue[i:]
                break
        self._queue = kept
        if new:
            try:
                batch.enter(new)
            except Exception as error:
                for job in new:
                    job.settle(error=error)
                raise

    def _prepared(self, batch: Batch, job: Job) -> bool:
        """Whether a request is ready to decode; one that cannot be served fails alone, one to score is done at once."""
        try:
            if job.scored is None:
                batch.prepare(job)
                return True
            job.settle(batch.score(job))
        except Exception as error:  # whatever is wrong with this request is its own failure
            job.settle(error=error)
        return False

    def _others_wait(self, version: str) -> bool:
        """Whether requests for another policy have waited so long that the batch must empty for them."""
        if not self._active or time.monotonic() - self._turn_began < PATIENCE:
            return False
        since = next((job.since for job in self._queue if job.policy.version != version), None)
        return since is not None and time.monotonic() - since > PATIENCE

    def _switch(self, policy: Policy) -> bool:
        """Serve `policy` from now on; where it cannot be loaded, all that wait for it fail."""
        if self._batch and self._batch.policy.version != policy.version:
            self._batch.rest()
        try:
            self._batch = self._load(policy)
        except Exception as error:  # of many kinds; each means that these weights are not to be had
            self._batch = None
            for job in self._queue:
                if job.policy.version == policy.version:
                    job.settle(error=error)
            self._queue = [job for job in self._queue if job.policy.version != policy.version]
            return False
        self._turn_began = time.monotonic()
        return True

    def _load(self, policy: Policy) -> Batch:
        if policy.version not in self._held:
            from selftaught.engines.batch import Batch
            from selftaught.engines.decoder import load_decoder
            from selftaught.models.chat import ChatTokenizer
            from selftaught.models.load import read_config, reading

            started = time.perf_counter()
            self._batch = None
            while len(self._held) >= self._most_held:
                self._held.popitem(last=False)
            dtype, device, fused = self._settings
            where = pick_device(device)
            with reading(policy.weights):
                read_config(policy.weights)  # the tokenizer's reader would complain of it as of its own
                tokenizer = ChatTokenizer(policy.weights)
            decoder = load_decoder(policy, pick_dtype(dtype, where), where, fused=fused)
            self._held[policy.version] = Batch(policy, decoder, tokenizer, rows=self._most_rows, budget=self._budget)
            self.load_seconds += time.perf_counter() - started
        self._held.move_to_end(policy.version)
        return self._held[policy.version]
