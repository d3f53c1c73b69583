"""One engine for the many runs of a check."""

from __future__ import annotations

from dataclasses import replace

from selftaught.engines import Engine, Request, Sample
from selftaught.models import Policy
from selftaught.records import Prompt

SampleCache = dict[tuple[str, Request], Sample]
"""Answers so far, by policy version and request."""


class CachedEngine:
    """An engine as one run of several sees it: closing it leaves it open, and what it said before it says again.

    The same request to the same policy has the same answer by the engine's own promise, so a baseline that begins
    as the method did need not wait for it; on each run's ledger every answer counts in full.

    Args:
        engine: closed by its owner.
        said: answers so far, shared between the runs.
    """

    def __init__(self, engine: Engine, cache: SampleCache) -> None:
        self._engine, self._said, self._before = engine, cache, engine.busy_seconds
        self.name = engine.name
        if adopt := getattr(engine, "attach_model", None):
            self.attach_model = adopt  # only engines have it that can sample from weights in training

    @property
    def busy_seconds(self) -> float:
        """Since this run began."""
        return self._engine.busy_seconds - self._before

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`."""
        same = replace(request, seed=0) if request.sampling.greedy else request
        key = (policy.version, same)
        if key not in self._said:
            self._said[key] = await self._engine.sample(policy, request)
        return self._said[key]

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """See `Engine.logprobs`."""
        return await self._engine.logprobs(policy, prompt, text)

    def release(self) -> None:
        """See `Engine.release`."""
        self._engine.release()

    def close(self) -> None:
        """Nothing: other runs go on with the engine."""
