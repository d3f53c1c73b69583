"""Rows of different lengths side by side, without padding, and each prompt once for all rows that share it.

All tokens go through the model as one sequence, `[1, tokens]`; only attention knows where one row ends. It is
computed span by span: a prompt sees itself, a target sees its prompt and itself, and nothing sees another row.
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
"""What an attention function is handed and may pass over; anything else would change its result."""


@dataclass(frozen=True, slots=True)
class PackedRows:
    """Rows as one sequence.

    Attributes:
        ids: `[1, tokens]`; on a processor a few more at the end, to a round number.
        positions: `[1, tokens]`, of each token in its own row.
        spans: in order; every token of a row is in one: a row, or where rows share a prompt that, and each target.
        before: `[targets]`, for each target token of each row the place of the token it follows.
        chosen: `[targets]`, the target tokens.
        bunches: the spans once more, for a processor without a fused kernel that is fast both ways.
    """

    ids: Tensor
    positions: Tensor
    segments: tuple[Segment, ...]
    logit_positions: Tensor
    targets: Tensor
    buckets: SegmentBuckets | None = None


def pack_rows(rows: Sequence[Row], device: torch.device | str = "cpu") -> PackedRows:
    """The layout of `rows`; a prompt equal to that of the row before is not repeated."""
    ids: list[int] = []
    positions: list[int] = []
    before: list[int] = []
    spans: list[Segment] = []
    for prompt, group in groupby(rows, lambda row: row.prompt):
        targets, first = [row.completion[:-1] for row in group], len(ids)  # nothing follows the last token
        ids += prompt
        positions += range(len(prompt))
        last = len(ids)
        for target in targets:
            start = len(ids)
            ids += target
            positions += range(len(prompt), len(prompt) + len(target))
            before += [last - 1, *range(start, len(ids))]
            if target and len(targets) > 1:
                spans.append(Segment(start, len(ids), first, last))
        spans.append(Segment(first, last if len(targets) > 1 else len(ids)))
    spans.sort(key=lambda span: span.start)
    chosen = [token for row in rows for token in row.completion]
    on_cpu = torch.device(device).type == "cpu"
    if on_cpu:  # some that nothing sees, nor they anything: of every shape there is, code is made
        fill = round_up(len(ids)) - len(ids)
        ids += [ids[0]] * fill
        positions += [0] * fill
    here = [torch.tensor(values, dtype=torch.long, device=device) for values in (ids, positions, before, chosen)]
    bunches = bucket_segments(spans, len(ids), here[0].device) if on_cpu else None
    return PackedRows(here[0][None], here[1][None], tuple(spans), here[2], here[3], bunches)


def packed_tokens(rows: Sequence[Row]) -> int:
    """How many tokens `lay_out` makes of `rows`."""
    shared = (i > 0 and rows[i - 1].prompt == row.prompt for i, row in enumerate(rows))
    return sum(
        len(row.completion) - 1 + (0 if known else len(row.prompt)) for row, known in zip(rows, shared, strict=True)
    )


# --- attention ---


def attention_function(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, scaling: float | None = None,
    dropout: float = 0.0, layout: PackedRows | None = None, **more: Any,
) -> tuple[Tensor, None]:  # fmt: skip
    """Attention over a layout, as an attention function of transformers; without one, causal over each row.

    Args:
        query: `[1, heads, tokens, head_dim]`.
        key: `[1, kv_heads, tokens, head_dim]`, `kv_heads` dividing `heads`.
        value: as `key`.

    Raises:
        TypeError: something is asked for that it does not do, as a window, a soft cap or sinks.
    """
    del module, mask
    if odd := [
        n for n, given in more.items() if n not in IGNORED_ARGUMENTS and given is not None and given is not False
    ]:
        raise TypeError(f"attention over rows side by side has no {', '.join(odd)}")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    if layout is None:
        whole = F.scaled_dot_product_attention(
            query, key, value, dropout_p=dropout, is_causal=True, scale=scale, enable_gqa=True
        )
        return whole.transpose(1, 2), None
    q, k, v = query.squeeze(0), key.squeeze(0), value.squeeze(0)
    if layout.buckets is None or dropout:
        found = [_segment_attention(q, k, v, span, scale, dropout) for span in layout.segments]
        if fill := q.shape[1] - layout.segments[-1].end:
            found.append(q.new_zeros(len(q), fill, v.shape[-1]))
        return torch.cat(found, 1).transpose(0, 1)[None], None
    q, k, v = (x.transpose(0, 1).contiguous() for x in (q, k, v))
    return packed_attention(q, k, v, scale, layout.buckets)[None], None


def packed_attention(q: Tensor, k: Tensor, v: Tensor, scale: float, bunches: SegmentBuckets) -> Tensor:
    """What every token of a layout sees, `[tokens, heads, head_dim]`; zeros for what fills up.

    Args:
        q: `[tokens, heads, head_dim]`.
        k: `[tokens, kv_heads, head_dim]`, `kv_heads` dividing `heads`.
        v: as `k`.
    """
    found = bucketed_attention(q, k, v, scale, bunches.buckets)
    q, k, v = (x.transpose(0, 1) for x in (q, k, v))
    for span in bunches.long:
        own = torch.arange(span.start, span.end, device=found.device)
        found = found.index_copy(0, own, _segment_attention(q, k, v, span, scale, 0.0).transpose(0, 1))
    return found


def _segment_attention(q: Tensor, k: Tensor, v: Tensor, span: Segment, scale: float, dropout: float) -> Tensor:
    """`[heads, tokens of the span, head_dim]`: what a span's tokens see, by torch's own attention."""
    own, earlier = slice(span.start, span.end), slice(span.first, span.last)
    keys, values = (torch.cat([x[:, earlier], x[:, own]], 1) for x in (k, v))
    late = torch.ones(span.queries, span.keys, dtype=torch.bool, device=q.device).triu(span.keys - span.queries + 1)
    plain = span.queries == span.keys
    return F.scaled_dot_product_attention(
        q[None, :, own], keys[None], values[None], None if plain else ~late, dropout, is_causal=plain, scale=scale,
        enable_gqa=True,
    )[0]  # fmt: skip


# --- which models can be run so ---


@cache
def register_attention() -> None:
    """Make the attention function known to transformers."""
    from transformers import AttentionInterface, AttentionMaskInterface

    AttentionInterface.register(ATTENTION_NAME, attention_function)
    AttentionMaskInterface.register(ATTENTION_NAME, lambda *_, **__: None)


_known: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def packs_exactly(model: Any) -> bool:
    """Whether `model` computes of a layout what it computes of its rows one by one; tried once for each model."""
    if model not in _known:
        _known[model] = False
        with suppress(RuntimeError, TypeError, ValueError, AttributeError, KeyError, IndexError):
            _known[model] = _is_exact(model)
    return _known[model]


def sliding_window(model: Any) -> int | None:
    """Tokens that a token sees, where that is limited."""
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
    """`[1, tokens, vocab]`: the model's logits of a layout."""
    register_attention()
    usual = model.config._attn_implementation
    model.set_attn_implementation(ATTENTION_NAME)
    try:
        return model(input_ids=layout.ids, position_ids=layout.positions, use_cache=False, layout=layout).logits
    finally:
        model.set_attn_implementation(usual)
