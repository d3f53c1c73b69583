"""The local engine: torch in this process, many requests in one continuously refilled batch."""

from __future__ import annotations

import asyncio
import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from selftaught.engines.base import EngineError, Request, RequestRefused, Sample, cut_at_stop
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy
from selftaught.records import Prompt

if TYPE_CHECKING:
    from torch import Tensor

    from selftaught.engines.decoder import Decoder
    from selftaught.engines.rows import Rows

PREFILL_TOKENS = 2048  # most padded prompt tokens in one forward pass
PREFIXES = 64  # prompts whose keys and values are kept for the next request that has them


@dataclass(slots=True)
class _Job:
    """A request on its way through the engine; while it decodes it owns the cache row of its index."""

    policy: Policy
    request: Request
    future: Future[Sample]
    ids: list[int] = field(default_factory=list)
    tokens: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    uniforms: Iterator[float] = iter(())
    room: int = 0

    @property
    def position(self) -> int:
        """Where the newest token goes in the cache row."""
        return len(self.ids) + len(self.tokens) - 1


def _uniforms(seed: int) -> Iterator[float]:
    stream = np.random.Generator(np.random.Philox(key=seed))
    while True:
        yield from stream.random(64).tolist()


class LocalEngine:
    """Samples with torch in this process; a worker thread owns the weights and the batch.

    Every step decodes one token for all rows; a finished row is replaced at once by the next request.
    A prompt shared by several requests is computed once. A policy not yet held is loaded; the batch
    serves one policy at a time.

    Args:
        dtype: "auto" (bfloat16 where the processor multiplies it natively, else float32), or a name.
        device: "auto" (CUDA where there is one), "cpu", "cuda", ...
        rows: most requests decoded together.
        cache_gib: most memory for keys and values; fewer rows are used rather than more memory.
        fused: use the fused pass where the architecture has one.
        held: how many policies' weights stay loaded.
    """

    name = "local"

    def __init__(
        self, *, dtype: str = "auto", device: str = "auto", rows: int = 128, cache_gib: float = 2.0,
        fused: bool = True, held: int = 1,
    ) -> None:  # fmt: skip
        self.busy_seconds = 0.0
        self.load_seconds = 0.0
        self._settings = (dtype, device, fused)
        self._most_rows, self._cache_bytes, self._held = rows, int(cache_gib * 2**30), held
        self._queue: deque[_Job] = deque()
        self._calls: deque[Callable[[], None]] = deque()
        self._wake = threading.Condition()
        self._closed = False
        self._thread: threading.Thread | None = None
        self._models: OrderedDict[str, tuple[Decoder, ChatTokenizer]] = OrderedDict()
        self._prefixes: OrderedDict[tuple[str, tuple[int, ...]], tuple[Rows, Tensor]] = OrderedDict()
        self._policy: Policy | None = None
        self._active: list[_Job] = []
        self._cache: Rows | None = None

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        if request.sampling.max_tokens < 1:
            raise RequestRefused(f"max_tokens is {request.sampling.max_tokens}, expected at least 1")
        job = _Job(policy, request, Future())
        self._submit(lambda: self._queue.append(job))
        return await asyncio.wrap_future(job.future)

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """See `Engine.logprobs`."""
        return await self._call(lambda: self._score(policy, prompt, text))

    def release(self) -> None:
        """Drop weights, caches and prefixes; the next request loads again."""
        if self._thread is None or self._closed:
            return
        done: Future[None] = Future()
        self._submit(lambda: self._calls.append(lambda: done.set_result(self._forget())))
        done.result()

    def close(self) -> None:
        """Stop the worker; requests still waiting fail with `EngineError`."""
        with self._wake:
            self._closed = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()

    async def _call(self, action: Callable[[], Any]) -> Any:
        """Run `action` on the worker thread, between two decoding steps."""
        future: Future[Any] = Future()

        def run() -> None:
            try:
                future.set_result(action())
            except Exception as error:  # handed to the caller, who raises it
                future.set_exception(error)

        self._submit(lambda: self._calls.append(run))
        return await asyncio.wrap_future(future)

    def _submit(self, put: Callable[[], None]) -> None:
        with self._wake:
            if self._closed:
                raise EngineError("the engine is closed")
            put()
            if self._thread is None:
                self._thread = threading.Thread(target=self._work, name="selftaught-engine", daemon=True)
                self._thread.start()
            self._wake.notify()

    # --- from here on, on the worker thread ---

    def _work(self) -> None:
        import torch

        with torch.inference_mode():
            while True:
                with self._wake:
                    while not (self._queue or self._calls or self._active or self._closed):
                        self._wake.wait()
                    calls, self._calls = self._calls, deque()
                    if self._closed:
                        break
                started = time.perf_counter()
                for call in calls:
                    call()
                try:
                    self._admit()
                    if self._active:
                        self._step()
                except Exception as error:  # our own defect: every waiter learns of it, nobody hangs
                    self._fail_all(error)
                self.busy_seconds += time.perf_counter() - started
        self._fail_all(EngineError("the engine was closed"))
        self._forget()

    def _fail_all(self, error: Exception) -> None:
        for job in [*self._active, *self._queue]:
            _settle(job, error=error)
        self._active.clear()
        self._queue.clear()

    def _forget(self) -> None:
        self._models.clear()
        self._prefixes.clear()
        self._cache = None
        self._policy = None if not self._active else self._policy

    def _model(self, policy: Policy) -> tuple[Decoder, ChatTokenizer]:
        if policy.version not in self._models:
            from selftaught.engines.decoder import load_decoder

            started = time.perf_counter()
            while len(self._models) >= self._held:
                self._models.popitem(last=False)
            dtype, device, fused = self._settings
            where = pick_device(device)
            decoder = load_decoder(policy, pick_dtype(dtype, where), where, fused=fused)
            self._models[policy.version] = (decoder, ChatTokenizer(policy.weights))
            self.load_seconds += time.perf_counter() - started
        self._models.move_to_end(policy.version)
        return self._models[policy.version]

    def _admit(self) -> None:
        """Fill free rows from the queue with requests for the policy being served."""
        if not self._active and self._queue:
            self._policy = self._queue[0].policy
        elif self._policy is None:
            return
        new: list[_Job] = []
        waiting: deque[_Job] = deque()
        while self._queue and len(self._active) + len(new) < self._most_rows:
            job = self._queue.popleft()
            if self._policy is None or job.policy.version != self._policy.version:
                waiting.append(job)
            elif job.future.cancelled() or not self._prepare(job):
                continue
            elif not self._affordable([*self._active, *new, job]):
                waiting.append(job)
                break
            else:
                new.append(job)
        self._queue.extendleft(reversed(waiting))
        if new:
            self._prefill(new)

    def _prepare(self, job: _Job) -> bool:
        """Tokenise a request; one that cannot be served fails alone."""
        try:
            decoder, tokenizer = self._model(job.policy)
            job.ids = tokenizer.encode_prompt(job.request.prompt, job.request.prefix)
            if not job.ids:
                raise RequestRefused("the prompt is empty")
            job.room = min(job.request.sampling.max_tokens, decoder.max_context - len(job.ids))
            if job.room < 1:
                raise RequestRefused(f"the prompt has {len(job.ids)} tokens; the context holds {decoder.max_context}")
        except Exception as error:  # whatever is wrong with this request or its policy is its own failure
            _settle(job, error=error)
            return False
        job.uniforms = _uniforms(job.request.seed)
        return True

    def _affordable(self, jobs: list[_Job]) -> bool:
        """Whether the cache stays within its budget if all these run to their limits; one always does."""
        if self._cache is None:
            self._cache = self._model(jobs[-1].policy)[0].rows()
        longest = max(len(job.ids) + job.room for job in jobs)
        return len(jobs) == 1 or len(jobs) * longest * self._cache.bytes_per_token <= self._cache_bytes

    def _prefill(self, new: list[_Job]) -> None:
        """Compute the prompts not yet known, give each new request a row, and choose its first token."""
        import torch

        decoder, _ = self._model(new[0].policy)
        keys = {job.policy.version + repr(job.ids): (job.policy.version, tuple(job.ids)) for job in new}
        unknown = sorted((k for k in keys.values() if k not in self._prefixes), key=lambda k: len(k[1]))
        found = {k: self._prefixes[k] for k in keys.values() if k in self._prefixes}
        while unknown:
            count = max(1, min(len(unknown), PREFILL_TOKENS // len(unknown[-1][1])))
            chunk, unknown = unknown[-count:], unknown[:-count]
            found.update(zip(chunk, _prompts(decoder, [list(k[1]) for k in chunk]), strict=True))
        assert self._cache is not None
        self._grow(len(self._active) + len(new), max(len(job.ids) for job in new) + 1)
        logits = []
        for job in new:
            rows, last = found[(job.policy.version, tuple(job.ids))]
            self._cache.copy_row(rows, 0, len(self._active), len(job.ids))
            self._active.append(job)
            logits.append(last)
        self._prefixes.update(found)
        while len(self._prefixes) > PREFIXES:
            self._prefixes.popitem(last=False)
        self._accept(torch.stack(logits), new)

    def _grow(self, rows: int, tokens: int) -> None:
        assert self._cache is not None
        have_rows, _, have_tokens, _ = self._cache.keys[0].shape
        if rows > have_rows or tokens > have_tokens:  # by some more than needed: growing copies
            self._cache.reserve(max(rows, have_rows), -(-max(tokens, have_tokens) // 64) * 64)

    def _step(self) -> None:
        """Decode one token for every active row."""
        import torch

        assert self._policy is not None
        assert self._cache is not None
        for row in reversed([i for i, job in enumerate(self._active) if job.future.cancelled()]):
            self._retire(row)
        if not self._active:
            return
        decoder, _ = self._model(self._policy)
        ids = torch.tensor([[job.tokens[-1]] for job in self._active], device=decoder.device)
        positions = torch.tensor([[job.position] for job in self._active], device=decoder.device)
        length = max(job.position for job in self._active) + 1
        self._grow(len(self._active), length)
        first = torch.zeros(len(self._active), dtype=torch.long, device=decoder.device)
        self._accept(decoder.forward(ids, positions, self._cache, length, first), list(self._active))

    def _accept(self, logits: Tensor, jobs: list[_Job]) -> None:
        """Choose a token for each of `jobs`, and settle those that are done."""
        from selftaught.engines.choose import choose

        settings = [job.request.sampling for job in jobs]
        tokens, logprobs = choose(logits, settings, [next(job.uniforms) for job in jobs])
        for job, token, logprob in zip(jobs, tokens.tolist(), logprobs.tolist(), strict=True):
            job.tokens.append(token)
            job.logprobs.append(logprob)
            if logprob != logprob:
                _settle(job, error=RequestRefused("the model returned NaN logits; try --dtype float32"))
            elif (sample := self._finished(job)) is not None:
                _settle(job, sample)
        for row in reversed([i for i, job in enumerate(self._active) if job.future.done()]):
            self._retire(row)

    def _finished(self, job: _Job) -> Sample | None:
        assert self._policy is not None
        _, tokenizer = self._model(self._policy)
        ended = job.tokens[-1] in tokenizer.eos_ids
        text, stopped = None, None
        if job.request.sampling.stop:
            text = tokenizer.decode(job.tokens)
            stopped = cut_at_stop(text, job.request.sampling.stop)
        if not ended and stopped is None and len(job.tokens) < job.room:
            return None
        if stopped is None:
            stopped = tokenizer.decode(job.tokens[:-1] if ended else job.tokens) if text is None else text
            reason = "stop" if ended else "length"
        else:
            reason = "stop"
        return Sample(stopped, tuple(job.tokens), tuple(job.logprobs), reason, len(job.ids), job.policy.version)

    def _retire(self, row: int) -> None:
        """Free a row: the last row moves into its place, so that the active rows stay the first ones."""
        assert self._cache is not None
        last = self._active.pop()
        if row < len(self._active):
            self._cache.copy_row(self._cache, len(self._active), row, last.position + 1)
            self._active[row] = last

    def _score(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        import torch

        decoder, tokenizer = self._model(policy)
        before, after = tokenizer.encode_prompt(prompt), tokenizer.encode(text)
        ids = before + after
        if not before or len(ids) > decoder.max_context:
            raise RequestRefused(f"{len(ids)} tokens to score; expected a prompt and at most {decoder.max_context}")
        logits = _forward(decoder, [ids], None)[1][0, len(before) - 1 : -1]
        wanted = torch.tensor(after, device=logits.device)[:, None]
        return tuple(torch.log_softmax(logits, -1).gather(1, wanted)[:, 0].tolist())


def _settle(job: _Job, sample: Sample | None = None, error: Exception | None = None) -> None:
    if job.future.cancelled():
        return
    if error is not None:
        job.future.set_exception(error)
    elif sample is not None:
        job.future.set_result(sample)


def _forward(decoder: Decoder, prompts: list[list[int]], last: Tensor | None) -> tuple[Rows, Tensor]:
    """Whole prompts in one pass over a fresh cache, padded on the right, where causal rows never look."""
    import torch

    longest = max(len(ids) for ids in prompts)
    padded = torch.tensor([ids + ids[-1:] * (longest - len(ids)) for ids in prompts], device=decoder.device)
    positions = torch.arange(longest, device=decoder.device).expand(len(prompts), -1)
    rows = decoder.rows()
    rows.reserve(len(prompts), longest)
    return rows, decoder.forward(padded, positions, rows, longest, last)


def _prompts(decoder: Decoder, prompts: list[list[int]]) -> list[tuple[Rows, Tensor]]:
    """Cache rows and last logits of each prompt, each in memory of its own."""
    import torch

    last = torch.tensor([len(ids) - 1 for ids in prompts], device=decoder.device)
    rows, logits = _forward(decoder, prompts, last)
    found = []
    for i, ids in enumerate(prompts):
        own = decoder.rows()
        own.reserve(1, len(ids))
        own.copy_row(rows, i, 0, len(ids))
        found.append((own, logits[i].clone()))
    return found


def pick_device(name: str) -> str:
    """"auto" as CUDA where there is one, else the CPU."""
    import torch

    return ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name


def pick_dtype(name: str, device: str) -> Any:
    """"auto" as bfloat16 where the device multiplies it natively, else float32; or the dtype of that name."""
    import torch

    if name != "auto":
        return getattr(torch, name)
    native = device != "cpu" or torch.backends.cpu.get_cpu_capability() == "AVX512" and _bf16_instructions()
    return torch.bfloat16 if native else torch.float32


def _bf16_instructions() -> bool:
    import torch

    return bool(torch.cpu._is_avx512_bf16_supported())  # pyright: ignore[reportPrivateUsage, reportAttributeAccessIssue]
