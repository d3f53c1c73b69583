"""Adapter folders in peft's format: find their base, and check that they are complete."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.models.cache import folder_version
from selftaught.models.policy import Policy
from selftaught.models.tokenizer import load_image
from selftaught.records import content_hash

ADAPTER_WEIGHTS, ADAPTER_CONFIG = "adapter_model.safetensors", "adapter_config.json"
RESAVE_FIX = "save it again with peft's save_pretrained"


def adapter_policy(folder: Path, find: Callable[[str | Path], Policy], tokenizers: tuple[str, ...]) -> Policy:
    """The policy of a peft adapter in `folder`, on the base that its configuration names.

    Args:
        find: resolves a folder or name to a policy (`models.resolve`).
        tokenizers: file names, one of which a tokenizer folder has.

    Raises:
        BadInput: it is pickled, its base cannot be found, or its tokenizer differs from that of its base.
    """
    require_safetensors(folder)
    base = _base(folder, find)
    if any((folder / name).is_file() for name in tokenizers) and _read_as(folder) != _read_as(base.weights):
        raise BadInput(
            f"its tokenizer or chat template is not that of its base {base.path}",
            where=str(folder),
            fix="merge it into its base (peft's merge_and_unload) and save the whole model with that tokenizer",
        )
    return Policy(content_hash("adapter", base.version, folder_version(folder)), folder, base, adapter=True)


def require_safetensors(folder: Path) -> None:
    """Refuse an adapter without safetensors.

    Raises:
        BadInput: there are none.
    """
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise BadInput(
            f"no {ADAPTER_WEIGHTS}; other formats are not read, as unpickling can run arbitrary code",
            where=str(folder),
            fix=RESAVE_FIX,
        )


def _base(folder: Path, find: Callable[[str | Path], Policy]) -> Policy:
    file = folder / ADAPTER_CONFIG
    fix = "set base_model_name_or_path to the folder or the Hugging Face id of the model that it was trained on"
    try:
        name = json.loads(file.read_text("utf-8"))["base_model_name_or_path"]
        if not isinstance(name, str) or not name:
            raise ValueError("base_model_name_or_path is empty")
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadInput(f"it names no base ({error})", where=str(file), fix=fix) from None
    places = [place.resolve() for place in (Path(name).expanduser(), folder / name) if place.is_dir()]
    if places and (places[0] / ADAPTER_CONFIG).is_file() and not (places[0] / "selftaught.json").is_file():
        raise BadInput(f"its base {name} is an adapter too", where=str(file), fix="merge the two, and save the whole")
    try:
        return find(places[0] if places else name)
    except BadInput as error:
        raise BadInput(f"its base {name} cannot be used ({error.what})", where=str(file), fix=fix) from None


def _read_as(folder: Path) -> tuple[Any, ...]:
    image = load_image(folder)
    return image.backend, image.template, image.bos, image.eos


def check_adapter_complete(adapted: Any, folder: Path) -> None:
    """Raise if an adapter lacks weights or has weights that match nothing in its base: peft would only warn.

    Args:
        adapted: the `PeftModel` that was loaded from `folder`.

    Raises:
        ValueError: they do; the message names one.
    """
    from peft import get_peft_model_state_dict
    from safetensors import safe_open

    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as held:  # pyright: ignore[reportPrivateImportUsage]
        names = set(held.keys())
    wanted = set(get_peft_model_state_dict(adapted, save_embedding_layers=False))
    if missing := sorted(wanted - names):
        raise ValueError(f"{len(missing)} weights of the adapter are missing, such as {missing[0]}")
    if strange := sorted(name for name in names - wanted if "lora_" in name):
        raise ValueError(f"{len(strange)} weights of the adapter match nothing in its base, such as {strange[0]}")
