"""Packing: rows of different lengths as one sequence, without padding, and each shared prompt once.

All tokens go through the model as one sequence, `[1, tokens]`; only attention knows where a row ends. It is computed
segment by segment: a prompt attends to itself, a completion to its prompt and itself, and nothing to another row.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from selftaught.learn.kernels.segments import Segment, SegmentBuckets, bucket_segments, bucketed_attention, round_up
from selftaught.learn.objectives.base import Row

ATTENTION_NAME = "selftaught_packed"  # of the attention function, as transformers knows it
IGNORED_ARGUMENTS = frozenset(
    ("position_ids", "cache_position", "use_cache", "is_causal", "output_attentions", "output_hidden_states",
     "return_dict", "logits_to_keep", "num_items_in_batch")
)  # fmt: skip
"""Arguments that an attention function may ignore; any other would change its result."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows packed into one sequence.

    Attributes:
        ids: `[1, tokens]`; on a CPU with a few more at the end, to a round number.
        positions: `[1, tokens]`, of each token in its own row.
        segments: in order; each is a row, or, if rows share a prompt, the prompt or a completion.
        logit_positions: `[targets]`, position of the token before each completion token of each row.
        targets: `[targets]`, the completion tokens.
        buckets: the segments in buckets, for a CPU, which has no fused kernel that is fast in both passes.
    """

    ids: Tensor
    positions: Tensor
    segments: tuple[Segment, ...]
    logit_positions: Tensor
    targets: Tensor
    buckets: SegmentBuckets | None = None


def pack_rows(rows: Sequence[Row], device: torch.device | str = "cpu") -> PackedRows:
    """Pack `rows`; a prompt equal to that of the row before is not repeated."""
    ids: list[int] = []
    positions: list[int] = []
    before: list[int] = []
    segments: list[Segment] = []
    for prompt, group in groupby(rows, lambda row: row.prompt):
        targets, first = [row.completion[:-1] for row in group], len(ids)  # the last token predicts nothing
        ids += prompt
        positions += range(len(prompt))
        last = len(ids)
        for target in targets:
            start = len(ids)
            ids += target
            positions += range(len(prompt), len(prompt) + len(target))
            before += [last - 1, *range(start, len(ids))]
            if target and len(targets) > 1:
                segments.append(Segment(start, len(ids), first, last))
        segments.append(Segment(first, last if len(targets) > 1 else len(ids)))
    segments.sort(key=lambda segment: segment.start)
    chosen = [token for row in rows for token in row.completion]
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu:  # tokens that attend to nothing: the CPU library compiles code for every shape
        fill = round_up(len(ids)) - len(ids)
        ids += [ids[0]] * fill
        positions += [0] * fill
    here = [torch.tensor(values, dtype=torch.long, device=device) for values in (ids, positions, before, chosen)]
    buckets = bucket_segments(segments, len(ids), here[0].device) if on_cpu else None
    return PackedRows(here[0][None], here[1][None], tuple(segments), here[2], here[3], buckets)


def packed_tokens(rows: Sequence[Row]) -> int:
    """The number of tokens of `rows` when packed."""
    shared = (i > 0 and rows[i - 1].prompt == row.prompt for i, row in enumerate(rows))
    return sum(
        len(row.completion) - 1 + (0 if known else len(row.prompt)) for row, known in zip(rows, shared, strict=True)
    )


# --- attention ---


def attention_function(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, scaling: float | None = None,
    dropout: float = 0.0, layout: PackedRows | None = None, **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention over packed rows, as an attention function of transformers; without `layout`, causal over each row.

    Args:
        query: `[1, heads, tokens, head_dim]`.
        key: `[1, kv_heads, tokens, head_dim]`, `kv_heads` dividing `heads`.
        value: as `key`.

    Raises:
        TypeError: an argument that it does not support, such as a window, a soft cap or sinks.
    """
    del module, mask
    if odd := [
        n for n, given in more.items() if n not in IGNORED_ARGUMENTS and given is not None and given is not False
    ]:
        raise TypeError(f"attention over packed rows does not support {', '.join(odd)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        whole = F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=True
        )
        return whole.transpose(1, 2), None
    q, k, v = query.squeeze(0), key.squeeze(0), value.squeeze(0)
    if layout.buckets is None or dropout:
        found = [_segment_attention(q, k, v, segment, scale, dropout) for segment in layout.segments]
        if fill := q.shape[1] - layout.segments[-1].end:
            found.append(q.new_zeros(len(q), fill, v.shape[-1]))
        return torch.cat(found, 1).transpose(0, 1)[None], None
    q, k, v = (x.transpose(0, 1).contiguous() for x in (q, k, v))
    return packed_attention(q, k, v, scale, layout.buckets)[None], None


