"""Attention of many short spans of tokens at once: those of like length padded together, one product for each bunch.

A span sees itself causally and, before that, the prompt it shares with others. One product over all tokens, hidden from
each other, would grow with their square; one a span costs the processor more in calls than in arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from selftaught.learn.vocabulary import wide

LONG = 1024  # keys from which a span is left alone: its scores are not held whole
WASTE = 2  # at most so many times the scores that are needed
SCORES = 2**18  # most scores of a bunch, per head


@dataclass(frozen=True, slots=True)
class Span:
    """Tokens `start` to `end` that see themselves causally, and before themselves tokens `first` to `last`."""

    start: int
    end: int
    first: int = 0
    last: int = 0

    @property
    def queries(self) -> int:
        """How many tokens it has."""
        return self.end - self.start

    @property
    def keys(self) -> int:
        """How many its last token sees, itself included."""
        return self.queries + self.last - self.first


@dataclass(frozen=True, slots=True)
class Bunch:
    """Spans padded to the same length on the right.

    Attributes:
        queries: `[spans, q]`, the places of their tokens; one past the last token where padded.
        keys: `[spans, k]`, the places of what they see; 0 where padded.
        mask: `[spans, 1, 1, q, k]`, float32, minus infinity where a token does not see another, else 0.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class Bunches:
    """All spans of a layout.

    Attributes:
        bunches: most of them.
        alone: those too long for a bunch.
        back: `[tokens]`, where each token is among those of the bunches, padding included, and of `alone`.
    """

    bunches: tuple[Bunch, ...]
    alone: tuple[Span, ...]
    back: Tensor


def bunched(spans: Sequence[Span], tokens: int, device: torch.device) -> Bunches:
    """Every token of `tokens` is in one of `spans`."""
    short = sorted((s for s in spans if s.keys <= LONG), key=lambda s: (s.keys, s.queries))
    alone = tuple(s for s in spans if s.keys > LONG)
    bunches = tuple(_bunch(some, tokens, device) for some in _alike(short))
    places = [bunch.queries.flatten() for bunch in bunches]
    places += [torch.arange(span.start, span.end, device=device) for span in alone]
    back = torch.empty(tokens + 1, dtype=torch.long, device=device)
    order = torch.cat(places)
    back[order] = torch.arange(len(order), device=device)
    return Bunches(bunches, alone, back[:tokens])


def _alike(spans: list[Span]) -> Iterator[list[Span]]:
    """Those of like length together; takes from the end of `spans`, which ascend."""
    while spans:
        some = [spans.pop()]
        widest, needed = some[0].queries, some[0].queries * some[0].keys
        while spans:
            last = spans[-1]
            queries, need = max(widest, last.queries), needed + last.queries * last.keys
            padded = (len(some) + 1) * queries * some[0].keys
            if padded > min(SCORES, WASTE * need):
                break
            widest, needed = queries, need
            some.append(spans.pop())
        yield some


def _bunch(spans: Sequence[Span], tokens: int, device: torch.device) -> Bunch:
    queries, keys = (max(sizes) for sizes in zip(*((s.queries, s.keys) for s in spans), strict=True))
    rows = [[*range(s.start, s.end), *[tokens] * (queries - s.queries)] for s in spans]
    seen = [[*range(s.first, s.last), *range(s.start, s.end), *[0] * (keys - s.keys)] for s in spans]
    # The i-th token of a span sees what comes before the span and the first i + 1 of its own.
    first = torch.tensor([s.keys - s.queries for s in spans], device=device)[:, None, None]
    place = torch.arange(queries, device=device)[:, None]
    real = torch.tensor([s.queries for s in spans], device=device)[:, None, None]
    most = torch.where(place < real, first + place, 0)  # padding sees one key: no row may be all hidden
    hidden = (torch.arange(keys, device=device) > most)[:, None, None]
    mask = torch.zeros(hidden.shape, device=device).masked_fill_(hidden, -torch.inf)
    return Bunch(torch.tensor(rows, device=device), torch.tensor(seen, device=device), mask)


