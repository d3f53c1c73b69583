"""The forward pass: log-probabilities of the completion tokens of rows, and what else an objective requires."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from selftaught.learn.kernels.logits import GRADIENT_SINK, LMHead
from selftaught.learn.kernels.packing import forward_packed, pack_rows, packs_exactly, sliding_window
from selftaught.learn.objectives.base import Batch, Row

HEAD_NAME = "value_head"  # of the submodule, and of its folder beside a policy's weights


def target_logprobs(model: Any, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Log-probability of every completion token, float32.

    Args:
        model: a causal language model of transformers, or a peft model around one.
        rows: each with at least one prompt token.

    Returns:
        `(logprobs, mask)`, both `[rows, longest completion]`; both are 0 at padding (on the right), and the mask
        also at tokens that bear no loss.
    """
    batch = forward_batch(model, rows)
    return batch.logprobs, batch.mask


def forward_batch(
    model: Any, rows: Sequence[Row], requires: Collection[str] = (), sizes: tuple[int, ...] = (),
    probe_statistics: tuple[Tensor, int] | None = None,
) -> Batch:  # fmt: skip
    """Evaluate `rows` and collect the model's outputs and the rows' own features.

    Args:
        rows: each with at least one prompt token; of whole groups, if a loss is to be computed.
        requires: outputs beyond log-probabilities (see `learn.objectives.base.REQUIREMENTS`); those of frozen weights
            must already be with the rows (see `learn.frozen`).
        sizes: rows of each group.
        probe_statistics: passed through to the batch.
    """
    head, targets = hidden_states(model, rows)
    mask = _mask(rows, targets.device)
    features, real = _token_features(rows, mask), mask.bool()
    mask = _bearing_loss(rows, mask)
    wanted = targets[:, None]
    if "teacher" in requires:
        wanted = torch.cat([wanted, features.pop("teacher_ids")[real]], -1)
        features["label"] = _scatter((wanted[:, 1:] == targets[:, None]).float(), real)
    found, entropies = head.logprobs(wanted, entropy="entropy" in requires)
    student = _scatter(found[:, 1:], real) if "teacher" in requires else None
    values = _scatter(getattr(model, HEAD_NAME)(head.hidden.float()), real) if "value" in requires else None
    entropy = None if entropies is None else _scatter(entropies[:, None], real)[..., 0]
    weights = torch.tensor([row.weight for row in rows], device=mask.device)
    logprobs = _scatter(found[:, :1], real)[..., 0]
    numbers = _row_features(rows, mask.device)
    return Batch(logprobs, mask, weights, sizes, numbers, features, entropy, student, values, probe_statistics)


def hidden_states(model: Any, rows: Sequence[Row]) -> tuple[LMHead, Tensor]:
    """The input of the output layer of `model` before every completion token of every row, and those tokens.

    Rows are packed if the model can run them so; else they are padded on the right, which a causal model's real tokens
    never see, so no attention mask is needed. Padding is recognized by length, never by token id.
    """
    device, layer = next(model.parameters()).device, model.get_output_embeddings()
    plain = is_plain_head(model)
    if can_pack(model):
        packed = pack_rows(rows, device)
        with _head_input_at(layer, packed.logit_positions, plain) as seen:
            logits = forward_packed(model, packed)
        targets = packed.targets
    else:
        ids, before = (x.to(device) for x in _padded(rows))
        with _head_input_at(layer, before.flatten().nonzero()[:, 0], plain) as seen:
            logits = model(input_ids=ids, use_cache=False).logits
        targets = ids[:, 1:][before[:, :-1]]
    bias, sink = getattr(layer, "bias", None), getattr(layer, GRADIENT_SINK, None)
    return LMHead(layer.weight, bias, seen[0], None if plain else logits[0], sink), targets


def can_pack(model: Any) -> bool:
    """Whether `model` runs rows without padding; not if a token sees only a window of those before it."""
    return sliding_window(model) is None and packs_exactly(model)


