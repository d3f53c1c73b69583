"""Attention of few rows by torch's own kernel (FlashAttention, arXiv:2205.14135), one call instead of several products.

Batched matrix products of bfloat16 have a fixed cost on a CPU, which dominates for a single row. For many rows they
are faster than the kernel. In float32 they are always used, so that a request's tokens do not depend on what else is in
the batch.
"""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor

MAX_ROWS = 8  # up to which the kernel is faster


def flash_attention(query: Tensor, keys: Tensor, values: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Attention, and the log-sum-exp by which it is merged with attention to other keys.

    Args:
        query: `[n, heads, queries, head_dim]`.
        keys: `[n, heads, tokens, head_dim]`, and so are `values`.
        mask: additive, `[n, 1, queries, tokens]`.

    Returns:
        `[n, heads, queries, head_dim]`; and `[n, heads, queries]`, the log-sum-exp of the scores, float32.
    """
    return torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(query, keys, values, attn_mask=mask)


@cache
def is_faster(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether the kernel is faster for few rows here, and works; it is internal to torch."""
    if device.type != "cpu" or dtype == torch.float32:
        return False
    made = torch.Generator().manual_seed(0)
    query, keys, values = (torch.randn(2, 3, n, 8, generator=made).to(dtype) for n in (4, 5, 5))
    mask = torch.zeros(2, 1, 4, 5, dtype=dtype)
    mask[0, :, :, 3:] = torch.finfo(dtype).min
    try:
        found, sums = flash_attention(query, keys, values, mask)
    except (RuntimeError, AttributeError, TypeError):
        return False
    scores = query.float() @ keys.float().transpose(-1, -2) * 8**-0.5 + mask.float()
    true = torch.softmax(scores, -1) @ values.float()
    return torch.allclose(found.float(), true, atol=0.05) and torch.allclose(sums, scores.logsumexp(-1), atol=0.05)
