"""The trainer: a loop on accelerate that learns any objective and can be killed at any step.

Weights and optimiser state stay in float32 and only matrix products run in bfloat16 (autocast): with
plain bfloat16 weights an AdamW step at a small learning rate rounds to nothing.
"""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.learn.objectives import Objective, Row
from selftaught.learn.training import Training
from selftaught.models.device import pick_dtype

Progress = Callable[[int, int, float], None]
STATE = "state.safetensors"
SHORT = 128  # tokens up to which plain products beat the fused attention kernel of a CPU, whose backward is slow


class TrainingFailed(RuntimeError):
    """The loss or its gradient stopped being a number; the last checkpoint is kept."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training did: optimiser steps, tokens read (prompt and target, every epoch), loss per step."""

    steps: int = 0
    tokens: int = 0
    losses: tuple[float, ...] = ()


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
        TrainingFailed: the loss or its gradient is NaN or infinite.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="no")  # which format to multiply in is decided in `_products`
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(_groups(trained, settings.weight_decay), lr=settings.learning_rate, fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    plan = _plan(len(rows), settings, seed)
    state = _restore(checkpoint, model, optimizer)
    saved = time.monotonic()
    model.train()
    with torch.random.fork_rng(), _attention_for(model, rows):
        for step in range(state.steps, len(plan)):
            torch.manual_seed((seed * 1_000_003 + step) % 2**63)
            _set_rate(optimizer, settings, step, len(plan))
            batch = [rows[i] for i in plan[step]]
            loss = _step(model, optimizer, trained, batch, objective, settings)
            if not math.isfinite(loss):
                where = f"step {step + 1} of {len(plan)} (records {plan[step]})"
                raise TrainingFailed(f"the loss or its gradient is no number at {where}: lower the learning rate")
            state = Outcome(step + 1, state.tokens + sum(map(_size, batch)), (*state.losses, loss))
            progress(step + 1, len(plan), loss)
            if time.monotonic() - saved > settings.checkpoint_seconds and step + 1 < len(plan):
                _save(checkpoint, model, optimizer, state)
                saved = time.monotonic()
    model.eval()
    accelerator.free_memory()
    return state


def _size(row: Row) -> int:
    return len(row.prompt) + len(row.target)


@contextmanager
def _attention_for(model: Any, rows: Sequence[Row]) -> Iterator[None]:
    """Inside, the model attends by plain products where all rows are short."""
    usual = model.config._attn_implementation
    if max(map(_size, rows)) <= SHORT:
        model.set_attn_implementation("eager")
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


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
    for group in optimizer.param_groups:
        group["lr"] = settings.learning_rate * min((step + 1) / rising, shape[settings.schedule])


def _step(
    model: Any, optimizer: Any, trained: list[Tensor], batch: list[Row], objective: Objective, settings: Training
) -> float:
    """One optimiser step over `batch`, in as many forward passes as fit.

    Returns:
        The mean loss per target token; NaN where the gradient is not finite. Then no step was made.
    """
    targets = sum(len(row.target) for row in batch)
    device = trained[0].device.type
    total = 0.0
    with _products(settings.precision, device):  # around all parts, so that weights are cast once a step
        for part in _parts(batch, settings.micro_tokens):
            logprobs, mask = target_logprobs(model, part)
            weights = torch.tensor([row.weight for row in part], device=logprobs.device)
            with torch.autocast(device, enabled=False):
                loss = objective.loss(logprobs, mask, weights) / targets
                loss.backward()
            total += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(trained, settings.clip))
    if math.isfinite(total) and math.isfinite(norm):
        optimizer.step()
    else:
        total = math.nan
    optimizer.zero_grad(set_to_none=True)
    return total


def _products(precision: str, device: str) -> torch.autocast:
    """Matrix products in bfloat16, where that is asked for or fast, over weights that stay in float32."""
    fast = precision == "bf16" or (precision == "auto" and pick_dtype("auto", device) == torch.bfloat16)
    return torch.autocast(device, torch.bfloat16, enabled=fast)


