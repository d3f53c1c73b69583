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

from selftaught.engines.base import EngineError, Request, Sample, validate_request
from selftaught.errors import BadInput, suggest
from selftaught.machine.device import DTYPES, pick_device, pick_dtype
from selftaught.machine.threads import release_threads
from selftaught.models.policy import Policy
from selftaught.records import Prompt

if TYPE_CHECKING:
    from selftaught.engines.local.batch import ContinuousBatch
    from selftaught.engines.local.decoder import Decoder
    from selftaught.engines.local.request_state import RequestOutput, RequestState
    from selftaught.models.chat import ChatTokenizer

SMALL_MODEL = 10_000_000  # parameters
ADMIT_CHUNK = 8  # a full batch lets requests in once one row in so many is free: their prompts are read together then
MAX_POLICY_WAIT = 30.0  # seconds a policy is served while requests for another one wait


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
        self, *, dtype: str = "auto", device: str = "auto", max_batch_size: int | None = None, cache_gib: float = 2.0,
        fused: bool = True, max_policies: int = 1,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise BadInput(f"unknown dtype {dtype!r}", where="dtype", fix=suggest(dtype, DTYPES))
        if (max_batch_size is not None and max_batch_size < 1) or max_policies < 1 or cache_gib <= 0:
            raise BadInput(
                f"rows={max_batch_size}, held={max_policies}, cache_gib={cache_gib}",
                where="LocalEngine",
                fix="use more than 0",
            )
        self.busy_seconds = 0.0
        self.load_seconds = 0.0
        self.dtype = dtype
        self._settings = (dtype, device, fused)
        self._max_batch_size, self._cache_bytes, self._max_policies = (
            max_batch_size,
            int(cache_gib * 2**30),
            max_policies,
        )
        self._inbox: list[RequestState] = []
        self._between_steps: list[tuple[Callable[[], None], Future[None]]] = []  # for when no answer is under way
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        # The worker's own:
        self._queue: list[RequestState] = []
        self._admitting: list[RequestState] = []
        self._outbox: list[RequestOutput] = []
        self._batches: OrderedDict[str, ContinuousBatch] = OrderedDict()
        self._batch: ContinuousBatch | None = None
        self._policy_since = 0.0

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        validate_request(request)
        return await self._submit(policy, request)

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """See `Engine.logprobs`."""
        return await self._submit(policy, Request(prompt), scored=text)

    def release(self) -> None:
        """Drop weights, caches and prefixes, once no answer is under way; the next request loads again."""
        with self._wake:
            if self._thread is None or self._closed:
                return
        with suppress(EngineError):  # closed meanwhile
            self._run_between_steps(self._unload_all)

    def attach_model(self, policy: Policy, model: Any) -> None:
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
            for version in [v for v, batch in self._batches.items() if batch.live_model is model]:
                del self._batches[version]
            self._evict_policies()
            self._add_policy(policy, live_decoder(model), ChatTokenizer(policy.weights), model)

        self._run_between_steps(take_over)

    def _run_between_steps(self, what: Callable[[], None]) -> None:
        """Have the worker do something between answers, and wait for it."""
        done: Future[None] = Future()
        with self._wake:
            self._start()
            self._between_steps.append((what, done))
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

    async def _submit(self, policy: Policy, request: Request, scored: str | None = None) -> Any:
        from selftaught.engines.local.request_state import RequestState

        job = RequestState(policy, request, asyncio.get_running_loop().create_future(), time.monotonic(), scored)
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
                    self._step()
                except Exception as error:  # our own defect, or out of memory: nobody hangs
                    self._recover(error)
                self._deliver()
                self.busy_seconds += time.perf_counter() - started
        closed = EngineError("the engine was closed")
        self._recover(closed)
        self._outbox += [(job, None, closed) for job in self._queue]
        self._queue.clear()
        self._deliver()
        self._unload_all()
        for _, done in self._between_steps:
            done.set_exception(closed)

    def _deliver(self) -> None:
        if self._outbox:
            from selftaught.engines.local.request_state import deliver_outputs

            deliver_outputs(self._outbox)
            self._outbox.clear()

    def _has_work(self) -> bool:
        """Wait for something to do; False once the engine is closed."""
        with self._wake:
            while not (self._inbox or self._queue or self._between_steps or self._active or self._closed):
                release_threads()
                self._wake.wait()
            self._queue += self._inbox
            self._inbox.clear()
            return not self._closed

    @property
    def _active(self) -> list[RequestState]:
        return self._batch.active if self._batch else []

    def _step(self) -> None:
        """Let requests in, and decode one token for each that is."""
        if not self._between_steps:
            self._admit()
        elif not self._active:
            self._run_pending_calls()
        if self._batch and self._batch.active:
            self._batch.step()

    def _recover(self, error: Exception) -> None:
        """Drop the batch's memory, which may be half written; its requests start anew in a smaller batch, or fail.

        They start anew where the machine ran out of memory and there was more than one: as each is decided by its
        seed, nothing changes but the time it takes.
        """
        jobs = list({id(job): job for job in [*self._active, *self._admitting]}.values())
        self._admitting = []
        batch = self._batch
        if batch:
            batch.active.clear()
            batch.free_cache()
        if batch and len(jobs) > 1 and _is_out_of_memory(error):
            batch.max_batch_size = len(jobs) // 2
            self._queue = [job.restarted() for job in jobs] + self._queue
        else:
            self._outbox += [(job, None, error) for job in jobs]

    def _run_pending_calls(self) -> None:
        with self._wake:
            errands, self._between_steps = self._between_steps, []
        for what, done in errands:
            try:
                what()
                done.set_result(None)
            except Exception as error:  # for whoever asked
                done.set_exception(error)

    def _unload_all(self) -> None:
        self._batches.clear()
        self._batch = None

    def _admit(self) -> None:
        """Take requests for the policy being served from the queue, as many as there is room for."""
        if not self._active and self._queue and not self._switch_policy(self._queue[0].policy):
            return
        batch = self._batch
        if batch is None or not self._queue or self._must_drain(batch.policy.version):
            return
        scored: list[RequestState] = []
        ready: list[RequestState] = []
        left: list[RequestState] = []
        rest: list[RequestState] = []
        free = batch.max_batch_size - len(batch.active)
        if batch.active and free < min(len(self._queue), batch.max_batch_size // ADMIT_CHUNK):
            return
        for i, job in enumerate(self._queue):
            if len(ready) + len(scored) >= free:
                rest = self._queue[i:]
                break
            if job.policy.version != batch.policy.version:
                left.append(job)
            elif not job.future.cancelled() and self._tokenized(batch, job):
                (ready if job.score_text is None else scored).append(job)
                left.append(job)
        ready = ready[: batch.admit_count(ready)]
        self._admitting = scored + ready
        taken = {id(job) for job in self._admitting}
        self._queue = [job for job in left if id(job) not in taken] + rest
        batch.score(scored)
        batch.admit(ready)
        self._admitting = []

    def _tokenized(self, batch: ContinuousBatch, job: RequestState) -> bool:
        """Whether a request is ready; one that cannot be served fails alone."""
        try:
            batch.tokenize(job)
        except Exception as error:  # whatever is wrong with this request is its own failure
            self._outbox.append((job, None, error))
            return False
        return True

    def _must_drain(self, version: str) -> bool:
        """Whether requests for another policy have waited so long that the batch must empty for them."""
        if not self._active or time.monotonic() - self._policy_since < MAX_POLICY_WAIT:
            return False
        since = next((job.arrival_time for job in self._queue if job.policy.version != version), None)
        return since is not None and time.monotonic() - since > MAX_POLICY_WAIT

    def _switch_policy(self, policy: Policy) -> bool:
        """Serve `policy` from now on; where it cannot be loaded, all that wait for it fail."""
        if self._batch and self._batch.policy.version != policy.version:
            self._batch.free_cache()
        try:
            self._batch = self._load(policy)
        except Exception as error:  # of many kinds; each means that these weights are not to be had
            self._batch = None
            self._outbox += [(job, None, error) for job in self._queue if job.policy.version == policy.version]
            self._queue = [job for job in self._queue if job.policy.version != policy.version]
            return False
        self._policy_since = time.monotonic()
        return True

    def _load(self, policy: Policy) -> ContinuousBatch:
        if policy.version not in self._batches:
            from selftaught.engines.local.decoder import load_decoder
            from selftaught.models.chat import ChatTokenizer
            from selftaught.models.load import load_errors, read_config

            started = time.perf_counter()
            self._batch = None
            self._evict_policies()
            dtype, device, fused = self._settings
            where = pick_device(device)
            with load_errors(policy.weights):
                read_config(policy.weights)  # the tokenizer's reader would complain of it as of its own
                tokenizer = ChatTokenizer(policy.weights)
            self._add_policy(policy, load_decoder(policy, pick_dtype(dtype, where), where, fused=fused), tokenizer)
            self.load_seconds += time.perf_counter() - started
        self._batches.move_to_end(policy.version)
        return self._batches[policy.version]

    def _evict_policies(self) -> None:
        while len(self._batches) >= self._max_policies:
            self._batches.popitem(last=False)

    def _add_policy(self, policy: Policy, decoder: Decoder, tokenizer: ChatTokenizer, source: Any = None) -> None:
        from selftaught.engines.local.batch import ContinuousBatch

        rows = self._max_batch_size or (512 if decoder.parameters < SMALL_MODEL else 128)
        batch = ContinuousBatch(
            policy, decoder, tokenizer, max_batch_size=rows, cache_bytes=self._cache_bytes, outbox=self._outbox
        )
        batch.live_model = source
        self._batches[policy.version] = batch


def _is_out_of_memory(error: Exception) -> bool:
    from selftaught.models.load import is_machine_error

    return isinstance(error, MemoryError) or is_machine_error(error)
