"""`ask`: what a solver asks the policy with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from selftaught.engines.base import Sampling
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Problem, Prompt, as_prompt, content_hash
from selftaught.settings import changed

if TYPE_CHECKING:
    from selftaught.tasks import Task

Sampler = Callable[["Question"], Awaitable[Attempt]]


@dataclass(frozen=True, slots=True)
class Question:
    """One request on its way to the journal.

    Attributes:
        content: hash of everything the engine and the reader of the answer are told: prompt, sampling, prefix,
            role, parent.
        occurrence: which solving asks, and the question's place among the equal ones of that solving.
    """

    policy: Policy
    problem: Problem
    prompt: Prompt
    sampling: Sampling
    role: str
    parent: Attempt | None
    prefix: str
    content: str
    occurrence: str

    def key(self, seed: int) -> str:
        """Content key of the effect: policy, problem, what is asked and how, seed, occurrence."""
        return content_hash("sample", self.policy.version, self.problem.id, self.content, seed, self.occurrence)


class Ask:
    """Asks one policy on behalf of one solving of one problem.

    The same question asked again is a new sample; its place among the equal questions of this solving
    is part of its key, so that a rerun finds it whatever else ran beside it.

    Attributes:
        tokens: sampled so far in this solving.
        turn: see `Task.turn`.
    """

    def __init__(
        self, sampler: Sampler, policy: Policy, problem: Problem, sampling: Sampling, name: str, task: Task
    ) -> None:
        self._sampler, self._policy, self._problem, self._sampling = sampler, policy, problem, sampling
        self._name = name
        self.turn = task.turn
        self._asked: Counter[str] = Counter()
        self.tokens = 0

    async def __call__(
        self, prompt: Any, *, role: str = "solve", parent: Attempt | None = None, prefix: str = "",
        policy: Policy | None = None, **sampling: Any,
    ) -> Attempt:  # fmt: skip
        """One answer to `prompt` (messages, or the text of a user message).

        Args:
            role: "solve" and "revise" count as generated tokens on the ledger, "critique" and "judge" as judge tokens.
            parent: the attempt this one builds on.
            prefix: text the answer is made to begin with.
            policy: who is asked, where it is not the policy that solves.
            sampling: fields of `Sampling` to change for this question.

        Raises:
            BadInput: `Sampling` has no such field, or a value is out of its range.
        """
        messages, how = as_prompt(prompt), changed(self._sampling, sampling)
        numbers = float(how.temperature), float(how.top_p), int(how.top_k), int(how.max_tokens)
        content = content_hash(_hash(messages), numbers, how.stop, role, prefix, parent and parent.id)
        occurrence = f"{self._name}#{self._asked[content]}"
        self._asked[content] += 1
        who = policy or self._policy
        question = Question(who, self._problem, messages, how, role, parent, prefix, content, occurrence)
        attempt = await self._sampler(question)
        self.tokens += attempt.tokens
        return attempt

    async def many(self, prompt: Any, n: int, **how: Any) -> list[Attempt]:
        """`n` independent answers to `prompt`, sampled together; `how` is as for a single one."""
        return list(await asyncio.gather(*(self(prompt, **how) for _ in range(n))))


@lru_cache(maxsize=8192)
def _hash(prompt: Prompt) -> str:
    """Hash of a prompt, computed once for the many samples that share it."""
    return content_hash(prompt)
