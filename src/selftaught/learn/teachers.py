"""Teachers that move with what they teach: the mean of its past weights, and one that has seen the next steps."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from selftaught.learn.forward import anchored
from selftaught.learn.kernels.optimizer import AdamW
from selftaught.learn.objectives.base import Group

MEAN = "mean"  # in the optimiser's state beside the moments, so that it is kept with every checkpoint
KEPT = ("step", "exp_avg", "exp_avg_sq", "rest")


class MovingTeacher:
    """The exponential moving average of the weights in training, in float32 beside them.

    "ema" follows each step: m <- d m + (1 - d) w (Tarvainen and Valpola, "Mean teachers", 1703.01780). "future" is
    moved before each step, towards the weights that `ahead` steps on its own labels would lead to; those steps are
    taken back (Du et al., "Learning from future", 2209.06993, its algorithm 1, where the task's labels are not part
    of the virtual steps' loss unless the objective's own mix has them).

    Args:
        model: in training.
        optimizer: of its weights.
        decay: d.
        ahead: virtual steps before each real one; 0 for "ema".
        top_k: of how many of its likeliest tokens the teacher tells; 0 for all.
        most: tokens in one forward pass.
    """

    def __init__(self, model: Any, optimizer: AdamW, *, decay: float, ahead: int, top_k: int, most: int) -> None:
        self._model, self._optimizer = model, optimizer
        self._decay, self._ahead, self._top_k, self._most = decay, ahead, top_k, most

    def label(self, batch: Sequence[Group], step: Callable[[Sequence[Group]], Any]) -> Sequence[Group]:
        """`batch` with what the teacher says of it; `step` takes one optimiser step on a labelled batch."""
        for p in self._optimizer.parameters:
            self._optimizer.state[p].setdefault(MEAN, self._optimizer.whole(p).clone())
        if self._ahead:
            with self._taken_back():
                for _ in range(self._ahead):
                    step(self._labelled(batch))
                self.follow()
        return self._labelled(batch)

    @torch.no_grad()
    def follow(self) -> None:
        """Move towards the weights as they are."""
        for p in self._optimizer.parameters:
            self._optimizer.state[p][MEAN].lerp_(self._optimizer.whole(p), 1 - self._decay)

    def stepped(self) -> None:
        """After a real step."""
        if not self._ahead:
            self.follow()

    def _labelled(self, batch: Sequence[Group]) -> Sequence[Group]:
        own = [(p, p.data) for p in self._optimizer.parameters]
        try:
            for p, data in own:
                p.data = self._optimizer.state[p][MEAN].to(data.dtype)
            return anchored(self._model, batch, {"teacher"}, self._most, top_k=self._top_k)
        finally:
            for p, data in own:
                p.data = data

    @contextmanager
    def _taken_back(self) -> Iterator[None]:
        """Inside, steps may be taken; then weights and moments are as before."""
        state = self._optimizer.state
        before = [
            (p, p.detach().clone(), {key: state[p][key].clone() for key in KEPT if key in state[p]})
            for p in self._optimizer.parameters
        ]
        try:
            yield
        finally:
            for p, data, kept in before:
                p.data.copy_(data)
                for key in KEPT:
                    state[p].pop(key, None)
                state[p].update(kept)