def packed_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, buckets: SegmentBuckets) -> Tensor:
    """Attention output of every packed token, `[tokens, heads, head_dim]`; zeros for filler tokens.

    Args:
        q: `[tokens, heads, head_dim]`.
        k: `[tokens, kv_heads, head_dim]`, `kv_heads` dividing `heads`.
        v: as `k`.
    """
    found = bucketed_attention(q, k, v, scale, buckets.buckets)
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    for segment in buckets.long:
        own = torch.arange(segment.start, segment.end, device=found.device)
        found = found.index_copy(0, own, _segment_attention(q, k, v, segment, scale, 0.0).transpose(0, 1))
    return found


def _segment_attention(q: Tensor, k: Tensor, v: Tensor, segment: Segment, scale: float, dropout: float) -> Tensor:
    """Attention output of a segment's tokens, `[heads, tokens, head_dim]`, by torch's own attention."""
    own, earlier = slice(segment.start, segment.end), slice(segment.first, segment.last)
    keys, values = (torch.cat([x[:, earlier], x[:, own]], 1) for x in (k, v))
    late = torch.ones(segment.queries, segment.keys, dtype=torch.bool, device=q.device).triu(
        segment.keys - segment.queries + 1
    )
    plain = segment.queries == segment.keys
    return F.scaled_dot_product_attention(
        q[None, :, own], keys[None], values[None], None if plain else ~late, dropout, is_causal=plain, scale=scale,
        enable_gqa=True,
    )[0]  # fmt: skip


# --- which models can be packed ---


@cache
def register_attention() -> None:
    """Register the attention function with transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, attention_function)
    AttentionMaskInterface.register(ATTENTION_NAME, lambda *_, **__: None)


_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def packs_exactly(model: Any) -> bool:
    """Whether `model` computes the same logits for packed rows as one by one; tried once for each model."""
    if model not in _known:
        _known[model] = False
        with suppress(RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):
            _known[model] = _is_exact(model)
    return _known[model]


def sliding_window(model: Any) -> int | None:
    """The number of tokens that a token attends to, if limited."""
    config = model.config.get_text_config()
    return getattr(config, "sliding_window", None) if getattr(config, "use_sliding_window", True) else None


@torch.no_grad()
def _is_exact(model: Any) -> bool:
    vocab, device = model.config.get_text_config().vocab_size, next(model.parameters()).device
    some = [(7 * i + 3) % vocab for i in range(16)]
    rows = [Row(tuple(some[:4]), tuple(some[4:7])), Row(tuple(some[:4]), tuple(some[8:13])), Row((some[13],), (1, 2))]
    training = model.training
    model.eval()
    try:
        layout = pack_rows(rows, device)
        found = forward_packed(model, layout)[0, layout.logit_positions]
        plain = []
        for row in rows:
            ids = torch.tensor([row.prompt + row.completion], device=device)
            plain.append(model(input_ids=ids, use_cache=False).logits[0, len(row.prompt) - 1 : -1])
    finally:
        model.train(training)
    true = torch.cat(plain).float()
    slack = (1e-3 if next(model.parameters()).dtype == torch.float32 else 0.1) * float(true.abs().max())
    return float((found.float() - true).abs().max()) <= slack


def forward_packed(model: Any, layout: PackedRows) -> Tensor:
    """`[1, tokens, vocab]`: the model's logits of packed rows."""
    register_attention()
    usual = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION_NAME)
    try:
        return model(input_ids=layout.ids, position_ids=layout.positions, use_cache=False, layout=layout).logits
    finally:
        model.set_attn_implementation(usual)
