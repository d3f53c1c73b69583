"""The value head: a linear layer on the hidden states that predicts numbers for each token."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.errors import BadInput
from selftaught.learn.forward import HEAD_NAME, forward_batch
from selftaught.learn.objectives.base import Row
from selftaught.models.load import load_errors


def add_head(model: Any, outputs: int, source: Path | None = None) -> None:
    """Give `model` a linear head of `outputs` numbers per token, from the folder `source` if it has one of that size.

    A new head starts at zero, which needs no seed: a linear layer learns from its inputs, not from its own weights.
    """
    width = model.config.get_text_config().hidden_size
    head = torch.nn.Linear(width, outputs)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.zero_()
    if source is not None and (known := read_head(source)) is not None and known["weight"].shape == head.weight.shape:
        head.load_state_dict(known)
    setattr(model, HEAD_NAME, head.to(next(model.parameters()).device))


def take_head(model: Any) -> Any:
    """Remove and return the head of `model`; None if it has none."""
    return model._modules.pop(HEAD_NAME, None)


def write_head(head: Any, folder: Path) -> None:
    """Write the head's weights into a subfolder of a policy's folder, so that nothing loads them as the model's."""
    from safetensors.torch import save_file

    (folder / HEAD_NAME).mkdir(parents=True, exist_ok=True)
    tensors = {name: t.detach().cpu().contiguous() for name, t in head.state_dict().items()}
    save_file(tensors, folder / HEAD_NAME / "head.safetensors")


def read_head(folder: Path) -> dict[str, Tensor] | None:
    """Read the head's weights from a policy's folder; None if there is no head."""
    from safetensors.torch import load_file

    file = folder / HEAD_NAME / "head.safetensors"
    if not file.is_file():
        return None
    with load_errors(file, "the value head", "delete the policy's folder, and it is made again"):
        return load_file(file)


def head_values(model: Any, rows: Sequence[Row]) -> list[list[list[float]]]:
    """The head's output before each completion token of each row: `[rows][tokens][outputs]`.

    Raises:
        BadInput: the model has no head.
    """
    if not hasattr(model, HEAD_NAME):
        raise BadInput("the model has no value head", where="head_values", fix="train one, or add_head from its folder")
    with torch.no_grad():
        batch = forward_batch(model, rows, {"value"})
    assert batch.values is not None
    return [batch.values[i, : len(row.completion)].tolist() for i, row in enumerate(rows)]
