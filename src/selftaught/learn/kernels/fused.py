"""Fused RMS norms, gated MLPs and rotary attention, which save little for the backward pass and read memory less often.

`transformers` writes them as elementary operations. For a norm, autograd then saves two copies, one of them in float32,
and its backward pass reads a dozen tensors; here the input is saved, and the gradient is the closed form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.learn.kernels.logits import at_least_float32
from selftaught.learn.kernels.packing import IGNORED_ARGUMENTS, PackedRows, packed_attention
from selftaught.learn.kernels.recognition import ATTENTION, GATED, NORM, FusedPart, why_not_fused

LARGE_MODEL = 10_000_000  # weights


class _Norm(torch.autograd.Function):
    """`weight * (x / sqrt(mean(x^2) + eps))` (Zhang and Sennrich, arXiv:1910.07467), its quotient at least in float32.

    With y = x r and r = 1 / sqrt(mean(x^2) + eps), dx = r (g - y mean(g y)), where g is the gradient of y.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, eps: float) -> Tensor:
        whole = at_least_float32(x)
        scale = torch.linalg.vector_norm(whole, dim=-1, keepdim=True).square_().div_(x.shape[-1]).add_(eps).rsqrt_()
        ctx.save_for_backward(x, weight, scale)
        return weight * (whole * scale).to(x.dtype)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight, scale), d = ctx.saved_tensors, gradients[0]
        y = at_least_float32(x) * scale
        of_weight = (d * y.to(d.dtype)).flatten(0, -2).sum(0) if ctx.needs_input_grad[1] else None
        d = at_least_float32(d * weight)
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


class _Rotary(torch.autograd.Function):
    """`x cos + (-second half, first half) sin`: rotary position embeddings (Su et al., arXiv:2104.09864).

    With the signs moved into the sine, that is x cos + swap(x) sin, where swap exchanges the halves; so the gradient of
    x is d cos + swap(d sin) = d cos + swap(d) swap(sin).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        ctx.save_for_backward(cos, sin)
        return torch.addcmul(x * cos, _swap_halves(x), sin)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (cos, sin), d = ctx.saved_tensors, gradients[0]
        return torch.addcmul(d * cos, _swap_halves(d), _swap_halves(sin)), None, None


def _swap_halves(x: Tensor) -> Tensor:
    return x.roll(x.shape[-1] // 2, -1)


def _norm(module: Any) -> Any:
    return lambda x: _Norm.apply(x, module.weight, module.variance_epsilon)


def _gated(module: Any) -> Any:
    return lambda x: module.down_proj(_Gated.apply(module.gate_proj(x), module.up_proj(x)))


def _attention(module: Any) -> Any:
    """Attention over packed rows in the layout `[tokens, heads, head_dim]`; any other call goes to the module."""

    def forward(*given: Any, **named: Any) -> tuple[Tensor, Any]:
        if not _is_packed_call(module, given, named):
            return type(module).forward(module, *given, **named)
        hidden_states, layout = given[0] if given else named["hidden_states"], named["layout"]
        projections = module.q_proj, module.k_proj, module.v_proj
        q, k, v = (p(hidden_states).view(hidden_states.shape[1], -1, module.head_dim) for p in projections)
        cos, sin = (x[0][:, None] for x in named["position_embeddings"])
        first, second = sin.chunk(2, -1)
        signed = torch.cat([-first, second], -1)
        turned = _Rotary.apply(q, cos, signed), _Rotary.apply(k, cos, signed)
        found = packed_attention(*turned, v, module.scaling, layout.buckets)
        return module.o_proj(found.flatten(1)[None]), None

    return forward


def _is_packed_call(module: Any, given: tuple[Any, ...], named: dict[str, Any]) -> bool:
    """Whether a call is attention over packed rows on a CPU, with whole heads rotated, and nothing more."""
    layout: PackedRows | None = named.get("layout")
    if layout is None or layout.buckets is None or (module.training and module.attention_dropout):
        return False
    turns = named.get("position_embeddings")
    asked = {name for name, value in named.items() if value is not None and value is not False}
    if (
        asked - IGNORED_ARGUMENTS - {"hidden_states", "position_embeddings", "layout"}
        or len(given) + ("hidden_states" in named) != 1
    ):
        return False
    return isinstance(turns, tuple) and all(len(x) == 1 and x.shape[-1] == module.head_dim for x in turns)


FUSED_FORMS = ((NORM, _norm), (GATED, _gated), (ATTENTION, _attention))


def _fused_form(module: Any, config_texts: dict[int, str] | None = None) -> Any:
    """The fused form of a module that was found to compute what Llama's does; None for others.

    Args:
        config_texts: see `why_not_fused`.
    """
    for part, fuse in FUSED_FORMS:
        if _resembles(module, part):
            return fuse(module) if not why_not_fused(module, part, fuse, config_texts) else None
    return None


def _resembles(module: Any, part: FusedPart) -> bool:
    """Whether its parts have the names of Llama's, so that a trial makes sense."""
    return (
        part.layers <= module._modules.keys()
        and part.parameters <= module._parameters.keys()
        and all(hasattr(module, name) for name in part.required)
    )


def is_large(model: Any) -> bool:
    """Whether a model is so large that saving memory is worth some more calls in each step."""
    return sum(p.numel() for p in model.parameters()) > LARGE_MODEL


def fused_kernels(model: Any) -> AbstractContextManager[None]:
    """Inside, a large model runs with `fused_modules`; in a small one the calls would cost more."""
    return fused_modules(model) if is_large(model) else nullcontext()


@contextmanager
def fused_modules(model: Any) -> Iterator[None]:
    """Inside, norms, gated layers and attention of a model in training run in their fused forms.

    Modules that differ from Llama's stay as they are.
    """
    config_texts: dict[int, str] = {}
    changed = [(module, made) for module in model.modules() if (made := _fused_form(module, config_texts)) is not None]
    try:
        for module, made in changed:
            module.forward = made
        yield
    finally:
        for module, _ in changed:
            vars(module).pop("forward", None)
