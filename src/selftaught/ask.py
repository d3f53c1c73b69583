"""`ask`: what a solver asks the policy with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

from selftaught.engines.base import Sampling
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Problem, Prompt, as_prompt, content_hash

Sampler = Callable[["Question"], Awaitable[Attempt]]


class Question:
    """One request on its way to the journal: everything its content key is made of."""

    __slots__ = ("occurrence", "parent", "policy", "prefix", "problem", "prompt", "role", "sampling")

    def __init__(
        self, policy: Policy, problem: Problem, prompt: Prompt, sampling: Sampling, role: str, parent: Attempt | None,
        prefix: str, occurrence: str,
    ) -> None:  # fmt: skip
        self.policy, self.problem, self.prompt, self.sampling = policy, problem, prompt, sampling
        self.role, self.parent, self.prefix, self.occurrence = role, parent, prefix, occurrence

    def key(self, seed: int) -> str:
        """Content key of the effect: policy, prompt, sampling parameters, seed, occurrence."""
        content = (self.prompt, self.sampling, self.prefix, self.role, self.parent and self.parent.id)
        return content_hash("sample", self.policy.version, self.problem.id, content, seed, self.occurrence)


class Ask:
    """Asks one policy on behalf of one solving of one problem.

    The same question asked again is a new sample; its place among the equal questions of this solving
    is part of its key, so that a rerun finds it whatever else ran beside it.

    Attributes:
        tokens: sampled so far in this solving.
    """

    def __init__(self, sampler: Sampler, policy: Policy, problem: Problem, sampling: Sampling, name: str) -> None:
        self._sampler, self._policy, self._problem, self._sampling = sampler, policy, problem, sampling
        self._name = name
        self._asked: Counter[str] = Counter()
        self.tokens = 0

    async def __call__(
        self, prompt: Any, *, role: str = "solve", parent: Attempt | None = None, prefix: str = "", **sampling: Any
    ) -> Attempt:
        """One answer to `prompt` (messages, or the text of a user message).

        Args:
            role: "solve" and "revise" count as generated tokens on the ledger, "critique" and "judge" as judge tokens.
            parent: the attempt this one builds on.
            prefix: text the answer is made to begin with.
            sampling: fields of `Sampling` to change for this question.
        """
        messages, how = as_prompt(prompt), replace(self._sampling, **sampling)
        same = content_hash(messages, how, role, prefix, parent and parent.id)
        occurrence = f"{self._name}#{self._asked[same]}"
        self._asked[same] += 1
        question = Question(self._policy, self._problem, messages, how, role, parent, prefix, occurrence)
        attempt = await self._sampler(question)
        self.tokens += len(attempt.token_ids)
        return attempt

    async def many(self, prompt: Any, n: int, **how: Any) -> list[Attempt]:
        """`n` independent answers to `prompt`, sampled together."""
        return list(await asyncio.gather(*(self(prompt, **how) for _ in range(n))))
