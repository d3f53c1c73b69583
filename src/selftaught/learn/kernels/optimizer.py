"""AdamW over split weights: bfloat16 to compute with, and beside it the 16 low bits of float32.

A float32 number is, bit for bit, its nearest bfloat16 and a signed 16-bit remainder. Products read the first half;
an update joins both, moves the float32 number, and splits it again. So no second copy of the weights exists, none is
cast at any step, and an update too small for bfloat16 is not lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterator, Sequence
from functools import partial
from typing import Any, TypeGuard

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.learn.kernels.logits import GRADIENT_SINK, GradientSink

CHUNK = 2**18  # numbers updated at a time on a CPU, so that what is computed of them stays in its cache


def split_float32(whole: Tensor) -> tuple[Tensor, Tensor]:
    """Split a float32 tensor into its nearest bfloat16 and an int16 remainder; `join_float32` undoes it exactly."""
    bits = whole.view(torch.int32)
    near = (bits + 0x8000) >> 16
    return near.to(torch.int16).view(torch.bfloat16), bits.to(torch.int16)  # what the first leaves is the lower half


def join_float32(near: Tensor, rest: Tensor) -> Tensor:
    """Undo `split_float32`."""
    whole = near.float()
    whole.view(torch.int32).add_(rest)
    return whole


class AdamW(torch.optim.Optimizer):
    """AdamW (Loshchilov and Hutter, 1711.05101) in float32 arithmetic, for parameters in float32 or split in two.

    Equal to `torch.optim.AdamW` where parameters are float32. Of split parameters the first moment is kept in
    bfloat16 too: it forgets a tenth at each step, far more than is rounded off; the second moment, which forgets a
    thousandth, is float32 always.

    Args:
        groups: of parameters, as for any optimizer of torch; `weight_decay` by group.
        learning_rate: of all groups.
        betas: decay of the two moments.
        eps: added to the root of the second moment.
    """

    def __init__(
        self, groups: Sequence[dict[str, Any]], learning_rate: float, betas: tuple[float, float] = (0.9, 0.999),
        eps: float = 1e-8,
    ) -> None:  # fmt: skip
        super().__init__(groups, {"lr": learning_rate, "weight_decay": 0.0})
        self._betas, self._eps = betas, eps
        self._sums: dict[Tensor, Tensor] = {}
        self._buffers: dict[Tensor, Tensor] = {}  # for later sums, kept from step to step
        self._hooks: list[Any] = []

    @property
    def parameters(self) -> list[Tensor]:
        """All of them, in order."""
        return [p for group in self.param_groups for p in group["params"]]

    def split_weights(self, keep: Collection[int] = ()) -> None:
        """Split every float32 parameter into bfloat16 and low bits, except those whose `id` is in `keep`."""
        for p in self.parameters:
            if p.dtype == torch.float32 and id(p) not in keep:
                p.data, self.state[p]["low_bits"] = split_float32(p.data)

    def join_weights(self) -> None:
        """Turn split parameters back into float32 ones."""
        for p in self.parameters:
            if "low_bits" in self.state[p]:
                p.data = join_float32(p.data, self.state[p].pop("low_bits"))

    def float32_values(self, p: Tensor) -> Tensor:
        """A parameter's values in float32."""
        return join_float32(p.data, self.state[p]["low_bits"]) if "low_bits" in self.state[p] else p.data.float()

    def assign(self, p: Tensor, whole: Tensor) -> None:
        """Assign float32 values to a parameter."""
        if "low_bits" in self.state[p]:
            near, rest = split_float32(whole)
            p.data.copy_(near)
            self.state[p]["low_bits"].copy_(rest)
        else:
            p.data.copy_(whole)

    # --- gradients ---

    def accumulate_in_float32(
        self, table: torch.nn.Embedding | None = None, head: torch.nn.Module | None = None
    ) -> None:
        """Sum the gradients of several backward passes in float32, until the next `zero_grad`.

        bfloat16 would round the sum at each pass. Each gradient is freed as soon as it is added.

        Args:
            table: input embeddings; a pass's gradient of them is that of the rows it looked up, where autograd would
                make one of the whole table, most of it zero.
            head: output layer, whose gradient is added piece by piece (see `kernels.logits`).
        """
        if self._hooks:
            return
        for p in self.parameters:  # allocate what stays before what comes and goes, against fragmentation
            self._moments(p)
            if p not in self._buffers:
                self._buffers[p] = torch.empty_like(p, dtype=torch.float32)
        self._hooks = [p.register_post_accumulate_grad_hook(self._add) for p in self.parameters]  # pyright: ignore[reportAttributeAccessIssue]
        if _is_plain_embedding(table) and table.weight in self._buffers:
            self._hooks.append(_SparseEmbeddingGradient(table, self._add_rows))
        weight = getattr(head, "weight", None)
        if head is not None and weight is not None and weight in self._buffers:
            self._hooks.append(_HeadGradientSink(head, partial(self._add_piece, weight)))

    def _add(self, p: Tensor) -> None:
        if p.grad is None:  # a sink got it
            return
        if p in self._sums:
            for total, new in _chunked([self._sums[p], p.grad]):
                total += new  # a conversion on the way makes a chunk, not a copy
        else:
            self._sums[p] = self._buffers.pop(p).copy_(p.grad)
        p.grad = None

    def _add_rows(self, p: Tensor, places: Tensor, rows: Tensor) -> None:
        if p not in self._sums:
            self._sums[p] = self._buffers.pop(p).zero_()
        self._sums[p].index_add_(0, places, rows.float())

    def _add_piece(self, p: Tensor, some: slice, gradient: Tensor) -> None:
        if p in self._sums:
            self._sums[p][some] += gradient
            return
        self._buffers[p][some] = gradient  # the first gradient's blocks come in order
        if some.stop >= len(p):
            self._sums[p] = self._buffers.pop(p)

    def gradient(self, p: Tensor) -> Tensor | None:
        """The accumulated gradient of a parameter, or None."""
        return self._sums.get(p, p.grad)

    def grad_norm(self) -> float:
        """The norm of all gradients together; NaN if one is not finite."""
        found = [g for p in self.parameters if (g := self.gradient(p)) is not None]
        total = sum(float(torch.linalg.vector_norm(g, dtype=torch.float32)) ** 2 for g in found)
        return math.sqrt(total) if math.isfinite(total) else math.nan

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; the buffers of their sums are kept until `release_buffers`."""
        super().zero_grad(set_to_none)
        self._buffers |= self._sums
        self._sums.clear()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def release_buffers(self) -> None:
        """Free the buffers of gradient sums, until gradients are summed again."""
        self._buffers.clear()

    # --- the update ---

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None, *, scale: float = 1.0) -> None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Update the parameters by the gradients times `scale`."""
        assert closure is None
        for group in self.param_groups:
            for p in group["params"]:
                if (gradient := self.gradient(p)) is not None:
                    self._update(p, gradient, scale, group["lr"], group["weight_decay"])

    def _moments(self, p: Tensor) -> dict[str, Tensor]:
        """The state of a parameter, initialized with zeros."""
        state = self.state[p]
        if "step" not in state:
            state["step"] = torch.zeros((), dtype=torch.float32)
            state["exp_avg"] = torch.zeros_like(p)
            state["exp_avg_sq"] = torch.zeros_like(p, dtype=torch.float32)
        return state

    def _update(self, p: Tensor, gradient: Tensor, scale: float, rate: float, decay: float) -> None:
        state, (b1, b2) = self._moments(p), self._betas
        state["step"] += 1
        count = state["step"].to(p.device)
        parts = [
            p.data,
            gradient,
            state["exp_avg"],
            state["exp_avg_sq"],
            *([state["low_bits"]] if "low_bits" in state else []),
        ]
        flat = [t.contiguous() for t in parts]  # the kernel below takes numbers as they lie in memory
        for near, g, m, v, *rest in _chunked(flat):
            whole = join_float32(near, rest[0]) if rest else near.float()  # float32 tensors are changed in place
            g, mean = g.float(), m.float()
            torch.ops.aten._fused_adamw_(
                [whole], [g if scale == 1 else g * scale], [mean], [v], [], [count], lr=rate, beta1=b1, beta2=b2,
                weight_decay=decay, eps=self._eps, amsgrad=False, maximize=False,
            )  # fmt: skip
            if rest:
                bits = whole.view(torch.int32)
                rest[0].copy_(bits)
                near.view(torch.int16).copy_(bits.add_(0x8000).bitwise_right_shift_(16))  # `split`, in place
            elif near.dtype != torch.float32:
                near.copy_(whole)
            if m.dtype != torch.float32:
                m.copy_(mean)
        for t, moved in zip(parts, flat, strict=True):
            if not t.is_contiguous():
                t.copy_(moved)


