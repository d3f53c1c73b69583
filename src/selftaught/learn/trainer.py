"""The trainer: a loop on accelerate that learns any objective and can be killed at any step.

Weights and optimiser state stay in float32 and only matrix products run in bfloat16 (autocast): with
plain bfloat16 weights an AdamW step at a small learning rate rounds to nothing.
"""

from __future__ import annotations

import json
import math
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.engines.local import pick_dtype
from selftaught.errors import BadInput
from selftaught.learn.objectives import Objective, Row
from selftaught.learn.training import Training

Progress = Callable[[int, int, float], None]


class TrainingFailed(RuntimeError):
    """The loss stopped being a number; the weights before the step are kept in the last checkpoint."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training did: optimiser steps, tokens read (prompt and target, every epoch), loss per step."""

    steps: int
    tokens: int
    losses: tuple[float, ...]


def train(
    model: Any, rows: Sequence[Row], objective: Objective, settings: Training, *, seed: int, checkpoint: Path,
    progress: Progress = lambda *_: None,
) -> Outcome:  # fmt: skip
    """Train `model` in place, resuming from `checkpoint` where it holds one.

    Args:
        model: a causal language model of transformers, or a peft model around one, in float32.
        rows: what to train on; not empty.
        seed: of the order of the rows and of dropout; a resumed training sees the same order.
        checkpoint: folder for the state of an interrupted training.
        progress: called after each step with steps done, steps in all, and the loss.

    Raises:
        TrainingFailed: the loss is NaN or infinite.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision=_precision(settings.precision))
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(_groups(trained, settings.weight_decay), lr=settings.learning_rate)
    model, optimizer = accelerator.prepare(model, optimizer)
    model.train()
    plan = _plan(len(rows), settings, seed)
    state = _restore(checkpoint, model, optimizer)
    saved = time.monotonic()
    for step in range(state.steps, len(plan)):
        torch.manual_seed(seed * 1_000_003 + step)
        _set_rate(optimizer, settings, step, len(plan))
        batch = [rows[i] for i in plan[step]]
        loss = _step(accelerator, model, optimizer, trained, batch, objective, settings)
        if not math.isfinite(loss):
            raise TrainingFailed(
                f"the loss is {loss} at step {step + 1} of {len(plan)} (records {plan[step]}): lower the learning rate"
            )
        tokens = state.tokens + sum(len(r.prompt) + len(r.target) for r in batch)
        state = Outcome(step + 1, tokens, (*state.losses, loss))
        progress(step + 1, len(plan), loss)
        if time.monotonic() - saved > settings.checkpoint_seconds and step + 1 < len(plan):
            _save(checkpoint, model, optimizer, state)
            saved = time.monotonic()
    model.eval()
    return state


def _precision(name: str) -> str:
    if name not in ("auto", "bf16", "float32"):
        raise BadInput(f"unknown precision {name!r}", where="precision", fix="use auto, bf16 or float32")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    fast = name == "bf16" or (name == "auto" and pick_dtype("auto", device) == torch.bfloat16)
    return "bf16" if fast else "no"


def _groups(parameters: list[Tensor], decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.dim() >= 2]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def _plan(count: int, settings: Training, seed: int) -> list[list[int]]:
    """The rows of each optimiser step: every epoch a fresh seeded order, its last step may be short."""
    order = random.Random(seed)
    plan = []
    for _ in range(settings.epochs):
        epoch = list(range(count))
        order.shuffle(epoch)
        plan += [epoch[i : i + settings.batch] for i in range(0, count, settings.batch)]
    return plan


def _set_rate(optimizer: Any, settings: Training, step: int, total: int) -> None:
    rising = max(1, round(settings.warmup * total))
    done = min(1.0, max(0, step - rising) / max(1, total - rising))
    shape = {"cosine": 0.5 * (1 + math.cos(math.pi * done)), "linear": 1 - done, "constant": 1.0}
    if settings.schedule not in shape:
        raise BadInput(f"unknown schedule {settings.schedule!r}", where="schedule", fix=f"use {', '.join(shape)}")
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * min((step + 1) / rising, shape[settings.schedule])


def _step(
    accelerator: Any, model: Any, optimizer: Any, trained: list[Tensor], batch: list[Row], objective: Objective,
    settings: Training,
) -> float:  # fmt: skip
    """One optimiser step over `batch`, in as many forward passes as fit; returns the mean loss per token."""
    targets = sum(len(row.target) for row in batch)
    total = 0.0
    for part in _parts(batch, settings.micro_tokens):
        with accelerator.autocast():
            logprobs, mask = target_logprobs(model, part)
        weights = torch.tensor([row.weight for row in part], device=logprobs.device)
        loss = objective.loss(logprobs, mask, weights) / targets
        accelerator.backward(loss)
        total += float(loss.detach())
    if math.isfinite(total):
        torch.nn.utils.clip_grad_norm_(trained, settings.clip)
        optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    return total


def _parts(batch: list[Row], most: int) -> list[list[Row]]:
    """`batch` sorted by length and split so that no part, padded, has more than `most` tokens."""
    parts: list[list[Row]] = []
    for row in sorted(batch, key=lambda r: len(r.prompt) + len(r.target)):
        size = len(row.prompt) + len(row.target)
        if parts and (len(parts[-1]) + 1) * size <= most:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def target_logprobs(model: Any, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Log-probability of every target token, float32.

    Rows are padded on the left, so that all targets end in the same column and logits are computed for
    the last columns only; what pads is told by length, never by token id.

    Returns:
        `(logprobs, mask)`, both `[rows, longest target]`; padded places (on the left) are 0 in both.
    """
    device = next(model.parameters()).device
    longest = max(len(r.prompt) + len(r.target) for r in rows)
    wide = max(len(r.target) for r in rows)
    ids = torch.zeros((len(rows), longest), dtype=torch.long, device=device)
    seen = torch.zeros_like(ids)
    mask = torch.zeros((len(rows), wide), device=device)
    for i, row in enumerate(rows):
        tokens = torch.tensor(row.prompt + row.target, device=device)
        ids[i, longest - len(tokens) :] = tokens
        seen[i, longest - len(tokens) :] = 1
        mask[i, wide - len(row.target) :] = 1
    positions = (seen.cumsum(-1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids, attention_mask=seen, position_ids=positions, use_cache=False, logits_to_keep=wide + 1
    ).logits[:, :-1]
    chosen = ids[:, longest - wide :]
    logprobs = -torch.nn.functional.cross_entropy(
        logits.float().flatten(0, 1), chosen.flatten(), reduction="none"
    ).view(chosen.shape)
    return logprobs * mask, mask


# --- checkpoints: safetensors and JSON, as everywhere; nothing is pickled ---


def _save(folder: Path, model: Any, optimizer: Any, state: Outcome) -> None:
    from safetensors.torch import save_file

    draft = folder.with_name(folder.name + ".draft")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    names = {id(p): n for n, p in model.named_parameters()}
    tensors = {f"w.{names[id(p)]}": p.detach() for p in model.parameters() if p.requires_grad}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
    save_file({n: t.contiguous() for n, t in tensors.items()}, draft / "state.safetensors")
    progress = {"steps": state.steps, "tokens": state.tokens, "losses": state.losses}
    (draft / "progress.json").write_text(json.dumps(progress), "utf-8")
    shutil.rmtree(folder, ignore_errors=True)
    os.replace(draft, folder)


def _restore(folder: Path, model: Any, optimizer: Any) -> Outcome:
    from safetensors.torch import load_file

    if not (folder / "progress.json").is_file():
        return Outcome(0, 0, ())
    tensors = load_file(folder / "state.safetensors")
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(tensors[f"w.{name}"])
            moments = {k: tensors[f"{k}.{name}"] for k in ("step", "exp_avg", "exp_avg_sq") if f"{k}.{name}" in tensors}
            if moments:
                optimizer.state[parameter] = moments
    done = json.loads((folder / "progress.json").read_text("utf-8"))
    return Outcome(done["steps"], done["tokens"], tuple(done["losses"]))
