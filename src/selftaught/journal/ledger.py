"""The ledger: tokens and seconds, by what they were spent on."""

from __future__ import annotations

from dataclasses import dataclass


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
    """

    def __init__(self) -> None:
        self.usage = Usage()
        self.environment_steps = 0
        self._counted: set[str] = set()

    def count(self, key: str, usage: Usage) -> bool:
        """Add an effect's usage unless it was counted before; returns whether it was not."""
        if new := key not in self._counted:
            self._counted.add(key)
            self.usage += usage
        return new

    def count_step(self, key: str) -> None:
        """Add an answer of the environment, unless it was counted before."""
        self.environment_steps += self.count(key, Usage())
