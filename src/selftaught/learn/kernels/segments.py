"""Attention over many short segments of tokens: segments of similar length are padded into buckets, one product each.

A segment attends to itself causally and to the prompt that it weights with others. One masked product over all tokens
would grow with their square; one per segment costs a CPU more in calls than in arithmetic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

LONG_SEGMENT = 1024  # keys from which a segment gets no bucket: its scores are not stored whole
MAX_PADDING = 2  # most padded scores per score needed
MAX_SCORES = 2**18  # most scores of a bucket, per head
SIZE_MULTIPLE = 16  # of sizes: the CPU library compiles and keeps code for every shape
MAX_SAVED_KEYS = 512  # keys up to which attention weights are saved for the backward pass


@dataclass(frozen=True, slots=True)
class Segment:
    """Tokens `start` to `end`, which attend to themselves causally and to tokens `first` to `last` before them."""

    start: int
    end: int
    first: int = 0
    last: int = 0

    @property
    def queries(self) -> int:
        """The number of its tokens."""
        return self.end - self.start

    @property
    def keys(self) -> int:
        """The number of tokens that its last token attends to, itself included."""
        return self.queries + self.last - self.first


@dataclass(frozen=True, slots=True)
class SegmentBucket:
    """Segments padded to the same length on the right.

    Attributes:
        queries: `[segments, q]`, positions of their tokens; one past the last token at padding.
        keys: `[segments, k]`, positions of what they attend to; 0 at padding.
        mask: `[segments, 1, 1, q, k]`, bfloat16, minus infinity where attention is masked, else 0.
    """

    queries: Tensor
    keys: Tensor
    mask: Tensor


@dataclass(frozen=True, slots=True)
class SegmentBuckets:
    """All segments of packed rows.

    Attributes:
        buckets: of most segments.
        long: segments too long for a bucket.
    """

    buckets: tuple[SegmentBucket, ...]
    long: tuple[Segment, ...]


def bucket_segments(segments: Sequence[Segment], tokens: int, device: torch.device) -> SegmentBuckets:
    """Sort the segments of a sequence of `tokens` tokens into buckets."""
    short = sorted((s for s in segments if s.keys <= LONG_SEGMENT), key=lambda s: (s.keys, s.queries))
    alone = tuple(s for s in segments if s.keys > LONG_SEGMENT)
    return SegmentBuckets(tuple(_make_bucket(some, tokens, device) for some in _similar_lengths(short)), alone)


def round_up(size: int) -> int:
    """The next multiple of `ROUND`."""
    return -(-size // SIZE_MULTIPLE) * SIZE_MULTIPLE


def _similar_lengths(segments: list[Segment]) -> Iterator[list[Segment]]:
    """Yield segments of similar length together; takes from the end of the ascending `segments`."""
    while segments:
        some = [segments.pop()]
        widest, keys = round_up(some[0].queries), round_up(some[0].keys)
        needed = widest * keys
        while segments:
            last = segments[-1]
            own = round_up(last.queries)
            queries, need = max(widest, own), needed + own * round_up(last.keys)
            if (len(some) + 1) * queries * keys > min(MAX_SCORES, MAX_PADDING * need):
                break
            widest, needed = queries, need
            some.append(segments.pop())
        yield some


def _make_bucket(segments: Sequence[Segment], tokens: int, device: torch.device) -> SegmentBucket:
    queries, keys = (round_up(max(sizes)) for sizes in zip(*((s.queries, s.keys) for s in segments), strict=True))
    rows = [[*range(s.start, s.end), *[tokens] * (queries - s.queries)] for s in segments]
    seen = [[*range(s.first, s.last), *range(s.start, s.end), *[0] * (keys - s.keys)] for s in segments]
    # The i-th token of a segment attends to the tokens before the segment and the first i + 1 of its own.
    first = torch.tensor([s.keys - s.queries for s in segments], device=device)[:, None, None]
    place = torch.arange(queries, device=device)[:, None]
    real = torch.tensor([s.queries for s in segments], device=device)[:, None, None]
    most = torch.where(place < real, first + place, 0)  # padding attends to one key: no row may be fully masked
    hidden = (torch.arange(keys, device=device) > most)[:, None, None]
    mask = torch.zeros(hidden.shape, dtype=torch.bfloat16, device=device).masked_fill_(hidden, -torch.inf)
    return SegmentBucket(torch.tensor(rows, device=device), torch.tensor(seen, device=device), mask)


def bucketed_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, buckets: Sequence[SegmentBucket]) -> Tensor:
    """Attention output of the tokens of all buckets, `[tokens, heads, head_dim]`; zeros for others.

    Args:
        q: `[tokens, heads, head_dim]`.
        k: `[tokens, kv_heads, head_dim]`, `kv_heads` dividing `heads`.
        v: as `k`.
    """
    return _Attention.apply(q, k, v, scale, buckets)  # pyright: ignore[reportReturnType]


class _Attention(torch.autograd.Function):
    """By plain products; the weights of segments with many keys are recomputed in the backward pass, not saved."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, scale: float, buckets: Sequence[SegmentBucket]) -> Tensor:
        found, kept = q.new_zeros((len(q) + 1, q.shape[1], v.shape[-1])), []
        for bucket in buckets:
            weights = _attention_weights(_rows(q, k, bucket), _gather_keys(k, bucket), scale, bucket)
            found.index_copy_(0, bucket.queries.flatten(), _flat(weights @ _gather_keys(v, bucket), q.shape[1], bucket))
            kept.append(weights if bucket.keys.shape[1] <= MAX_SAVED_KEYS else None)
        ctx.save_for_backward(q, k, v, *kept)
        ctx.scale, ctx.buckets = scale, buckets
        return found[:-1]

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, *kept = ctx.saved_tensors
        of_found = F.pad(gradients[0], (0, 0, 0, 0, 0, 1))  # padding has no gradient
        d_q, d_k, d_v = q.new_zeros((len(q) + 1, *q.shape[1:])), torch.zeros_like(k), torch.zeros_like(v)
        for bucket, weights in zip(ctx.buckets, kept, strict=True):
            rows, keys, of_out = _rows(q, k, bucket), _gather_keys(k, bucket), _rows(of_found, k, bucket)
            weights = _attention_weights(rows, keys, ctx.scale, bucket) if weights is None else weights
            d = of_out @ _gather_keys(v, bucket).transpose(-1, -2)
            d = torch.ops.aten._softmax_backward_data(d, weights, -1, d.dtype)
            d_q.index_copy_(0, bucket.queries.flatten(), _flat((d @ keys).mul_(ctx.scale), q.shape[1], bucket))
            _scatter_keys(d_k, (d.transpose(-1, -2) @ rows).mul_(ctx.scale), bucket)
            _scatter_keys(d_v, weights.transpose(-1, -2) @ of_out, bucket)
        return d_q[:-1], d_k, d_v, None, None


