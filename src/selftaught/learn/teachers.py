"""Moving teachers: an exponential moving average of the student's weights, optionally after virtual steps ahead."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from selftaught.learn.frozen import with_frozen_logprobs
from selftaught.learn.kernels.optimizer import AdamW
from selftaught.learn.objectives.base import EMAConfig, Group

EMA_KEY = "ema"  # in the optimizer's state beside the moments, so that every checkpoint has it
RESTORED_KEYS = ("step", "exp_avg", "exp_avg_sq", "low_bits")


class EMATeacher:
    """The exponential moving average of the weights in training, in float32 beside them.

    Without lookahead it follows each step: m <- d m + (1 - d) w (Tarvainen and Valpola, "Mean teachers", 1703.01780).
    With lookahead it moves before each step, toward the weights that `lookahead_steps` steps on its own labels would
    reach; those steps are then undone (Du et al., "Learning from future", 2209.06993, its algorithm 1, where the task's
    labels are not part of the virtual steps' loss unless the objective's own mix has them).

    Args:
        model: in training.
        optimizer: of its weights.
        config: decay d and lookahead.
        top_k: number of likeliest tokens kept of the teacher's distribution; 0 for all.
        max_tokens: most tokens in one forward pass.
        output: what it gives: "teacher" distributions, or "reference" log-probabilities.
    """

    def __init__(
        self, model: Any, optimizer: AdamW, config: EMAConfig, *, top_k: int, max_tokens: int, output: str = "teacher"
    ) -> None:
        self._model, self._optimizer, self._config = model, optimizer, config
        self._top_k, self._max_tokens, self._output = top_k, max_tokens, output

    @property
    def started(self) -> bool:
        """Whether there is an average: it starts from the weights at its first use."""
        return all(EMA_KEY in self._optimizer.state[p] for p in self._optimizer.parameters)

    def with_logprobs(
        self, batch: Sequence[Group], step: Callable[[Sequence[Group]], Any] | None = None
    ) -> Sequence[Group]:
        """Add the average's log-probabilities to `batch`; `step`, for lookahead, takes a step on such a batch."""
        for p in self._optimizer.parameters:
            self._optimizer.state[p].setdefault(EMA_KEY, self._optimizer.float32_values(p).clone())
        if self._config.lookahead_steps and step:
            with self._rolled_back():
                for _ in range(self._config.lookahead_steps):
                    step(self._with_logprobs(batch))
                self.update()
        return self._with_logprobs(batch)

    @torch.no_grad()
    def update(self) -> None:
        """Move toward the current weights."""
        for p in self._optimizer.parameters:
            average = self._optimizer.state[p][EMA_KEY]
            average.lerp_(self._optimizer.float32_values(p), 1 - self._config.decay)

    def after_step(self) -> None:
        """Follow a real step."""
        if not self._config.lookahead_steps:
            self.update()

    def _with_logprobs(self, batch: Sequence[Group]) -> Sequence[Group]:
        own = [(p, p.data) for p in self._optimizer.parameters]
        try:
            for p, data in own:
                p.data = self._optimizer.state[p][EMA_KEY].to(data.dtype)
            return with_frozen_logprobs(self._model, batch, {self._output}, self._max_tokens, top_k=self._top_k)
        finally:
            for p, data in own:
                p.data = data

    @contextmanager
    def _rolled_back(self) -> Iterator[None]:
        """Undo the steps taken inside: restore weights and moments on exit."""
        state = self._optimizer.state
        before = [
            (p, p.detach().clone(), {key: state[p][key].clone() for key in RESTORED_KEYS if key in state[p]})
            for p in self._optimizer.parameters
        ]
        try:
            yield
        finally:
            for p, data, kept in before:
                p.data.copy_(data)
                for key in RESTORED_KEYS:
                    state[p].pop(key, None)
                state[p].update(kept)
