"""The engine on top of vLLM: continuous batching and paged attention on GPUs, and on CPUs with its CPU build."""

from __future__ import annotations

import asyncio
import atexit
import math
import threading
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Mapping
from concurrent import futures
from contextlib import aclosing, asynccontextmanager, suppress
from heapq import nlargest
from textwrap import shorten
from typing import TYPE_CHECKING, Any, TypeVar

from selftaught.engines.base import EngineError, Request, RequestRefused, Sample, validate_request
from selftaught.engines.busy import BusyTimer
from selftaught.engines.loop import stop_loop_thread
from selftaught.engines.vllm.scheduler import PolicyScheduler
from selftaught.engines.vllm.server import RequiredWeights, ServerConfig, VllmServer, check_installed, required_weights
from selftaught.errors import BadInput, suggest
from selftaught.machine.device import DTYPES
from selftaught.models.policy import Policy
from selftaught.records import Prompt

if TYPE_CHECKING:
    from selftaught.engines.local.request_state import RequestState

T = TypeVar("T")

NAN_MESSAGE = "the model returned NaN logits; try --dtype float32"


class VllmEngine(BusyTimer):
    """Samples with vLLM, which runs in processes of its own; a thread here holds the line to it.

    A policy not yet held is loaded when it is asked for: a LoRA adapter is laid over the weights of its base, beside
    other adapters and the base itself; whole weights take the place of those held, without a restart where they are
    of the same shape. Adapters that vLLM does not compute (over other adapters, DoRA, ...) are merged into whole
    weights first. Weights are replaced only while no answer is under way.

    Where vLLM runs its first model runner, as on CPUs, tokens are chosen as the local engine chooses them: the same
    request gets the same tokens but for the last digits of the logits. Elsewhere vLLM chooses, by a random number of
    the seed and the position, so that there, too, an answer goes on from given tokens as if never cut off.
    `Request.top` needs the whole distribution at every token, which vLLM hands over slowly.

    Args:
        dtype: "auto" (bfloat16 where the processor multiplies it natively, else float32), or a name.
        rows: most requests decoded together.
        cache_gib: most memory for keys and values; None: 2 GiB on a CPU, on a GPU what vLLM finds free.
        adapters: most LoRA adapters held together; 0: all are merged into whole weights.
        stay: whether `release` leaves vLLM as it is, where there is memory for it beside the training.
        options: further arguments of vLLM's `AsyncEngineArgs` (`tensor_parallel_size`, `quantization`, ...), which
            come before what the engine would set.

    Raises:
        BadInput: vLLM is not installed, an unknown dtype, or a number that leaves no room for any request.
    """

    name = "vllm"

    def __init__(
        self, *, dtype: str = "auto", max_batch_size: int = 128, cache_gib: float | None = None, max_loras: int = 4,
        keep_loaded: bool = False, **engine_args: Any,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise BadInput(f"unknown dtype {dtype!r}", where="dtype", fix=suggest(dtype, DTYPES))
        if max_batch_size < 1 or max_loras < 0 or (cache_gib is not None and cache_gib <= 0):
            what = f"rows={max_batch_size}, cache_gib={cache_gib}, adapters={max_loras}"
            raise BadInput(what, where="VllmEngine", fix="use more than 0")
        check_installed()
        self._use_loras, self._keep_loaded = max_loras > 0, keep_loaded
        self.dtype = dtype
        self._server = VllmServer(ServerConfig(dtype, max_batch_size, cache_gib, max_loras, engine_args))
        self._scheduler = PolicyScheduler(self._server)
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # The thread's own:
        self._request_count = 0

    @property
    def load_seconds(self) -> float:
        """Wall-clock seconds spent loading weights."""
        return self._scheduler.load_seconds

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        validate_request(request)
        return await self._submit(lambda: self._sample(policy, request))

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """See `Engine.logprobs`."""
        return await self._submit(lambda: self._score(policy, Request(prompt), text))

    def release(self) -> None:
        """End vLLM's processes once no answer is under way; the next request starts them again. See `stay`."""
        with self._lock:
            if self._loop is None or self._closed or self._keep_loaded:
                return
            future = asyncio.run_coroutine_threadsafe(self._scheduler.unload(), self._loop)
        with suppress(futures.CancelledError):  # closed meanwhile
            future.result()

    def close(self) -> None:
        """Stop; what is under way fails with `EngineError`. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            stop_loop_thread(self._loop, thread, self._shut_down())
        atexit.unregister(self.close)

    async def _submit(self, serve: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have the engine's thread serve a request; cancelled where this is."""
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="selftaught-vllm", daemon=True)
                self._thread.start()
                atexit.register(self.close)
            future = asyncio.run_coroutine_threadsafe(self._serve(serve), self._loop)
        return await asyncio.wrap_future(future)

    # --- from here on, on the engine's thread ---

    async def _serve(self, serve: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Serve a request; a cancellation that comes of closing is told as such."""
        try:
            with self._busy():
                return await serve()
        except asyncio.CancelledError:
            if self._closed:
                raise EngineError("the engine was closed") from None
            raise

    async def _shut_down(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        self._server.stop()

    # --- serving ---

    async def _sample(self, policy: Policy, request: Request) -> Sample:
        from selftaught.engines.local.request_state import finish

        need = required_weights(policy, use_loras=self._use_loras)
        async with self._scheduler.using(need):
            job, tokenizer = self._request_state(policy, request), self._server.tokenizer
            at_once = not request.sampling.stop
            async with self._generate(need, job.prompt_ids, self._sampling_params(job), at_once=at_once) as outputs:
                async for output in outputs:
                    (part,) = output.outputs
                    for step, token in enumerate(part.token_ids):
                        _append_token(job, token, part.logprobs[step])
                        if not at_once and (sample := finish(job, tokenizer)) is not None:
                            return sample
            if at_once and job.output_ids and (sample := finish(job, tokenizer)) is not None:
                return sample
        raise EngineError("vLLM broke the answer off")

    async def _score(self, policy: Policy, request: Request, text: str) -> tuple[float, ...]:
        """The last token is one that vLLM is made to sample, the others are read as a prompt."""
        need = required_weights(policy, use_loras=self._use_loras)
        async with self._scheduler.using(need):
            job = self._request_state(policy, request, text)
            if not job.output_ids:
                return ()
            *first, last = job.output_ids
            how = {"temperature": 0.0, "max_tokens": 1, "allowed_token_ids": [last], "logprobs": 0}
            how |= {"prompt_logprobs": 0} if first else {}
            async with self._generate(need, (*job.prompt_ids, *first), how, at_once=True) as outputs:
                (output,) = [output async for output in outputs]
        named = [*(output.prompt_logprobs[len(job.prompt_ids) :] if first else ()), output.outputs[0].logprobs[0]]
        found = tuple(float(by_token[token].logprob) for token, by_token in zip(job.output_ids, named, strict=True))
        if any(math.isnan(value) for value in found):
            raise RequestRefused(NAN_MESSAGE)
        return found

    def _request_state(self, policy: Policy, request: Request, scored: str | None = None) -> RequestState:
        """A request with the tokens it goes on from; to be scored: with `tokens` those of the text.

        Raises:
            RequestRefused: it cannot be served.
            BadInput: the chat template cannot render the prompt.
        """
        from selftaught.engines.local.request_state import RequestState, prefix_token_ids

        job = RequestState(policy, request, asyncio.get_running_loop().create_future(), time.monotonic(), scored)
        job.prefix_ids = prefix_token_ids(request.prefix_tokens, self._server.tokenizer)
        job.prompt_ids = (*self._server.encode_prompt(request.prompt, request.prefix), *job.prefix_ids)
        job.output_ids = self._server.tokenizer.encode_answer(scored) if scored else []
        context, size = self._server.max_context, len(job.prompt_ids) + len(job.output_ids)
        if not job.prompt_ids:
            raise RequestRefused("the prompt is empty")
        if scored is not None and size > context:
            raise RequestRefused(f"{size} tokens to score and the model's context holds {context}")
        job.max_new_tokens = min(request.sampling.max_tokens, context - size)
        if scored is None and job.max_new_tokens < 1:
            raise RequestRefused(f"the prompt has {size} tokens and the model's context holds {context}")
        return job

    def _sampling_params(self, job: RequestState) -> dict[str, Any]:
        """The arguments of vLLM's `SamplingParams` for an answer."""
        request, own = job.request, job.request.sampling
        how: dict[str, Any] = {
            "max_tokens": job.max_new_tokens,
            "stop_token_ids": sorted(self._server.tokenizer.eos_ids),
        }
        how["logprobs"] = 0 if request.top_logprobs is None else -1
        if own.greedy:
            return how | {"temperature": 0.0}
        if not self._server.uses_token_sampler:
            seed = request.seed % 2**63
            return how | {"temperature": own.temperature, "top_p": own.top_p, "top_k": own.top_k, "seed": seed}
        choice = [own.temperature, own.top_p, own.top_k, str(request.seed), len(job.prefix_ids)]
        return how | {"temperature": 0.0, "extra_args": {"selftaught": choice}}  # greedy among what `Choice` leaves

    @asynccontextmanager
    async def _generate(
        self, need: RequiredWeights, ids: tuple[int, ...], how: dict[str, Any], *, at_once: bool
    ) -> AsyncIterator[AsyncGenerator[Any, None]]:
        """Inside, vLLM's outputs: one with all tokens, or each with those that are new. Leaving it ends the answer.

        Raises:
            RequestRefused: vLLM does not take the request.
            EngineError: vLLM has died; the next request starts it again.
        """
        from vllm.exceptions import VLLMError  # pyright: ignore[reportMissingImports]
        from vllm.sampling_params import RequestOutputKind, SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore[reportMissingImports]

        kind = RequestOutputKind.FINAL_ONLY if at_once else RequestOutputKind.DELTA
        self._request_count += 1
        llm, adapter = self._server.llm, self._server.lora_request(need)
        try:
            params = SamplingParams(**how, detokenize=False, output_kind=kind)
            outputs = llm.generate(
                {"prompt_token_ids": list(ids)}, params, str(self._request_count), lora_request=adapter
            )
            async with aclosing(outputs):
                yield outputs
        except EngineDeadError:
            if self._server.llm is llm:
                self._server.stop()
            raise EngineError("vLLM died; what it wrote to standard error says of what") from None
        except (VLLMError, ValueError) as error:
            raise RequestRefused(f"vLLM refuses it ({shorten(str(error), 200, placeholder=' ...')})") from None


def _append_token(job: RequestState, token: int, named: Mapping[int, Any]) -> None:
    """Add a token to an answer, with the log-probabilities that vLLM gives there.

    Raises:
        RequestRefused: they are no numbers.
    """
    logprob = float(named[token].logprob)
    if math.isnan(logprob):
        raise RequestRefused(NAN_MESSAGE)
    job.output_ids.append(token)
    job.logprobs.append(logprob)
    if (most := job.request.top_logprobs) is not None:
        whole = [(other, float(found.logprob)) for other, found in named.items()]
        top = tuple(nlargest(most, whole, key=lambda pair: pair[1]))
        entropy = -math.fsum(math.exp(value) * value for _, value in whole if value > -math.inf)
        job.top_logprobs.append((top, entropy))
