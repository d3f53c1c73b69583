"""Linear layers with fixed weights: packed once for the processor if possible, with the next operation fused in."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

PACKING_ROWS = 128  # number of rows that the packed layout is optimized for


class Linear:
    """`x @ weight.T + bias` for weights `[out, in]`."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        self._weight, self._bias = weight, bias

    def __call__(self, x: Tensor) -> Tensor:
        """`x @ weight.T + bias`, `[..., out]`."""
        return F.linear(x, self._weight, self._bias)

    def silu(self, x: Tensor) -> Tensor:
        """SiLU of the output."""
        return F.silu(self(x))

    def mul(self, x: Tensor, other: Tensor) -> Tensor:
        """The output times `other`, element-wise."""
        return self(x) * other

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """The output plus `other`."""
        return self(x) + other


class ConcatLinear(Linear):
    """Several linear layers on the same `x`, concatenated; for weights that must not be copied."""

    def __init__(self, parts: Sequence[Linear]) -> None:
        self._parts = parts

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        return torch.cat([part(x) for part in self._parts], -1)


class PackedLinear(Linear):
    """A linear layer by oneDNN with a packed weight, not rearranged at every call: twice as fast for one row."""

    def __init__(self, weight: Tensor, bias: Tensor | None = None) -> None:
        super().__init__(torch.ops.mkldnn._reorder_linear_weight(weight, PACKING_ROWS), bias)

    def __call__(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "none", [], "")

    def silu(self, x: Tensor) -> Tensor:
        """See `Linear`."""
        return torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, "swish", [], "")

    def mul(self, x: Tensor, other: Tensor) -> Tensor:
        """See `Linear`."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "mul")

    def add(self, x: Tensor, other: Tensor) -> Tensor:
        """See `Linear`."""
        return torch.ops.mkldnn._linear_pointwise.binary(x, other, self._weight, self._bias, "add")


def packing_works(dtype: torch.dtype, device: str) -> bool:
    """Whether `PackedLinear` works here and computes what `Linear` does; it relies on internal functions of torch."""
    if device != "cpu" or not torch.backends.mkldnn.is_available():
        return False
    made = torch.Generator().manual_seed(0)
    weight, bias, x, other = (torch.randn(s, generator=made).to(dtype) for s in ((24, 16), (24,), (3, 16), (3, 24)))
    try:
        packed, plain = PackedLinear(weight, bias), Linear(weight, bias)
        pairs = [(packed(x), plain(x)), (packed.silu(x), plain.silu(x))]
        pairs += [(packed.mul(x, other), plain.mul(x, other)), (packed.add(x, other), plain.add(x, other))]
        return all(torch.allclose(a.float(), b.float(), rtol=0.05, atol=0.05) for a, b in pairs)
    except (RuntimeError, AttributeError, TypeError):
        return False
