"""What an online training needs of the run."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from selftaught.engines.base import Sampling
from selftaught.learn.online.rollouts import Rollout
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Problem


class OnlineHost(Protocol):
    """The run, for an online training: it samples, journals and shows progress."""

    def release_memory(self) -> None:
        """Free the engine's memory; called before weights are loaded, and after the training."""

    def start_step(self, facts: dict[str, Any]) -> None:
        """Note whose rollouts come next, see `OnlineTrainer._names`."""

    def collect_rollouts(
        self, policy: Policy, problems: Sequence[Problem], n: int, draw: int = 0
    ) -> list[list[Rollout]]:
        """`n` rollouts of each problem by `policy`, grouped by problem; other ones in each draw of a step, from 0."""
        ...

    def attach_model(self, policy: Policy, model: Any) -> None:
        """Let the engine sample `policy` from the tensors of `model`."""

    def sampling_of(self, attempt: Attempt) -> Sampling:
        """The sampling settings of an attempt."""
        ...

    def record_step(self, key: str, facts: dict[str, Any] | None, tokens: int) -> None:
        """Journal a step's metrics and its trained tokens under `key`; `facts` is None if they are in the journal."""

    def report_progress(self, done: int, total: int, loss: float) -> None:
        """Show the progress after a step: steps done, steps in all, and the loss."""
