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

from selftaught.engines.base import (
    BaseEngine,
    Capabilities,
    EngineError,
    Request,
    RequestRefused,
    Sample,
    validate_request,
)
from selftaught.engines.busy_timer import BusyTimer
from selftaught.engines.loop_thread import LoopThread, cancel_other_tasks
from selftaught.engines.vllm.environment import check_installed
from selftaught.engines.vllm.scheduler import PolicyScheduler
from selftaught.engines.vllm.server import ServerConfig, VllmServer
from selftaught.engines.vllm.weights import RequiredWeights, required_weights
from selftaught.errors import BadInput, suggest
from selftaught.machine.device import DTYPES
from selftaught.models.policy import Policy
from selftaught.records import Prompt
from selftaught.samples import Likelihood

if TYPE_CHECKING:
    from selftaught.engines.local.request_state import RequestState

T = TypeVar("T")


class VllmEngine(BusyTimer, BaseEngine):
    """Samples with vLLM, which runs in processes of its own; a thread here communicates with it.

    A policy that is not loaded is loaded on request: a LoRA adapter is applied to the weights of its base, beside
    other adapters and the base itself; full weights replace the loaded ones, without a restart if their shapes are
    equal. Adapters that vLLM does not support (over other adapters, DoRA, ...) are merged into full weights first.
    Weights are replaced only while no request is in progress.

    With vLLM's first model runner, as on CPUs, tokens are chosen as in the local engine: the same request gets the
    same tokens, up to rounding of the logits. With its second one, vLLM samples with a random number that depends on
    seed and position, so that there, too, an answer continues given tokens as if it had not been cut off.
    `Request.top_logprobs` needs the whole distribution at every token, which vLLM transfers slowly.

    Args:
        dtype: "auto" (bfloat16 if the processor multiplies it faster, else float32), or a name.
        max_batch_size: maximum number of requests decoded together.
        cache_gib: maximum memory for keys and values, in GiB; None: 2 on a CPU, on a GPU what vLLM finds free.
        max_loras: maximum number of LoRA adapters loaded together; 0: all are merged into full weights.
        keep_loaded: whether `release` keeps vLLM running, if there is memory for it beside the training.
        engine_args: further arguments of vLLM's `AsyncEngineArgs` (`tensor_parallel_size`, `quantization`, ...),
            which override those of the engine.

    Raises:
        BadInput: vLLM is not installed, an unknown dtype, or a number that is not above 0.
    """

    name = "vllm"
    capabilities = Capabilities(
        seeds=True, prefix=True, prefix_tokens=True, top_logprobs=True, logprobs=True, trained_policies=True
    )

    def __init__(
        self, *, dtype: str = "auto", max_batch_size: int = 128, cache_gib: float | None = None, max_loras: int = 4,
        keep_loaded: bool = False, **engine_args: Any,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise BadInput(f"unknown dtype {dtype!r}", where="dtype", fix=suggest(dtype, DTYPES))
        if max_batch_size < 1 or max_loras < 0 or (cache_gib is not None and cache_gib <= 0):
            what = f"max_batch_size={max_batch_size}, cache_gib={cache_gib}, max_loras={max_loras}"
            raise BadInput(what, where="VllmEngine", fix="use numbers above 0")
        check_installed()
        self._use_loras, self._keep_loaded = max_loras > 0, keep_loaded
        self.dtype = dtype
        self._server = VllmServer(ServerConfig(dtype, max_batch_size, cache_gib, max_loras, engine_args))
        self._scheduler = PolicyScheduler(self._server)
        self._lock = threading.Lock()
        self._closed = False
        self._thread = LoopThread("selftaught-vllm")
        self._request_count = 0  # used by the thread only

    @property
    def load_seconds(self) -> float:
        """Wall-clock seconds spent loading weights."""
        return self._scheduler.load_seconds

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        validate_request(request)
        return await self._submit(lambda: self._sample(policy, request))

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """See `Engine.loglikelihood`."""
        return await self._submit(lambda: self._score(policy, Request(prompt), text))

    def release(self) -> None:
        """End vLLM's processes once no request is in progress, unless `keep_loaded`; the next request starts them."""
        with self._lock:
            if (loop := self._thread.loop) is None or self._closed or self._keep_loaded:
                return
            future = asyncio.run_coroutine_threadsafe(self._scheduler.unload(), loop)
        with suppress(futures.CancelledError):  # closed in the meantime
            future.result()

    def close(self) -> None:
        """Stop; requests in progress fail with `EngineError`. Idempotent."""
        with self._lock:
            self._closed = True
        self._thread.stop(self._shut_down())
        atexit.unregister(self.close)

    async def _submit(self, serve: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a request on the engine's thread; cancelled with this coroutine."""
        with self._lock:
            if self._closed:
                raise EngineError("the engine is closed")
            if self._thread.loop is None:
                atexit.register(self.close)
            future = asyncio.run_coroutine_threadsafe(self._serve(serve), self._thread.start())
        return await asyncio.wrap_future(future)

    # --- from here on, on the engine's thread ---

    async def _serve(self, serve: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Serve a request; a cancellation by `close` becomes an `EngineError`."""
        try:
            with self._busy():
                return await serve()
        except asyncio.CancelledError:
            if self._closed:
                raise EngineError("the engine was closed") from None
            raise

    async def _shut_down(self) -> None:
        await cancel_other_tasks()
        self._server.stop()

    async def _sample(self, policy: Policy, request: Request) -> Sample:
        from selftaught.engines.local.request_state import finish

        need = required_weights(policy, use_loras=self._use_loras)
        async with self._scheduler.using(need):
            state, tokenizer = self._request_state(policy, request), self._server.tokenizer
            at_once = not request.sampling.stop
            params = self._sampling_params(state)
            async with self._generate(need, state.prompt_ids, params, at_once=at_once) as outputs:
                async for output in outputs:
                    (part,) = output.outputs
                    for step, token in enumerate(part.token_ids):
                        _append_token(state, token, part.logprobs[step])
                        if not at_once and (sample := finish(state, tokenizer)) is not None:
                            return sample
            if at_once and state.output_ids and (sample := finish(state, tokenizer)) is not None:
                return sample
        raise EngineError("vLLM ended the answer early")

    async def _score(self, policy: Policy, request: Request, text: str) -> Likelihood:
        """Score `text`: vLLM is made to sample its last token, and reads the others as a prompt."""
        need = required_weights(policy, use_loras=self._use_loras)
        async with self._scheduler.using(need):
            state = self._request_state(policy, request, text)
            if not state.output_ids:
                return Likelihood((), len(state.prompt_ids))
            *first, last = state.output_ids
            params = {"temperature": 0.0, "max_tokens": 1, "allowed_token_ids": [last], "logprobs": 0}
            params |= {"prompt_logprobs": 0} if first else {}
            async with self._generate(need, (*state.prompt_ids, *first), params, at_once=True) as outputs:
                (output,) = [output async for output in outputs]
        read = output.prompt_logprobs[len(state.prompt_ids) :] if first else ()
        by_step = [*read, output.outputs[0].logprobs[0]]
        found = tuple(float(by_token[token].logprob) for token, by_token in zip(state.output_ids, by_step, strict=True))
        if any(math.isnan(value) for value in found):
            raise _nan_logits()
        return Likelihood(found, len(state.prompt_ids))

    def _request_state(self, policy: Policy, request: Request, score_text: str | None = None) -> RequestState:
        """A request, tokenized; see `request_state.tokenize`."""
        from selftaught.engines.local.request_state import RequestState, tokenize

        future = asyncio.get_running_loop().create_future()
        state = RequestState(policy, request, future, time.monotonic(), score_text)
        tokenize(state, self._server.tokenizer, self._server.encode_prompt, self._server.max_context)
        return state

    def _sampling_params(self, state: RequestState) -> dict[str, Any]:
        """The arguments of vLLM's `SamplingParams` for an answer."""
        request, sampling = state.request, state.request.sampling
        stop_ids = sorted(self._server.tokenizer.eos_ids)
        params: dict[str, Any] = {"max_tokens": state.max_new_tokens, "stop_token_ids": stop_ids}
        params["logprobs"] = 0 if request.top_logprobs is None else -1
        if sampling.greedy:
            return params | {"temperature": 0.0}
        own = {"temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": sampling.top_k}
        if not self._server.uses_token_sampler:
            return params | own | {"seed": request.seed % 2**63}
        choice = [*own.values(), str(request.seed), len(state.prefix_ids)]
        # Greedy among what `SeededLogitsProcessor` leaves.
        return params | {"temperature": 0.0, "extra_args": {"selftaught": choice}}

    @asynccontextmanager
    async def _generate(
        self, need: RequiredWeights, ids: tuple[int, ...], params: dict[str, Any], *, at_once: bool
    ) -> AsyncIterator[AsyncGenerator[Any, None]]:
        """vLLM's outputs: one with all tokens, or each with new ones. Leaving the context ends the answer.

        Raises:
            RequestRefused: vLLM does not accept the request.
            EngineError: vLLM has died; the next request starts it again.
        """
        from vllm.exceptions import VLLMError  # pyright: ignore[reportMissingImports]
        from vllm.sampling_params import RequestOutputKind, SamplingParams  # pyright: ignore[reportMissingImports]
        from vllm.v1.engine.exceptions import EngineDeadError  # pyright: ignore[reportMissingImports]

        kind = RequestOutputKind.FINAL_ONLY if at_once else RequestOutputKind.DELTA
        self._request_count += 1
        llm, lora, name = self._server.llm, self._server.lora_request(need), str(self._request_count)
        try:
            how = SamplingParams(**params, detokenize=False, output_kind=kind)
            outputs = llm.generate({"prompt_token_ids": list(ids)}, how, name, lora_request=lora)
            async with aclosing(outputs):
                yield outputs
        except EngineDeadError:
            if self._server.llm is llm:
                self._server.stop()
            raise EngineError("vLLM died; see its standard error") from None
        except (VLLMError, ValueError) as error:
            raise RequestRefused(f"vLLM refuses it ({shorten(str(error), 200, placeholder=' ...')})") from None


def _append_token(state: RequestState, token: int, logprobs: Mapping[int, Any]) -> None:
    """Add a token to an answer, with the log-probabilities that vLLM returns for it.

    Raises:
        RequestRefused: they are NaN.
    """
    logprob = float(logprobs[token].logprob)
    if math.isnan(logprob):
        raise _nan_logits()
    state.output_ids.append(token)
    state.logprobs.append(logprob)
    if (count := state.request.top_logprobs) is not None:
        whole = [(other, float(found.logprob)) for other, found in logprobs.items()]
        top = tuple(nlargest(count, whole, key=lambda pair: pair[1]))
        finite = [value for _, value in whole if value > -math.inf]
        entropy = -math.fsum(math.exp(value) * value for value in finite)
        certainty = -math.fsum(finite) / len(finite) - math.log(len(finite))
        state.distributions.append((top, entropy, certainty))


def _nan_logits() -> RequestRefused:
    from selftaught.engines.local.request_state import NAN_MESSAGE

    return RequestRefused(NAN_MESSAGE)