def _is_plain_embedding(table: Any) -> TypeGuard[torch.nn.Embedding]:
    """Whether embeddings on a CPU are looked up and nothing more."""
    if type(table) is not torch.nn.Embedding or "forward" in vars(table):  # replaced
        return False
    return table.weight.device.type == "cpu" and table.max_norm is None and not table.scale_grad_by_freq


class _SparseEmbeddingGradient:
    """Passes an embedding's gradient on as sparse rows, until removed."""

    def __init__(self, table: torch.nn.Embedding, sink: Callable[[Tensor, Tensor, Tensor], None]) -> None:
        self._table, self._sink = table, sink
        self._leaf = table.weight.detach().requires_grad_()  # the same numbers; its gradient goes a way of its own
        self._hook = self._leaf.register_post_accumulate_grad_hook(self._pass_on)
        table.forward = self._look_up

    def _look_up(self, input: Tensor) -> Tensor:
        return F.embedding(input, self._leaf, self._table.padding_idx, sparse=True)

    def _pass_on(self, leaf: Tensor) -> None:
        found, leaf.grad = leaf.grad, None
        assert found is not None
        self._sink(self._table.weight, found._indices()[0], found._values())

    def remove(self) -> None:
        """Restore the embedding's own forward."""
        self._hook.remove()
        vars(self._table).pop("forward", None)


class _HeadGradientSink:
    """Sends an output layer's gradient to a sink, until removed."""

    def __init__(self, head: torch.nn.Module, sink: GradientSink) -> None:
        self._head = head
        vars(head)[GRADIENT_SINK] = sink

    def remove(self) -> None:
        """Leave the gradient to autograd again."""
        vars(self._head).pop(GRADIENT_SINK, None)


def _chunked(tensors: Sequence[Tensor]) -> Iterator[tuple[Tensor, ...]]:
    """Yield the same chunks of several tensors of one shape, writable in place."""
    if tensors[0].device.type != "cpu" or not all(t.is_contiguous() for t in tensors):
        yield tuple(tensors)
        return
    yield from zip(*(t.view(-1).split(CHUNK) for t in tensors), strict=True)
