"""The local engine: torch in this process, many requests in one continuously refilled batch."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from selftaught.engines.base import (
    BaseEngine,
    Capabilities,
    EngineError,
    HeadValues,
    Request,
    Sample,
    validate_request,
)
from selftaught.engines.local.loaded_policies import LoadedPolicies
from selftaught.engines.local.worker import EngineWorker
from selftaught.errors import BadInput, suggest
from selftaught.machine.device import DTYPES
from selftaught.models.policy import Policy
from selftaught.records import Prompt
from selftaught.samples import Likelihood


class LocalEngine(BaseEngine):
    """Samples with torch in this process; a worker thread owns the weights and the batch.

    Every step decodes one token for all active requests (continuous batching); a finished request is replaced at
    once. Prefixes that several requests share are computed and stored once: a prompt, a common system message, a
    partial answer, the turns of a dialogue. A policy that is not loaded is loaded on request; the batch serves one
    policy at a time.

    Args:
        dtype: "auto" (bfloat16 if the processor multiplies it faster, else float32), or a name.
        device: "auto" (CUDA if there is a GPU), "cpu", "cuda", ...
        max_batch_size: maximum number of requests decoded together; by default 128, and 512 for models so small
            that matrix products cost little.
        cache_gib: maximum memory for keys and values, in GiB; fewer requests are decoded together to stay within
            it, but at least one.
        fused: use the fused forward pass for architectures that have one.
        max_policies: how many policies stay loaded.
        batch_invariant: what is sampled for a request does not depend on what is sampled beside it, to the last bit, in
            float32; see `batch_invariance`. A policy whose model does not allow it here is refused.

    Raises:
        BadInput: an unknown dtype, one that excludes `batch_invariant`, or a number that is not above 0.
    """

    name = "local"
    capabilities = Capabilities(
        seeds=True, prefix=True, prefix_tokens=True, top_logprobs=True, logprobs=True, scores=True,
        trained_policies=True, live_models=True,
    )  # fmt: skip

    def __init__(
        self, *, dtype: str = "auto", device: str = "auto", max_batch_size: int | None = None, cache_gib: float = 2.0,
        fused: bool = True, max_policies: int = 1, batch_invariant: bool = False,
    ) -> None:  # fmt: skip
        if dtype not in DTYPES:
            raise BadInput(f"unknown dtype {dtype!r}", where="dtype", fix=suggest(dtype, DTYPES))
        if (max_batch_size is not None and max_batch_size < 1) or max_policies < 1 or cache_gib <= 0:
            what = f"max_batch_size={max_batch_size}, max_policies={max_policies}, cache_gib={cache_gib}"
            raise BadInput(what, where="LocalEngine", fix="use numbers above 0")
        if batch_invariant and dtype not in ("auto", "float32"):
            what = f"{dtype} sums in an order that depends on what is sampled together"
            raise BadInput(what, where="--deterministic", fix="use --dtype float32")
        dtype = "float32" if batch_invariant else dtype
        self.dtype = f"{dtype}, batch-invariant" if batch_invariant else dtype
        self._policies = LoadedPolicies(
            dtype, device, fused=fused, max_batch_size=max_batch_size, cache_bytes=int(cache_gib * 2**30),
            max_policies=max_policies, batch_invariant=batch_invariant,
        )  # fmt: skip
        self._worker = EngineWorker(self._policies)

    @property
    def busy_seconds(self) -> float:
        """See `Engine`."""
        return self._worker.busy_seconds

    @property
    def load_seconds(self) -> float:
        """Wall-clock seconds spent loading weights."""
        return self._policies.load_seconds

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        validate_request(request)
        return await self._submit(policy, request)

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """See `Engine.loglikelihood`."""
        return await self._submit(policy, Request(prompt), score_text=text)

    async def scores(self, policy: Policy, prompt: Prompt, text: str, ends: Sequence[int]) -> HeadValues:
        """See `Engine.scores`; texts are read in batches, without the product with the output layer."""
        if not ends:
            return HeadValues((), 0)
        return await self._submit(policy, Request(prompt), score_text=text, read_ends=tuple(ends))

    async def _submit(
        self, policy: Policy, request: Request, score_text: str | None = None, read_ends: tuple[int, ...] = ()
    ) -> Any:
        from selftaught.engines.local.request_state import RequestState

        future = asyncio.get_running_loop().create_future()
        self._worker.submit(RequestState(policy, request, future, time.monotonic(), score_text, read_ends))
        return await future

    def attach_model(self, policy: Policy, model: Any) -> None:
        """Serve `policy` from the tensors of `model`, without a copy, once no request is in progress.

        For training and sampling in one process: after each training step, attach the model again under the new
        policy's version. The version it was attached as before is dropped, since its weights no longer exist.

        Args:
            policy: the version of the current weights; its folder needs only `config.json` and the tokenizer.
            model: a `transformers` model, sampled in its own dtype; it is left in evaluation mode.

        Raises:
            EngineError: the engine is closed.
            ValueError: the architecture computes something else through the engine than on its own.
        """

        def attach() -> None:
            self._worker.drop_batch()
            self._policies.attach(policy, model)

        self._worker.run_between_steps(attach)

    def release(self) -> None:
        """Free weights, caches and prefixes once no request is in progress; the next request loads again."""
        if self._worker.running:
            with suppress(EngineError):  # closed in the meantime
                self._worker.run_between_steps(self._worker.unload_all)

    def close(self) -> None:
        """Stop the worker; waiting requests fail with `EngineError`. Idempotent."""
        self._worker.close()
