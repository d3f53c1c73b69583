"""RMS norms and gated activations that keep little for the gradient and take few passes over memory.

`transformers` writes both as elementary operations. Of a norm autograd then keeps two copies, one of them in float32,
and goes through a dozen tensors on the way back; here what is kept is the input, and the gradient is the closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.learn.vocabulary import wide


class _Norm(torch.autograd.Function):
    """`weight * (x / sqrt(mean(x^2) + eps))` (Zhang and Sennrich, arXiv:1910.07467), its quotient at least in float32.

    With y = x r and r = 1 / sqrt(mean(x^2) + eps), dx = r (g - y mean(g y)), where g is the gradient of y.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        whole = wide(x)
        scale = torch.linalg.vector_norm(whole, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return weight * (whole * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, scale), d = ctx.saved_tensors, gradients[0]
        y = wide(x) * scale
        of_weight = (d * y.to(d.dtype)).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        d = wide(d * weight)
        shared = (d * y).sum(-1, keepdim=True).div_(-x.shape[-1])
        return torch.addcmul(d, y, shared).mul_(scale).to(x.dtype), of_weight, None


class _Gated(torch.autograd.Function):
    """`silu(gate) * up`."""

    @staticmethod
    def forward(ctx: Any, gate: Tensor, up: Tensor) -> Tensor:
        ctx.save_for_backward(gate, up)
        return F.silu(gate).mul_(up)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gate, up), d = ctx.saved_tensors, gradients[0]
        return torch.ops.aten.silu_backward(d * up, gate), F.silu(gate).mul_(d)


def _norm(module: Any) -> Any:
    return lambda x: _Norm.apply(x, module.weight, module.variance_epsilon)


def _gated(module: Any) -> Any:
    return lambda x: module.down_proj(_Gated.apply(module.gate_proj(x), module.up_proj(x)))


def _replacement(module: Any) -> Any:
    """The same computation, for modules that are written as these are; None for others."""
    parts = {name for name, _ in module.named_children()} | {name for name, _ in module.named_parameters(recurse=False)}
    if parts == {"weight"} and hasattr(module, "variance_epsilon") and module.weight.ndim == 1:
        return _norm(module)
    if parts == {"gate_proj", "up_proj", "down_proj", "act_fn"} and _is_silu(module.act_fn):
        return _gated(module)
    return None


def _is_silu(module: Any) -> bool:
    return isinstance(module, torch.nn.SiLU) or type(module).__name__ == "SiLUActivation"


_known: WeakKeyDictionary[Any, list[Any]] = WeakKeyDictionary()


def _alike(model: Any) -> list[Any]:
    """The modules of `model` that compute what their replacement does; tried once for each model."""
    if model not in _known:
        training = model.training
        model.eval()  # dropout of an adapter would differ from call to call
        try:
            _known[model] = [module for module in model.modules() if _same(module)]
        finally:
            model.train(training)
    return _known[model]


@torch.no_grad()
def _same(module: Any) -> bool:
    made = None if "forward" in vars(module) else _replacement(module)
    if made is None:
        return False
    weight = next(module.parameters())
    x = torch.randn((3, weight.shape[-1]), generator=torch.Generator().manual_seed(0)).to(weight)
    true = module(x)
    slack = (1e-5 if weight.dtype == torch.float32 else 0.02) * float(true.abs().max())
    return float((made(x) - true).abs().max()) <= slack


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Inside, norms and gated layers of a model compute what they do with less kept and in fewer passes.

    For one in training; those that are not as Llama has them stay as they are.
    """
    changed = _alike(model)
    for module in changed:
        module.forward = _replacement(module)
    try:
        yield
    finally:
        for module in changed:
            del module.forward
