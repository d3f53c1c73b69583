"""RMS norms and gated activations that keep little for the gradient and take few passes over memory.

`transformers` writes both as elementary operations. Of a norm autograd then keeps two copies, one of them in float32,
and goes through a dozen tensors on the way back; here what is kept is the input, and the gradient is the closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

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
    """The same computation, for modules whose code is Llama's, as that of most families is; None for others.

    Told by the code and not by its values: a dropout or a clamp shows on some inputs only.
    """
    from transformers.models.llama.modeling_llama import LlamaMLP, LlamaRMSNorm

    if "forward" in vars(module):  # somebody's own
        return None
    if _same_code(module, LlamaRMSNorm):
        return _norm(module)
    silu = _same_code(module, LlamaMLP) and type(module.act_fn).__name__ in ("SiLU", "SiLUActivation")
    return _gated(module) if silu else None


def _same_code(module: Any, kind: type) -> bool:
    mine, own = (getattr(which.forward, "__code__", None) for which in (type(module), kind))
    if mine is None or own is None:
        return False
    return all(getattr(mine, part) == getattr(own, part) for part in ("co_code", "co_consts", "co_names"))


@contextmanager
def fused(model: Any) -> Iterator[None]:
    """Inside, norms and gated layers of a model compute what they do with less kept and in fewer passes.

    For one in training; modules that are not as Llama has them stay as they are.
    """
    changed = [(module, made) for module in model.modules() if (made := _replacement(module)) is not None]
    try:
        for module, made in changed:
            module.forward = made
        yield
    finally:
        for module, _ in changed:
            vars(module).pop("forward", None)