def _parts(batch: list[Row], most: int) -> list[list[Row]]:
    """`batch` in as few parts as have at most `most` tokens each, padded, and those as even as can be."""
    rows = sorted(batch, key=_size)
    fewest = len(_split(rows, most))
    if fewest == 1:
        return [rows]
    limits = sorted({(i + 1) * _size(row) for row in rows for i in range(len(rows))})
    return next(parts for limit in limits if len(parts := _split(rows, limit)) <= fewest)


def _split(rows: list[Row], most: int) -> list[list[Row]]:
    """`rows`, sorted by length, split so that no part, padded, has more than `most` tokens (one row always fits)."""
    parts: list[list[Row]] = []
    for row in rows:
        if parts and (len(parts[-1]) + 1) * _size(row) <= most:
            parts[-1].append(row)
        else:
            parts.append([row])
    return parts


def target_logprobs(model: Any, rows: Sequence[Row]) -> tuple[Tensor, Tensor]:
    """Log-probability of every target token, float32.

    Rows are padded on the right, where a causal model's real tokens never look, so no attention mask is
    needed; what pads is told by length, never by token id. Logits, the widest tensors of all, are
    computed for target tokens only.

    Args:
        model: a causal language model of transformers, or a peft model around one.
        rows: each with at least one prompt token.

    Returns:
        `(logprobs, mask)`, both `[rows, longest target]`; padded places (on the right) are 0 in both.
    """
    device = next(model.parameters()).device
    longest = max(map(_size, rows))
    ids = torch.zeros((len(rows), longest), dtype=torch.long)
    before = torch.zeros((len(rows), longest), dtype=torch.bool)  # places whose next token is a target
    mask = torch.zeros((len(rows), max(len(r.target) for r in rows)))
    for i, row in enumerate(rows):
        size = _size(row)
        ids[i, :size] = torch.tensor(row.prompt + row.target)
        before[i, len(row.prompt) - 1 : size - 1] = True
        mask[i, : len(row.target)] = 1
    ids, before, mask = ids.to(device), before.to(device), mask.to(device)
    with _logits_at(model, before):
        logits = model(input_ids=ids, use_cache=False).logits[0]
    chosen = ids[:, 1:][before[:, :-1]]
    found = -torch.nn.functional.cross_entropy(logits.float(), chosen, reduction="none")
    return torch.zeros_like(mask).masked_scatter(mask.bool(), found), mask


@contextmanager
def _logits_at(model: Any, places: Tensor) -> Iterator[None]:
    """Inside, the model's output layer is fed the hidden states of `places` `[rows, tokens]` only.

    Its logits are then `[1, places, vocab]`, for any architecture whose last layers work on each token alone.
    """

    def select(_: Any, given: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
        return (given[0][places][None], *given[1:])

    handle = model.get_output_embeddings().register_forward_pre_hook(select)
    try:
        yield
    finally:
        handle.remove()


# --- checkpoints: one safetensors file, replaced in one rename; nothing is pickled ---


def _save(folder: Path, model: Any, optimizer: Any, state: Outcome) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    names = {id(p): n for n, p in model.named_parameters()}
    tensors = {f"w.{names[id(p)]}": p.detach() for p in model.parameters() if p.requires_grad}
    for parameter, moments in optimizer.state.items():
        for key, value in moments.items():
            tensors[f"{key}.{names[id(parameter)]}"] = torch.as_tensor(value)
    draft = folder / f"{STATE}.draft"
    save_file({n: t.contiguous() for n, t in tensors.items()}, draft, {"progress": json.dumps(asdict(state))})
    os.replace(draft, folder / STATE)


def _restore(folder: Path, model: Any, optimizer: Any) -> Outcome:
    from safetensors import safe_open

    if not (folder / STATE).is_file():
        return Outcome()
    with safe_open(folder / STATE, framework="pt") as saved:  # pyright: ignore[reportCallIssue]
        known = set(saved.keys())
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.data.copy_(saved.get_tensor(f"w.{name}"))
                moments = [key for key in ("step", "exp_avg", "exp_avg_sq") if f"{key}.{name}" in known]
                if moments:
                    where = parameter.device
                    optimizer.state[parameter] = {k: saved.get_tensor(f"{k}.{name}").to(where) for k in moments}
        done = json.loads(saved.metadata()["progress"])
    return Outcome(done["steps"], done["tokens"], tuple(done["losses"]))
