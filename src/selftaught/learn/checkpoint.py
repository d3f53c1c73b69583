"""Checkpoints of a training: one safetensors file, replaced in one rename; nothing is pickled."""

from __future__ import annotations

import json
import os
from collections.abc import Collection
from pathlib import Path
from typing import Any

from torch import Tensor

from selftaught.learn.kernels.optimizer import AdamW, join_float32
from selftaught.models.load import load_errors

STATE_FILE = "state.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


def save_checkpoint(
    folder: Path, model: Any, optimizer: AdamW, keys: Collection[str], progress: dict[str, Any]
) -> None:
    """Write the trained weights, the optimizer's state under `keys`, and `progress`, plain data."""
    tensors = {f"w.{n}": p.detach() for n, p in model.named_parameters() if p.requires_grad}
    _write(folder, tensors | _state(model, optimizer, keys), json.dumps(progress))


def load_checkpoint(folder: Path, model: Any, optimizer: AdamW, keys: Collection[str]) -> dict[str, Any] | None:
    """Restore what `save_checkpoint` wrote, and return its `progress`; None if there is no checkpoint."""
    from safetensors import safe_open

    if not (folder / STATE_FILE).is_file():
        return None
    with (
        load_errors(folder / STATE_FILE, "the checkpoint", "delete its folder, and this training begins anew"),
        safe_open(folder / STATE_FILE, framework="pt") as saved,  # pyright: ignore[reportCallIssue]
    ):
        known = set(saved.keys())
        for name, p in model.named_parameters():
            if p.requires_grad:
                values, low_bits = saved.get_tensor(f"w.{name}"), f"low_bits.{name}"
                exact = join_float32(values, saved.get_tensor(low_bits)) if low_bits in known else values
                optimizer.assign(p, exact)
        _load_state(saved, model, optimizer, keys)
        return json.loads(saved.metadata()["progress"])


def save_moments(folder: Path, model: Any, optimizer: AdamW) -> None:
    """Write the optimizer's moments for the next training."""
    _write(folder, _state(model, optimizer, MOMENTS), "{}")


def load_moments(folder: Path, model: Any, optimizer: AdamW) -> None:
    """Load the moments that an earlier training wrote into `folder`, if any."""
    from safetensors import safe_open

    if (folder / STATE_FILE).is_file():
        with (
            load_errors(folder / STATE_FILE, "the optimizer's state", "delete the policy's folder: it is made again"),
            safe_open(folder / STATE_FILE, framework="pt") as saved,  # pyright: ignore[reportCallIssue]
        ):
            _load_state(saved, model, optimizer, MOMENTS)


def _state(model: Any, optimizer: AdamW, keys: Collection[str]) -> dict[str, Tensor]:
    state = optimizer.state
    parameters = [(name, state[p]) for name, p in model.named_parameters() if p in state]
    return {f"{key}.{name}": held[key] for name, held in parameters for key in keys if key in held}


def _load_state(saved: Any, model: Any, optimizer: AdamW, keys: Collection[str]) -> None:
    known = set(saved.keys())
    for name, p in model.named_parameters():
        for key in keys:
            if p.requires_grad and f"{key}.{name}" in known:
                values = saved.get_tensor(f"{key}.{name}")
                values = values.to(p.dtype) if key == "exp_avg" else values
                optimizer.state[p][key] = values if key == "step" else values.to(p.device)


def _write(folder: Path, tensors: dict[str, Tensor], progress: str) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{STATE_FILE}.draft"
    save_file({n: t.contiguous() for n, t in tensors.items()}, draft, {"progress": progress})
    os.replace(draft, folder / STATE_FILE)
