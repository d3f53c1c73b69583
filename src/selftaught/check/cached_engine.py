"""One engine shared by the runs of a check, with a sample cache."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from selftaught.engines import Engine, HeadValues, Likelihood, Request, Sample
from selftaught.models import Policy
from selftaught.records import Prompt

SampleCache = dict[tuple[str, Request], Sample]
"""Samples by policy version and request."""


class CachedEngine:
    """A view of a shared engine for one run: closing it leaves the engine open, and repeated requests are cached.

    Engines return the same sample for the same request to the same policy, so a baseline that starts like the method
    reuses its samples. Each run's ledger still counts every sample in full.

    Args:
        engine: the shared engine; its owner closes it.
        cache: samples so far, shared by the runs.
    """

    def __init__(self, engine: Engine, cache: SampleCache) -> None:
        self._engine, self._cache, self._before = engine, cache, engine.busy_seconds
        self.name, self.dtype, self.capabilities = engine.name, engine.dtype, engine.capabilities

    @property
    def busy_seconds(self) -> float:
        """Since this run began."""
        return self._engine.busy_seconds - self._before

    @property
    def num_retries(self) -> int:
        """See `Engine`."""
        return self._engine.num_retries

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        same = replace(request, seed=0) if request.sampling.greedy else request
        key = (policy.version, same)
        if key not in self._cache:
            self._cache[key] = await self._engine.sample(policy, request)
        return self._cache[key]

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """See `Engine.loglikelihood`."""
        return await self._engine.loglikelihood(policy, prompt, text)

    async def scores(self, policy: Policy, prompt: Prompt, text: str, ends: Sequence[int]) -> HeadValues:
        """See `Engine.scores`."""
        return await self._engine.scores(policy, prompt, text, ends)

    def attach_model(self, policy: Policy, model: Any) -> None:
        """See `Engine.attach_model`."""
        self._engine.attach_model(policy, model)

    def release(self) -> None:
        """See `Engine.release`."""
        self._engine.release()

    def close(self) -> None:
        """Do nothing: other runs still use the engine."""
