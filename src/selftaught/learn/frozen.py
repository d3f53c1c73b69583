"""Outputs of frozen weights for rows: log-probabilities of a reference, and distributions of a teacher."""

from __future__ import annotations

import os
from collections.abc import Collection, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.learn.forward import hidden_states, row_tokens
from selftaught.learn.kernels.fused import fused_kernels
from selftaught.learn.objectives.base import FROZEN_OUTPUTS, Group, Row
from selftaught.models.load import load_errors

CACHE_FILE = "frozen.safetensors"


def with_frozen_logprobs(
    model: Any, groups: Sequence[Group], requires: Collection[str], max_tokens: int, *, top_k: int = 0,
    cache: Path | None = None,
) -> Sequence[Group]:  # fmt: skip
    """Add to the rows of `groups` what `requires` names of frozen weights, computed by `model` with its adapter off.

    Args:
        requires: of these "reference", "initial" and "teacher" are added, unless all rows have them.
        max_tokens: most padded tokens in one forward pass; one group always fits.
        top_k: number of likeliest tokens kept of the teacher's distribution; 0 for the whole vocabulary.
        cache: folder that keeps the results, so that a resumed training need not compute them again.
    """
    rows = [row for group in groups for row in group]
    names = [n for n in FROZEN_OUTPUTS if n in requires and not all(n in row.token_features for row in rows)]
    if not names:
        return groups
    found = _read_cache(cache, len(rows)) or _frozen_logprobs(model, groups, names, max_tokens, top_k)
    if cache:
        _write_cache(cache, found)
    filled = iter(
        [
            replace(row, token_features={**row.token_features, **outputs})
            for row, outputs in zip(rows, found, strict=True)
        ]
    )
    return [tuple(next(filled) for _ in group) for group in groups]


def _frozen_logprobs(
    model: Any, groups: Sequence[Group], names: Collection[str], max_tokens: int, top_k: int
) -> list[dict[str, Tensor]]:
    """The outputs of `model` for each row, in chunks of groups of similar length."""
    plain = [[_for_reference(row) for row in group] for group in groups]
    found: list[list[dict[str, Tensor]]] = [[] for _ in groups]
    order = sorted(range(len(groups)), key=lambda i: max((row_tokens(row) for row in plain[i]), default=0))
    off = model.disable_adapter() if hasattr(model, "disable_adapter") else nullcontext()
    was_training = model.training
    model.eval()
    with torch.no_grad(), off, fused_kernels(model):  # as in training, or rounding would make a difference
        for part in _chunks(plain, order, max_tokens):
            outputs = iter(_score_rows(model, [row for i in part for row in plain[i]], names, top_k))
            for i in part:
                found[i] = [next(outputs) for _ in plain[i]]
    model.train(was_training)
    return [outputs for group in found for outputs in group]


def _for_reference(row: Row) -> Row:
    return replace(row, prompt=row.reference_prompt or row.prompt, row_features={}, token_features={})


def _chunks(groups: Sequence[Sequence[Row]], order: Sequence[int], max_tokens: int) -> Iterator[list[int]]:
    part: list[int] = []
    held = 0
    for i in order:
        rows = len(groups[i])
        if part and (held + rows) * max(map(row_tokens, groups[i]), default=0) > max_tokens:
            yield part
            part, held = [], 0
        if rows:
            part.append(i)
            held += rows
    if part:
        yield part


def _score_rows(model: Any, rows: Sequence[Row], names: Collection[str], top_k: int) -> list[dict[str, Tensor]]:
    head, targets = hidden_states(model, rows)
    outputs: dict[str, Tensor] = {}
    if "reference" in names or "initial" in names:
        logprobs = head.logprobs(targets[:, None])[0][:, 0].cpu()
        outputs |= {name: logprobs for name in ("reference", "initial") if name in names}
    if "teacher" in names:
        count = min(top_k or len(head.weight), len(head.weight))
        tops = [logits.log_softmax(-1).topk(count) for _, logits in head.chunks()]
        outputs |= {"teacher": torch.cat([top.values.cpu() for top in tops])}
        outputs |= {"teacher_ids": torch.cat([top.indices.cpu() for top in tops])}
    lengths = [len(row.completion) for row in rows]
    split = {name: values.split(lengths) for name, values in outputs.items()}
    return [{name: parts[i].clone() for name, parts in split.items()} for i in range(len(rows))]


def _read_cache(folder: Path | None, count: int) -> list[dict[str, Tensor]] | None:
    from safetensors.torch import load_file

    if folder is None or not (folder / CACHE_FILE).is_file():
        return None
    found: list[dict[str, Tensor]] = [{} for _ in range(count)]
    with load_errors(folder / CACHE_FILE, "the log-probabilities kept", "delete the file, and they are read anew"):
        for key, values in load_file(folder / CACHE_FILE).items():
            name, _, i = key.rpartition(".")
            found[int(i)][name] = values
    return found


def _write_cache(folder: Path, found: Sequence[dict[str, Tensor]]) -> None:
    from safetensors.torch import save_file

    if (folder / CACHE_FILE).is_file():
        return
    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / "frozen.draft"
    # equal tensors under two names are one in memory, which safetensors refuses to save
    save_file({f"{name}.{i}": t.clone() for i, outputs in enumerate(found) for name, t in outputs.items()}, draft)
    os.replace(draft, folder / CACHE_FILE)
