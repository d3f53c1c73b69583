"""Weights as a transformers module, for training and for architectures without a fused pass."""

from __future__ import annotations

import json
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.models.policy import Policy

if TYPE_CHECKING:
    import torch

REFETCH_FIX = "fetch or save it again, or use another model"


def read_config(folder: Path) -> dict[str, Any]:
    """The `config.json` of a model folder.

    Raises:
        BadInput: there is none, or it is not a JSON object.
    """
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text("utf-8"))
        if not isinstance(config, dict):
            raise ValueError(f"it holds a {type(config).__name__}, expected an object")
    except FileNotFoundError:
        raise BadInput("no such file", where=str(file), fix=REFETCH_FIX) from None
    except (OSError, ValueError) as error:
        raise BadInput(f"malformed JSON ({error})", where=str(file), fix=REFETCH_FIX) from None
    return config


def weight_files(folder: Path) -> list[Path]:
    """The safetensors files that hold a model's weights, chosen as `transformers` does: one, else those of its index.

    Raises:
        BadInput: there are none, or one that the index names is not there, as after a download that was cut off.
    """
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise BadInput("neither model.safetensors nor an index of its parts", where=str(folder), fix=REFETCH_FIX)
    with load_errors(index):
        files = sorted({folder / str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()})
    if missing := [file.name for file in files if not file.is_file()]:
        raise BadInput(f"{missing[0]}, which it names, is not there", where=str(index), fix="fetch the whole model")
    return files


def state_dict(folder: Path) -> dict[str, torch.Tensor]:
    """All tensors of a model folder, memory-mapped."""
    from safetensors.torch import load_file

    tensors: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        with load_errors(file):
            tensors.update(load_file(file))
    return tensors


def embedding_names(config: Mapping[str, Any], names: Container[str], embedding: str, head: str) -> tuple[str, str]:
    """Which weights are a model's input embedding and its output layer, as `transformers` decides it.

    A weight of its own counts, also where the configuration ties the two; one that is not there is the other one,
    where the configuration ties them.

    Args:
        names: of the weights that there are.

    Raises:
        KeyError: one is not there, and is not tied.
    """
    tied = bool(config.get("tie_word_embeddings"))
    found = (embedding if embedding in names or not tied else head, head if head in names or not tied else embedding)
    for name in found:
        if name not in names:
            raise KeyError(name)
    return found


@contextmanager
def load_errors(place: Path) -> Iterator[None]:
    """Inside, whatever keeps the model in `place` from being loaded is raised as the user's to mend.

    Memory that runs out and a failing device are no fault of the files, and pass.

    Raises:
        BadInput: naming `place` and the reason.
    """
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # readers of files that may hold anything raise a dozen types
        if is_machine_error(error):
            raise
        reason = f"it has no {error}" if isinstance(error, KeyError) else shorten(str(error), 200, placeholder=" ...")
        raise BadInput(f"cannot load the model ({reason})", where=str(place), fix=REFETCH_FIX) from error


def is_machine_error(error: Exception) -> bool:
    """Whether torch failed for lack of memory or by its device, not by what it was given."""
    import torch

    kinds = (torch.OutOfMemoryError, torch.AcceleratorError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def load_model(policy: Policy, dtype: torch.dtype) -> Any:
    """The `transformers` model of a policy with every adapter of its lineage merged in.

    Only safetensors are read; code from the model's repository is never run. Adapters are merged in
    float32 before the cast to `dtype`: a small change would be lost in bfloat16 arithmetic.

    Raises:
        BadInput: the weights or the configuration cannot be read, or do not belong together.
    """
    import torch

    if not policy.adapter or policy.base is None:
        with load_errors(policy.path):
            return _whole(policy.path, dtype)
    from peft import PeftModel

    from selftaught.models.adapters import check_adapter_complete, require_safetensors

    require_safetensors(policy.path)
    base = load_model(policy.base, torch.float32)
    with load_errors(policy.path), warnings.catch_warnings(action="ignore"):  # whether it is whole is checked
        adapted: Any = PeftModel.from_pretrained(base, str(policy.path))
        check_adapter_complete(adapted, policy.path)
        return adapted.merge_and_unload().to(dtype)


def _whole(folder: Path, dtype: torch.dtype) -> Any:
    from transformers import AutoModelForCausalLM

    with quiet_transformers():
        loaded: Any = AutoModelForCausalLM.from_pretrained(
            str(folder), dtype=dtype, use_safetensors=True, trust_remote_code=False, output_loading_info=True
        )
    model, found = loaded
    check_complete(model, found)
    return model


@contextmanager
def quiet_transformers() -> Iterator[None]:
    """Inside, `transformers` says nothing short of errors, and draws no progress bar."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    said = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(said)


def check_complete(model: Any, found: Mapping[str, Any]) -> None:
    """Raise where weights were not in the files: `transformers` fills them with random numbers.

    Args:
        found: its loading info.

    Raises:
        ValueError: naming one.
    """
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights of a {type(model).__name__} are missing, such as {missing[0]}")