def row_tokens(row: Row) -> int:
    """Prompt and completion tokens of a row."""
    return len(row.prompt) + len(row.completion)


@contextmanager
def _head_input_at(layer: Any, positions: Tensor, plain: bool) -> Iterator[list[Tensor]]:
    """Feed the output layer only the hidden states at `positions`, or none at all if it is `plain`.

    Its logits are then `[1, positions, vocab]`, for any architecture whose last layers work on each token
    alone. The list yielded holds those hidden states, `[positions, width]`, once the model has run.
    """
    seen: list[Tensor] = []

    def select(_: Any, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        seen[:] = [inputs[0].flatten(0, 1)[positions]]
        return (seen[0][None, : 0 if plain else None], *inputs[1:])

    handle = layer.register_forward_pre_hook(select)
    try:
        yield seen
    finally:
        handle.remove()


_plain: WeakKeyDictionary[Any, bool] = WeakKeyDictionary()


def is_plain_head(model: Any) -> bool:
    """Whether the model's logits are its hidden states times a weight, and nothing more; tried once for each model."""
    if model not in _plain:
        layer = model.get_output_embeddings()
        _plain[model] = type(layer) is torch.nn.Linear and _is_product(model, layer)
    return _plain[model]


@torch.no_grad()
def _is_product(model: Any, layer: Any) -> bool:
    ids = torch.arange(4, device=layer.weight.device)[None] % len(layer.weight)
    with _head_input_at(layer, torch.arange(4, device=ids.device), plain=False) as seen:
        logits = model(input_ids=ids, use_cache=False).logits[0]
    return torch.equal(logits, layer(seen[0]))


def _mask(rows: Sequence[Row], device: torch.device) -> Tensor:
    """`[rows, longest completion]`, 1 for a completion token."""
    lengths = torch.tensor([len(row.completion) for row in rows], device=device)
    return (torch.arange(int(lengths.max()), device=device) < lengths[:, None]).float()


def _bearing_loss(rows: Sequence[Row], mask: Tensor) -> Tensor:
    """`mask` without the tokens that bear no loss."""
    if not any(row.loss_mask for row in rows):
        return mask
    bearing = mask.clone()
    for i, row in enumerate(rows):
        if row.loss_mask:
            bearing[i, : len(row.loss_mask)] = torch.tensor(row.loss_mask, dtype=mask.dtype, device=mask.device)
    return bearing


def _padded(rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Token ids, and the positions whose next token is a completion token, both `[rows, longest]`."""
    longest = max(map(row_tokens, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    before = torch.zeros((len(rows), longest), dtype=torch.bool)
    for i, row in enumerate(rows):
        size = row_tokens(row)
        ids[i, :size] = torch.tensor(row.prompt + row.completion)
        before[i, len(row.prompt) - 1 : size - 1] = True
    return ids, before


def _row_features(rows: Sequence[Row], device: torch.device) -> dict[str, Tensor]:
    """`[rows]`, for each feature that every row has."""
    shared = set.intersection(*(set(row.row_features) for row in rows))
    return {name: torch.tensor([row.row_features[name] for row in rows], device=device) for name in shared}


def _token_features(rows: Sequence[Row], mask: Tensor) -> dict[str, Tensor]:
    """For each feature that every row has, padded with 0 to `[rows, tokens, ...]`."""
    found = {}
    for name in set.intersection(*(set(row.token_features) for row in rows)):
        each = [torch.as_tensor(row.token_features[name], device=mask.device) for row in rows]
        kind = torch.float32 if each[0].is_floating_point() else each[0].dtype
        found[name] = torch.zeros((*mask.shape, *each[0].shape[1:]), dtype=kind, device=mask.device)
        for i, values in enumerate(each):
            found[name][i, : len(values)] = values
    return found


def _scatter(values: Tensor, places: Tensor) -> Tensor:
    """Put `values` `[places, k]` at the true places of `[rows, tokens, k]`, 0 elsewhere."""
    whole = values.new_zeros((*places.shape, values.shape[-1]))
    return whole.masked_scatter(places[..., None], values)
