"""The local engine: torch in this process, many requests in one continuously refilled batch."""

from __future__ import annotations

import asyncio
import atexit
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Future
from contextlib import suppress
from typing import TYPE_CHECKING, Any

from selftaught.engines.base import EngineError, Request, Sample, check_request
from selftaught.errors import BadInput, suggest
from selftaught.machine.device import DTYPES, pick_device, pick_dtype
from selftaught.machine.threads import dismiss
from selftaught.models.policy import Policy
from selftaught.records import Prompt

if TYPE_CHECKING:
    from selftaught.engines.local.batch import Batch
    from selftaught.engines.local.decoder import Decoder
    from selftaught.engines.local.sequence import Job, Outcome
    from selftaught.models.chat import ChatTokenizer

SMALL = 10_000_000  # parameters
LUMP = 8  # a full batch lets requests in once one row in so many is free: their prompts are read together then
PATIENCE = 30.0  # seconds a policy is served while requests for another one wait


class LocalEngine:
    """Samples with torch in this process; a worker thread owns the weights and the batch.

    Every step decodes one token for all rows; a finished row is replaced at once by the next request.
    What several requests begin with is computed once and held once for all of them: one prompt, a header of
    many prompts, a partial answer, the turns of a dialogue so far. A policy not yet held is loaded; the batch
    serves one policy at a time.

    Args:
        dtype: "auto" (bfloat16 where the processor multiplies it natively, else float32), or a name.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        rows: most requests decoded together; by default 128, and 512 where the model is so small
            that products cost little.
        cache_gib: most memory for keys and values; fewer rows are used rather than more memory, but one
            request always runs.
        fused: use the fused pass where the architecture has one.
        held: how many policies' weights stay loaded.

    Raises:
        BadInput: an unknown dtype, or a number that leaves no room for any request.
    """

    name = "local"

    def __init__(
        self, *, dtype: str = "auto", device: str = "auto", rows: int | None = None, cache_gib: float = 2.0,
        fused: bool = True, held: int = 1,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise BadInput(f"unknown dtype {dtype!r}", where="dtype", fix=suggest(dtype, DTYPES))
        if (rows is not None and rows < 1) or held < 1 or cache_gib <= 0:
            raise BadInput(
                f"rows={rows}, held={held}, cache_gib={cache_gib}", where="LocalEngine", fix="use more than 0"
            )
        self.busy_seconds = 0.0
        self.load_seconds = 0.0
        self.dtype = dtype
        self._settings = (dtype, device, fused)
        self._most_rows, self._budget, self._most_held = rows, int(cache_gib * 2**30), held
        self._inbox: list[Job] = []
        self._errands: list[tuple[Callable[[], None], Future[None]]] = []  # for when no answer is under way
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        # The worker's own:
        self._queue: list[Job] = []
        self._taken: list[Job] = []
        self._outbox: list[Outcome] = []
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
        with self._wake:
            if self._thread is None or self._closed:
                return
        with suppress(EngineError):  # closed meanwhile
            self._run_errand(self._forget)

    def adopt(self, policy: Policy, model: Any) -> None:
        """Serve `policy` from the very tensors of `model`, once no answer is under way: nothing is copied or read.

        For training and sampling in one process: after a step in place, adopt the model again, under the name of
        the new policy. The policy it was adopted as before is forgotten then, since its weights are no more.

        Args:
            policy: what the weights are now called; its folder need hold no more than `config.json` and the tokenizer.
            model: a model of `transformers`, sampled in its own dtype; it is left in evaluation mode.

        Raises:
            EngineError: the engine is closed.
            ValueError: the architecture computes something else through the engine than on its own.
        """

        def take_over() -> None:
            from selftaught.engines.local.decoder import live_decoder
            from selftaught.models.chat import ChatTokenizer

            self._batch = None
            for version in [v for v, batch in self._held.items() if batch.source is model]:
                del self._held[version]
            self._make_way()
            self._hold(policy, live_decoder(model), ChatTokenizer(policy.weights), model)

        self._run_errand(take_over)

    def _run_errand(self, what: Callable[[], None]) -> None:
        """Have the worker do something between answers, and wait for it."""
        done: Future[None] = Future()
        with self._wake:
            self._start()
            self._errands.append((what, done))
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
        from selftaught.engines.local.sequence import Job

        job = Job(policy, request, asyncio.get_running_loop().create_future(), time.monotonic(), scored)
        with self._wake:
            self._start()
            self._inbox.append(job)
            self._wake.notify()
        return await job.future

    def _start(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="selftaught-engine", daemon=True)
            self._thread.start()
            atexit.register(self.close)  # torch aborts the process where a thread still computes at its end

    # --- from here on, on the worker thread ---

    def _work(self) -> None:
        import torch

        with torch.inference_mode():
            while self._has_work():
                started = time.perf_counter()
                try:
                    self._turn()
                except Exception as error:  # our own defect, or out of memory: nobody hangs
                    self._fail(error)
                self._deliver()
                self.busy_seconds += time.perf_counter() - started
        closed = EngineError("the engine was closed")
        self._fail(closed)
        self._outbox += [(job, None, closed) for job in self._queue]
        self._queue.clear()
        self._deliver()
        self._forget()
        for _, done in self._errands:
            done.set_exception(closed)

    def _deliver(self) -> None:
        if self._outbox:
            from selftaught.engines.local.sequence import deliver

            deliver(self._outbox)
            self._outbox.clear()

    def _has_work(self) -> bool:
        """Wait for something to do; False once the engine is closed."""
        with self._wake:
            while not (self._inbox or self._queue or self._errands or self._active or self._closed):
                dismiss()
                self._wake.wait()
            self._queue += self._inbox
            self._inbox.clear()
            return not self._closed

    @property
    def _active(self) -> list[Job]:
        return self._batch.active if self._batch else []

    def _turn(self) -> None:
        """Let requests in, and decode one token for each that is."""
        if not self._errands:
            self._admit()
        elif not self._active:
            self._do_errands()
        if self._batch and self._batch.active:
            self._batch.step()

    def _fail(self, error: Exception) -> None:
        """Drop the batch's memory, which may be half written; its requests start anew in a smaller batch, or fail.

        They start anew where the machine ran out of memory and there was more than one: as each is decided by its
        seed, nothing changes but the time it takes.
        """
        jobs = list({id(job): job for job in [*self._active, *self._taken]}.values())
        self._taken = []
        batch = self._batch
        if batch:
            batch.active.clear()
            batch.rest()
        if batch and len(jobs) > 1 and _no_memory(error):
            batch.most_rows = len(jobs) // 2
            self._queue = [job.anew() for job in jobs] + self._queue
        else:
            self._outbox += [(job, None, error) for job in jobs]

    def _do_errands(self) -> None:
        with self._wake:
            errands, self._errands = self._errands, []
        for what, done in errands:
            try:
                what()
                done.set_result(None)
            except Exception as error:  # for whoever asked
                done.set_exception(error)

    def _forget(self) -> None:
        self._held.clear()
        self._batch = None

    def _admit(self) -> None:
        """Take requests for the policy being served from the queue, as many as there is room for."""
        if not self._active and self._queue and not self._switch(self._queue[0].policy):
            return
        batch = self._batch
        if batch is None or not self._queue or self._others_wait(batch.policy.version):
            return
        scored: list[Job] = []
        ready: list[Job] = []
        left: list[Job] = []
        rest: list[Job] = []
        free = batch.most_rows - len(batch.active)
        if batch.active and free < min(len(self._queue), batch.most_rows // LUMP):
            return
        for i, job in enumerate(self._queue):
            if len(ready) + len(scored) >= free:
                rest = self._queue[i:]
                break
            if job.policy.version != batch.policy.version:
                left.append(job)
            elif not job.future.cancelled() and self._prepared(batch, job):
                (ready if job.scored is None else scored).append(job)
                left.append(job)
        ready = ready[: batch.fitting(ready)]
        self._taken = scored + ready
        taken = {id(job) for job in self._taken}
        self._queue = [job for job in left if id(job) not in taken] + rest
        batch.score(scored)
        batch.enter(ready)
        self._taken = []

    def _prepared(self, batch: Batch, job: Job) -> bool:
        """Whether a request is ready; one that cannot be served fails alone."""
        try:
            batch.prepare(job)
        except Exception as error:  # whatever is wrong with this request is its own failure
            self._outbox.append((job, None, error))
            return False
        return True

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
            self._outbox += [(job, None, error) for job in self._queue if job.policy.version == policy.version]
            self._queue = [job for job in self._queue if job.policy.version != policy.version]
            return False
        self._turn_began = time.monotonic()
        return True

    def _load(self, policy: Policy) -> Batch:
        if policy.version not in self._held:
            from selftaught.engines.local.decoder import load_decoder
            from selftaught.models.chat import ChatTokenizer
            from selftaught.models.load import read_config, reading

            started = time.perf_counter()
            self._batch = None
            self._make_way()
            dtype, device, fused = self._settings
            where = pick_device(device)
            with reading(policy.weights):
                read_config(policy.weights)  # the tokenizer's reader would complain of it as of its own
                tokenizer = ChatTokenizer(policy.weights)
            self._hold(policy, load_decoder(policy, pick_dtype(dtype, where), where, fused=fused), tokenizer)
            self.load_seconds += time.perf_counter() - started
        self._held.move_to_end(policy.version)
        return self._held[policy.version]

    def _make_way(self) -> None:
        while len(self._held) >= self._most_held:
            self._held.popitem(last=False)

    def _hold(self, policy: Policy, decoder: Decoder, tokenizer: ChatTokenizer, source: Any = None) -> None:
        from selftaught.engines.local.batch import Batch

        rows = self._most_rows or (512 if decoder.parameters < SMALL else 128)
        batch = Batch(policy, decoder, tokenizer, rows=rows, budget=self._budget, outbox=self._outbox)
        batch.source = source
        self._held[policy.version] = batch


def _no_memory(error: Exception) -> bool:
    from selftaught.models.load import of_the_machine

    return isinstance(error, MemoryError) or of_the_machine(error)