def attend_bunch(q: Tensor, k: Tensor, v: Tensor, scale: float, bunch: Bunch) -> Tensor:
    """Attention of the spans of a bunch, `[spans * q, heads, head_dim]`; what is said of padding means nothing.

    Args:
        q: `[tokens, heads, head_dim]`.
        k: `[tokens, kv_heads, head_dim]`, `kv_heads` dividing `heads`.
        v: as `k`.
    """
    return _Attention.apply(q, k, v, scale, bunch)  # pyright: ignore[reportReturnType]


class _Attention(torch.autograd.Function):
    """By plain products; scores are computed again for the gradient, so that none is kept."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, bunch: Bunch) -> Tensor:
        ctx.save_for_backward(q, k, v)
        ctx.scale, ctx.bunch = scale, bunch
        rows, keys, values = _rows(q, k, bunch), _seen(k, bunch), _seen(v, bunch)
        return _flat(_shares(rows, keys, scale, bunch).to(v.dtype) @ values, q.shape[1], bunch)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (q, k, v), bunch, scale = ctx.saved_tensors, ctx.bunch, ctx.scale
        rows, keys, values = _rows(q, k, bunch), _seen(k, bunch), _seen(v, bunch)
        of_out = _grouped(gradients[0].view(*bunch.queries.shape, *gradients[0].shape[1:]), k.shape[1])
        shares = _shares(rows, keys, scale, bunch)
        d_v = shares.to(v.dtype).transpose(-1, -2) @ of_out
        d = (of_out @ values.transpose(-1, -2)).to(shares.dtype)
        d = d.sub_((d * shares).sum(-1, keepdim=True)).mul_(shares).mul_(scale).to(k.dtype)
        d_q = q.new_zeros((len(q) + 1, *q.shape[1:]))
        d_q.index_copy_(0, bunch.queries.flatten(), _flat(d @ keys, q.shape[1], bunch))
        return d_q[:-1], _added(k, d.transpose(-1, -2) @ rows, bunch), _added(v, d_v, bunch), None, None


def _rows(q: Tensor, k: Tensor, bunch: Bunch) -> Tensor:
    """`[spans, kv_heads, group * q, head_dim]`: heads that share a key are rows of one product with it."""
    places = bunch.queries.flatten().clamp(max=len(q) - 1)
    return _grouped(q.index_select(0, places).view(*bunch.queries.shape, *q.shape[1:]), k.shape[1])


def _grouped(x: Tensor, kv_heads: int) -> Tensor:
    """From `[spans, q, heads, head_dim]`; see `_rows`."""
    spans, queries, _, dim = x.shape
    return x.view(spans, queries, kv_heads, -1, dim).permute(0, 2, 3, 1, 4).reshape(spans, kv_heads, -1, dim)


def _flat(x: Tensor, heads: int, bunch: Bunch) -> Tensor:
    """`[spans * q, heads, head_dim]` from `[spans, kv_heads, group * q, head_dim]`."""
    spans, queries = bunch.queries.shape
    apart = x.view(spans, x.shape[1], -1, queries, x.shape[-1]).permute(0, 3, 1, 2, 4)
    return apart.reshape(spans * queries, heads, x.shape[-1])


def _seen(x: Tensor, bunch: Bunch) -> Tensor:
    """`[spans, kv_heads, k, head_dim]`."""
    return x.index_select(0, bunch.keys.flatten()).view(*bunch.keys.shape, *x.shape[1:]).transpose(1, 2)


def _added(x: Tensor, gradient: Tensor, bunch: Bunch) -> Tensor:
    """The gradient of `x` from that of `_seen(x)`: a prompt's is the sum over all that see it; of padding it is 0."""
    return torch.zeros_like(x).index_add_(0, bunch.keys.flatten(), gradient.transpose(1, 2).flatten(0, 1))


def _shares(rows: Tensor, keys: Tensor, scale: float, bunch: Bunch) -> Tensor:
    """`[spans, kv_heads, group * q, k]`: softmax of the scores, at least in float32."""
    scores = wide(rows @ keys.transpose(-1, -2))
    spans, _, _, queries, seen = bunch.mask.shape
    apart = scores.view(spans, scores.shape[1], -1, queries, seen)
    torch.add(bunch.mask, apart, alpha=scale, out=apart)
    return scores.softmax(-1)
