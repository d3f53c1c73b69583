"""Muon for stacks of matrices, and the learning-rate schedule of a build."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch

COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5  # of Newton-Schulz


def orthogonalize(stack: torch.Tensor, steps: int = STEPS) -> torch.Tensor:
    """The nearest semi-orthogonal matrix to each of a stack `[..., rows, columns]`, roughly.

    Source: Jordan et al. 2024, https://kellerjordan.github.io/posts/muon: singular values come to lie in about
    [0.7, 1.2]. Batched, and in the dtype of `stack`; torch's own takes one matrix at a time, in bfloat16.
    """
    a, b, c = COEFFICIENTS
    tall = stack.shape[-2] > stack.shape[-1]
    x = stack.mT if tall else stack
    x = (x / x.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-7)).flatten(0, -3)
    for _ in range(steps):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    x = x.view(*stack.shape[:-2], *x.shape[-2:])
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Momentum orthogonalized by Newton-Schulz, with decoupled weight decay; each parameter is a stack of matrices.

    Args:
        lr: learning rate; a matrix's update is multiplied with sqrt(max(1, rows / columns)).
        each: does independent pieces of work: `map`, or `executor.map`.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
        each: Callable[..., Iterable[Any]] = map,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})
        self.each = each

    @torch.no_grad()
    def step(self) -> None:  # type: ignore[override]
        """Update each parameter that has a gradient."""
        for group in self.param_groups:
            pieces: list[tuple[torch.Tensor, ...]] = []
            for parameter in group["params"]:
                if parameter.grad is not None:
                    state = self.state[parameter]
                    buffer = state.setdefault("momentum_buffer", torch.zeros_like(parameter))
                    pieces += zip(_halves(parameter), _halves(parameter.grad), _halves(buffer), strict=True)
            list(self.each(lambda piece, group=group: _update(piece, group), pieces))


def _halves(stack: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """Views of the first and second half of a stack."""
    return stack.tensor_split(2) if len(stack) > 1 else (stack,)


@torch.no_grad()
def _update(piece: tuple[torch.Tensor, ...], group: dict[str, Any]) -> None:
    """One step of a weight, given with its gradient and momentum."""
    weights, gradient, buffer = piece
    buffer.lerp_(gradient, 1 - group["momentum"])
    update = orthogonalize(gradient.lerp(buffer, group["momentum"]))
    weights.mul_(1 - group["lr"] * group["weight_decay"])
    weights.add_(update, alpha=-group["lr"] * math.sqrt(max(1.0, weights.shape[-2] / weights.shape[-1])))


def warmup_cosine(progress: float, warmup: float, floor: float) -> float:
    """The learning rate as a share of its peak: linear warm-up, then cosine decay to `floor`.

    Args:
        progress: share of the steps that are done, 0..1.
        warmup: share of the steps for the warm-up.
    """
    if progress < warmup:
        return progress / warmup
    return floor + (1 - floor) * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup))) / 2
