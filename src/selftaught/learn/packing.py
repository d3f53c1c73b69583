"""Rows of different lengths side by side, without padding, and each prompt once for all rows that share it.

All tokens go through the model as one sequence, `[1, tokens]`; only attention knows where one row ends. It is
computed span by span: a prompt sees itself, a target sees its prompt and itself, and nothing sees another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.learn.objectives.base import Row

NAME = "selftaught_packed"  # of the attention function, as transformers knows it
FEW = 640  # tokens of a layout up to which one product over all, hidden from each other, costs less than one a span
DENSE = 1024  # tokens up to which scores are held whole for a moment; a CPU's fused kernel has a slow backward


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `end` that see themselves causally, and before themselves tokens `first` to `last`."""

    start: int
    end: int
    first: int = 0
    last: int = 0


@dataclass(frozen=True, slots=True)
class Layout:
    """Rows as one sequence.

    Attributes:
        ids: `[1, tokens]`.
        positions: `[1, tokens]`, of each token in its own row.
        spans: one for each prompt and each target, in order; every token is in one.
        before: `[targets]`, for each target token of each row the place of the token it follows.
        chosen: `[targets]`, the target tokens.
        hidden: `[tokens, tokens]`, true where a token does not see another; None where the tokens are many.
    """

    ids: Tensor
    positions: Tensor
    spans: tuple[Span, ...]
    before: Tensor
    chosen: Tensor
    hidden: Tensor | None = None


def lay_out(rows: Sequence[Row], device: torch.device | str = "cpu") -> Layout:
    """The layout of `rows`; a prompt equal to that of the row before is not repeated."""
    ids: list[int] = []
    positions: list[int] = []
    before: list[int] = []
    spans: list[Span] = []
    prompt: tuple[int, ...] = ()
    first = last = 0
    for row in rows:
        if row.prompt != prompt or not ids:
            prompt, first, last = row.prompt, len(ids), len(ids) + len(row.prompt)
            ids += prompt
            positions += range(len(prompt))
            spans.append(Span(first, last))
        start = len(ids)
        ids += row.target[:-1]  # nothing follows the last token
        positions += range(len(prompt), len(prompt) + len(row.target) - 1)
        before += [last - 1, *range(start, len(ids))]
        if len(ids) > start:
            spans.append(Span(start, len(ids), first, last))
    chosen = [token for row in rows for token in row.target]
    here = [torch.tensor(values, dtype=torch.long, device=device) for values in (ids, positions, before, chosen)]
    hidden = _apart(spans, len(ids), here[0].device) if len(ids) <= FEW and len(spans) > 1 else None
    return Layout(here[0][None], here[1][None], tuple(spans), here[2], here[3], hidden)


def _apart(spans: Sequence[Span], tokens: int, device: torch.device) -> Tensor:
    hidden = torch.ones(tokens, tokens, dtype=torch.bool, device=device)
    for span in spans:
        own = slice(span.start, span.end)
        hidden[own, own] = _hidden(span.end - span.start, span.end - span.start, device)
        hidden[own, span.first : span.last] = False
    return hidden


def packed_tokens(rows: Sequence[Row]) -> int:
    """How many tokens `lay_out` makes of `rows`."""
    shared = (i > 0 and rows[i - 1].prompt == row.prompt for i, row in enumerate(rows))
    return sum(len(row.target) - 1 + (0 if known else len(row.prompt)) for row, known in zip(rows, shared, strict=True))


# --- attention ---


def attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, scaling: float | None = None,
    dropout: float = 0.0, layout: Layout | None = None, **_: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention over a layout, as an attention function of transformers; without one, causal over each row.

    Args:
        query: `[1, heads, tokens, head_dim]`.
        key: `[1, kv_heads, tokens, head_dim]`, `kv_heads` dividing `heads`.
        value: as `key`.
    """
    del module, mask
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        whole = F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=True
        )
        return whole.transpose(1, 2), None
    q, k, v = query[0], key[0], value[0]
    if layout.hidden is not None and q.device.type == "cpu" and not dropout:
        return _Dense.apply(q, k, v, scale, layout.hidden).transpose(0, 1)[None], None  # pyright: ignore
    found = []
    for span in layout.spans:
        own, earlier = slice(span.start, span.end), slice(span.first, span.last)
        keys, values = (x[:, own] if span.first == span.last else torch.cat([x[:, earlier], x[:, own]], 1)
                        for x in (k, v))  # fmt: skip
        found.append(_span(q[:, own], keys, values, scale, dropout))
    return torch.cat(found, 1).transpose(0, 1)[None], None


def _span(q: Tensor, k: Tensor, v: Tensor, scale: float, dropout: float) -> Tensor:
    """`[heads, queries, head_dim]`: the last `queries` of the tokens that `k` and `v` are of, causally."""
    if q.device.type == "cpu" and k.shape[1] <= DENSE and not dropout:
        return _Dense.apply(q, k, v, scale, _hidden(q.shape[1], k.shape[1], q.device))  # pyright: ignore[reportReturnType]
    seen = None if q.shape[1] == k.shape[1] else ~_hidden(q.shape[1], k.shape[1], q.device)
    return F.scaled_dot_product_attention(
        q[None], k[None], v[None], seen, dropout, is_causal=seen is None, scale=scale, enable_gqa=True
    )[0]


def _hidden(queries: int, keys: int, device: torch.device) -> Tensor:
    """`[queries, keys]`, true where a key lies after the query."""
    return torch.ones(queries, keys, dtype=torch.bool, device=device).triu(keys - queries + 1)


class _Dense(torch.autograd.Function):
    """Attention by plain products; scores are computed again for the gradient, so that none is kept.

    Heads that share a key are rows of one product with it, which spares its copies.
    """

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, hidden: Tensor) -> Tensor:
        ctx.save_for_backward(q, k, v, hidden)
        ctx.scale = scale
        rows = q.reshape(len(k), -1, q.shape[-1])
        return (_shares(rows, k, scale, hidden).to(v.dtype) @ v).view(q.shape)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, hidden = ctx.saved_tensors
        rows, of_out = q.reshape(len(k), -1, q.shape[-1]), gradients[0].reshape(len(k), -1, q.shape[-1])
        shares = _shares(rows, k, ctx.scale, hidden)
        d_v = shares.to(v.dtype).transpose(1, 2) @ of_out
        d = (of_out @ v.transpose(1, 2)).to(shares.dtype)
        d = (d - (d * shares).sum(-1, keepdim=True)).mul_(shares).mul_(ctx.scale).to(k.dtype)
        return (d @ k).view(q.shape), d.transpose(1, 2) @ rows, d_v, None, None


def _shares(rows: Tensor, k: Tensor, scale: float, hidden: Tensor) -> Tensor:
    """`[kv_heads, rows, keys]`: softmax of the scores, at least in float32."""
    scores = rows @ k.transpose(1, 2)
    scores = (scores if scores.dtype == torch.float64 else scores.float()).mul_(scale)
    hidden = hidden.repeat(rows.shape[1] // len(hidden), 1)
    return scores.masked_fill_(hidden, -torch.inf).softmax(-1)


# --- which models can be run so ---


@cache
def register() -> None:
    """Make the attention function known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(NAME, attend)
    AttentionMaskInterface.register(NAME, lambda *_, **__: None)


_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def packs(model: Any) -> bool:
    """Whether `model` computes of a layout what it computes of its rows one by one; tried once for each model."""
    if model not in _known:
        _known[model] = False
        with suppress(RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):
            _known[model] = _same(model)
    return _known[model]


def window(model: Any) -> int | None:
    """Tokens that a token sees, where that is limited."""
    config = model.config.get_text_config()
    return getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None


@torch.no_grad()
def _same(model: Any) -> bool:
    vocab, device = model.config.get_text_config().vocab_size, next(model.parameters()).device
    some = [(7 * i + 3) % vocab for i in range(16)]
    rows = [Row(tuple(some[:4]), tuple(some[4:7])), Row(tuple(some[:4]), tuple(some[8:13])), Row((some[13],), (1, 2))]
    training = model.training
    model.eval()
    try:
        layout = lay_out(rows, device)
        found = run(model, layout)[0, layout.before]
        plain = []
        for row in rows:
            ids = torch.tensor([row.prompt + row.target], device=device)
            plain.append(model(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1])
    finally:
        model.train(training)
    true = torch.cat(plain).float()
    slack = (1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1) * float(true.abs().max())
    return float((found.float() - true).abs().max()) <= slack


def run(model: Any, layout: Layout) -> Tensor:
    """`[1, tokens, vocab]`: the model's logits of a layout."""
    register()
    usual = model.config._attn_implementation
    model.set_attn_implementation(NAME)
    try:
        return model(input_ids=layout.ids, position_ids=layout.positions, use_cache=False, layout=layout).logits
    finally:
        model.set_attn_implementation(usual)
