"""Load weights as a transformers module, for training and for architectures without a fused pass."""

from __future__ import annotations

import json
import warnings
from collections.abc import Container, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from textwrap import shorten
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.models.cache import stays
from selftaught.models.policy import Policy, require_weights

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
        BadInput: there are none; one named by the index is missing, as after an interrupted download; or one is, or
            leads to, a file elsewhere.
    """
    found = _named_weights(folder)
    home = folder.resolve()
    if strays := [file.name for file in found if not stays(file, home)]:
        raise BadInput(f"{strays[0]} leads out of the folder", where=str(folder), fix="copy the file into the folder")
    return found


def _named_weights(folder: Path) -> list[Path]:
    whole, index = folder / "model.safetensors", folder / "model.safetensors.index.json"
    if whole.is_file():
        return [whole]
    if not index.is_file():
        raise BadInput("neither model.safetensors nor an index of its parts", where=str(folder), fix=REFETCH_FIX)
    with load_errors(index):
        files = sorted({folder / str(name) for name in json.loads(index.read_text("utf-8"))["weight_map"].values()})
    if missing := [file.name for file in files if not file.is_file()]:
        raise BadInput(f"{missing[0]}, which it names, is missing", where=str(index), fix="fetch the whole model")
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
    """The names of a model's input embedding and output layer weights, as `transformers` decides.

    An existing weight is used even if the configuration ties the two; a missing one is the other one,
    if the configuration ties them.

    Args:
        names: names of the existing weights.

    Raises:
        KeyError: one is missing, and is not tied.
    """
    tied = bool(config.get("tie_word_embeddings"))
    found = (embedding if embedding in names or not tied else head, head if head in names or not tied else embedding)
    for name in found:
        if name not in names:
            raise KeyError(name)
    return found


@contextmanager
def load_errors(place: Path, what: str = "the model", fix: str = REFETCH_FIX) -> Iterator[None]:
    """Convert errors of loading what is in `place` to BadInput.

    Out-of-memory and device errors are not caused by the files, and propagate unchanged.

    Raises:
        BadInput: loading failed; the message names `place` and the reason.
    """
    try:
        yield
    except (BadInput, MemoryError):
        raise
    except Exception as error:  # parsers of arbitrary files raise many types
        if is_machine_error(error):
            raise
        reason = f"it has no {error}" if isinstance(error, KeyError) else shorten(str(error), 200, placeholder=" ...")
        raise BadInput(f"cannot load {what} ({reason})", where=str(place), fix=fix) from error


def is_machine_error(error: Exception) -> bool:
    """Whether torch failed for lack of memory or because of its device, not its input."""
    import torch

    kinds = (torch.OutOfMemoryError, torch.AcceleratorError)
    return isinstance(error, kinds) or "can't allocate memory" in str(error)


def load_model(policy: Policy, dtype: torch.dtype) -> Any:
    """The `transformers` model of a policy with every adapter of its lineage merged in.

    Only safetensors are read; code from the model's repository is never run. Adapters are merged in
    float32 before the cast to `dtype`: bfloat16 arithmetic would lose small changes.

    Raises:
        BadInput: the weights or the configuration cannot be read, or do not match; or the policy has notes.
    """
    import torch

    require_weights(policy)
    if not policy.adapter or policy.base is None:
        with load_errors(policy.path):
            return _whole(policy.path, dtype)
    from peft import PeftModel

    from selftaught.models.adapters import check_adapter_complete, require_safetensors

    require_safetensors(policy.path)
    base = load_model(policy.base, torch.float32)
    with load_errors(policy.path), warnings.catch_warnings(action="ignore"):  # completeness is checked below
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
    """Silence `transformers` except for errors, and hide its progress bars."""
    from transformers.utils import logging

    logging.disable_progress_bar()
    said = logging.get_verbosity()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(said)


def check_complete(model: Any, found: Mapping[str, Any]) -> None:
    """Raise if the files lack weights: `transformers` would fill them with random numbers.

    Args:
        found: `output_loading_info` of `from_pretrained`.

    Raises:
        ValueError: weights are missing; the message names one.
    """
    if missing := sorted(found["missing_keys"]):
        raise ValueError(f"{len(missing)} weights of a {type(model).__name__} are missing, such as {missing[0]}")
