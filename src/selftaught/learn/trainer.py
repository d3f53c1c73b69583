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
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.learn.forward import add_head, anchored, evaluate, products
from selftaught.learn.objectives.base import Group, Objective, Row
from selftaught.learn.training import Training

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
    model: Any, groups: Sequence[Group], objective: Objective, settings: Training, *, seed: int, checkpoint: Path,
    progress: Progress = lambda *_: None, head: Path | None = None,
) -> Outcome:  # fmt: skip
    """Train `model` in place, resuming from `checkpoint` where it holds one.

    Args:
        model: a causal language model of transformers, or a peft model around one, in float32.
        groups: what to train on, rows that belong together; not empty. What the objective needs of frozen
            weights and the rows lack is asked of `model` as it comes in.
        seed: of the order of the groups and of dropout; a resumed training sees the same order.
        checkpoint: folder for the state of an interrupted training.
        progress: called after each step with steps done, steps in all, and the loss.
        head: folder of a policy whose value head to go on from, for objectives that train one.

    Raises:
        TrainingFailed: the loss or its gradient is NaN or infinite.
    """
    from accelerate import Accelerator

    accelerator = Accelerator(mixed_precision="no")  # which format to multiply in is decided in `products`
    rows = [row for group in groups for row in group]
    needs = objective.needs(rows)
    groups = _ready(model, groups, rows, objective, settings, checkpoint, head)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(_groups(trained, settings.weight_decay), lr=settings.learning_rate, fused=True)
    model, optimizer = accelerator.prepare(model, optimizer)
    plan = _plan(len(groups), settings, seed)
    state = _restore(checkpoint, model, optimizer)
    saved = time.monotonic()
    model.train()
    with torch.random.fork_rng(), _attention_for(model, rows):
        for step in range(state.steps, len(plan)):
            torch.manual_seed((seed * 1_000_003 + step) % 2**63)
            _set_rate(optimizer, settings, step, len(plan))
            batch = [groups[i] for i in plan[step]]
            loss = _step(model, optimizer, trained, batch, objective, settings, needs)
            if not math.isfinite(loss):
                where = f"step {step + 1} of {len(plan)} (records {plan[step]})"
                raise TrainingFailed(f"the loss or its gradient is no number at {where}: lower the learning rate")
            read = sum(_size(row) for group in batch for row in group)
            state = Outcome(step + 1, state.tokens + read, (*state.losses, loss))
            progress(step + 1, len(plan), loss)
            if time.monotonic() - saved > settings.checkpoint_seconds and step + 1 < len(plan):
                _save(checkpoint, model, optimizer, state)
                saved = time.monotonic()
    model.eval()
    accelerator.free_memory()
    return state


def _ready(
    model: Any, groups: Sequence[Group], rows: Sequence[Row], objective: Objective, settings: Training, cache: Path,
    head: Path | None,
) -> Sequence[Group]:  # fmt: skip
    """`groups` with what frozen weights say of them; the model gets a head if the objective needs one."""
    needs, top_k = objective.needs(rows), getattr(objective, "top_k", 0)
    with products(settings.precision, next(model.parameters()).device.type), _attention_for(model, rows):
        groups = anchored(model, groups, needs, settings.micro_tokens, top_k=top_k, cache=cache)
    if "value" in needs:
        add_head(model, getattr(objective, "outputs", 1), head)
    return groups


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
    model: Any, optimizer: Any, trained: list[Tensor], batch: list[Group], objective: Objective, settings: Training,
    needs: Collection[str] = (),
) -> float:  # fmt: skip
    """One optimiser step over `batch`, in as many forward passes as fit.

    Returns:
        The mean loss (see `Objective.size`); NaN where the gradient is not finite. Then no step was made.
    """
    size = sum(map(objective.size, batch))
    device = trained[0].device.type
    total = 0.0
    with products(settings.precision, device):  # around all parts, so that weights are cast once a step
        survey = _survey(model, batch, objective, settings, needs)
        learnt = [tuple(row for row in group if not row.probe) for group in batch]
        for part in _parts(learnt, settings.micro_tokens):
            rows = [row for group in part for row in group]
            seen = evaluate(model, rows, needs, tuple(map(len, part)), survey)
            with torch.autocast(device, enabled=False):
                loss = objective.loss(seen) / size
                loss.backward()
            total += float(loss.detach())
    norm = float(torch.nn.utils.clip_grad_norm_(trained, settings.clip))
    if math.isfinite(total) and math.isfinite(norm):
        optimizer.step()
    else:
        total = math.nan
    optimizer.zero_grad(set_to_none=True)
    return total


def _survey(
    model: Any, batch: list[Group], objective: Objective, settings: Training, needs: Collection[str]
) -> tuple[Tensor, int] | None:
    """The objective's sum over the probes of the whole step, so that it does not depend on how the step is split."""
    probes = [(row,) for group in batch for row in group if row.probe]
    if not probes:
        return None
    with torch.no_grad():
        parts = [[row for (row,) in part] for part in _parts(probes, settings.micro_tokens)]
        sums = [objective.survey(evaluate(model, rows, needs, (1,) * len(rows))) for rows in parts]
    return torch.stack(sums).sum(0), len(probes)


def _parts(batch: list[Group], most: int) -> list[list[Group]]:
    """`batch` in as few parts as have at most `most` tokens each, padded, and those as even as can be."""
    groups = sorted(batch, key=_longest)
    fewest = len(_split(groups, most))
    if fewest == 1:
        return [groups]
    rows = sum(map(len, groups))
    limits = sorted({(i + 1) * _longest(group) for group in groups for i in range(rows)})
    return next(parts for limit in limits if len(parts := _split(groups, limit)) <= fewest)


def _longest(group: Group) -> int:
    return max(map(_size, group))


def _split(groups: list[Group], most: int) -> list[list[Group]]:
    """`groups`, sorted by their longest row, split so that no part, padded, has more than `most` tokens.

    One group always fits.
    """
    parts: list[list[Group]] = []
    held = 0
    for group in groups:
        if parts and (held + len(group)) * _longest(group) <= most:
            parts[-1].append(group)
            held += len(group)
        else:
            parts.append([group])
            held = len(group)
    return parts


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
