"""The ledger: tokens and seconds, by what they were spent on."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass

from selftaught.journal.id_set import IdSet

TRAINED_COMPUTE = 3
"""Compute of a trained token, in sampled tokens: forward and backward pass take 6 N operations, sampling 2 N."""


@dataclass(frozen=True, slots=True)
class Usage:
    """What one effect cost.

    Attributes:
        prompt: prompt tokens read by sampling (a shared prompt counts once per sample).
        generated: tokens sampled to solve or revise.
        judge: tokens sampled to critique or judge.
        trained: tokens read by training, prompts included, every epoch counted.
    """

    prompt: int = 0
    generated: int = 0
    judge: int = 0
    trained: int = 0

    @property
    def spent(self) -> int:
        """Tokens that count against a budget: all but prompts."""
        return self.generated + self.judge + self.trained

    @property
    def compute(self) -> int:
        """Compute in sampled tokens: prompt + sampled + 3 times trained; `Ledger.compute` leaves out cached prompts."""
        return self.prompt + self.generated + self.judge + TRAINED_COMPUTE * self.trained

    def __add__(self, other: Usage) -> Usage:
        return Usage(
            self.prompt + other.prompt,
            self.generated + other.generated,
            self.judge + other.judge,
            self.trained + other.trained,
        )


class Ledger:
    """The tokens of the effects this program has gone through, paid now or on an earlier start.

    Each effect counts once, however often it is replayed, so a resumed run sees the same totals at the
    same place in its program as an undisturbed one.

    Attributes:
        usage: tokens, by what they were spent on.
        environment_steps: answers of the task's environment, the starts of episodes included.
        cached: prompt tokens that the same policy had read before in this run, which a prefix cache serves.
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.cached = 0
        self.environment_steps = 0
        self._counted = IdSet()
        self._read: set[int] = set()

    def count(
        self, key: str, usage: Usage, *, prompt: Hashable = None, shared: int | None = None, cached: int = 0
    ) -> bool:
        """Add an effect's usage unless it was counted before; returns whether it was not.

        Args:
            prompt: who read what, such as policy and messages; read again, it is cached. The sum does not depend on the
                order of the effects.
            shared: tokens of that prompt; None: all of `usage.prompt`.
            cached: prompt tokens that are cached even when read for the first time: an earlier turn, or the beginning.
        """
        if new := self._counted.add(key):
            if prompt is not None:
                known = hash((prompt, cached))
                if known in self._read:
                    cached = max(cached, usage.prompt if shared is None else shared)
                self._read.add(known)
            self.usage += usage
            self.cached += cached
        return new

    @property
    def compute(self) -> int:
        """Compute so far, in sampled tokens: prompt tokens not cached + sampled + 3 times trained."""
        return self.usage.compute - self.cached

    def counted(self, key: str) -> bool:
        """Whether an effect was counted."""
        return key in self._counted

    def count_step(self, key: str) -> None:
        """Add an answer of the environment, unless it was counted before."""
        self.environment_steps += self.count(key, Usage())