def _rows(x: Tensor, k: Tensor, bucket: SegmentBucket) -> Tensor:
    """`[segments, kv_heads, group * q, head_dim]`: heads that share a key are rows of one product."""
    segments, queries = bucket.queries.shape
    some = x.index_select(0, bucket.queries.flatten().clamp(max=len(x) - 1))  # padding takes any row
    apart = some.view(segments, queries, k.shape[1], -1, x.shape[-1])
    return apart.permute(0, 2, 3, 1, 4).reshape(segments, k.shape[1], -1, x.shape[-1])


def _flat(x: Tensor, heads: int, bucket: SegmentBucket) -> Tensor:
    """`[segments * q, heads, head_dim]` from `[segments, kv_heads, group * q, head_dim]`."""
    segments, queries = bucket.queries.shape
    apart = x.view(segments, x.shape[1], -1, queries, x.shape[-1]).permute(0, 3, 1, 2, 4)
    return apart.reshape(segments * queries, heads, x.shape[-1])


def _gather_keys(x: Tensor, bucket: SegmentBucket) -> Tensor:
    """`[segments, kv_heads, k, head_dim]`."""
    return x.index_select(0, bucket.keys.flatten()).view(*bucket.keys.shape, *x.shape[1:]).transpose(1, 2)


def _scatter_keys(whole: Tensor, gradient: Tensor, bucket: SegmentBucket) -> None:
    """Add the gradient of the gathered keys to that of all tokens; a shared prompt's is a sum, padding's is 0."""
    whole.index_add_(0, bucket.keys.flatten(), gradient.transpose(1, 2).flatten(0, 1))


def _attention_weights(rows: Tensor, keys: Tensor, scale: float, bucket: SegmentBucket) -> Tensor:
    """`[segments, kv_heads, group * q, k]`: softmax of the scores, which torch sums at least in float32."""
    scores = (rows * scale) @ keys.transpose(-1, -2)
    segments, _, _, queries, seen = bucket.mask.shape
    scores.view(segments, scores.shape[1], -1, queries, seen).add_(bucket.mask.to(scores.dtype))
    return scores.softmax(-1)
