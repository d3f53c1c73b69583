"""One engine shared by the runs of a check, with a sample cache."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

from selftaught.check.sample_store import SampleStore
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
        store: keeps samples for other checks.
        kept: versions of the policies whose samples it keeps: those that other checks sample too.
    """

    def __init__(
        self, engine: Engine, cache: SampleCache, store: SampleStore | None = None, kept: Collection[str] = ()
    ) -> None:
        self._engine, self._cache, self._before = engine, cache, engine.busy_seconds
        self._store, self._kept = store, frozenset(kept if store else ())
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
            self._cache[key] = await self._sample(policy, request, same)
        return self._cache[key]

    async def _sample(self, policy: Policy, request: Request, same: Request) -> Sample:
        """From the store, or the engine; `same` is the request as it is known there."""
        store = self._store if policy.version in self._kept else None
        if store and (found := store.get(policy.version, same)):
            return found
        sample = await self._engine.sample(policy, request)
        if store:
            store.put(policy.version, same, sample)
        return sample

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
