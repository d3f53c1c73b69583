"""A policy of a run as a model folder of its own, that `transformers` and every server load, with a card."""

from __future__ import annotations

import os
import shutil
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from selftaught.errors import BadInput
from selftaught.export.files import new_repository
from selftaught.lineage.folder import RECORDS, RunFolder
from selftaught.machine.disk import disk_full_error
from selftaught.models.cache import CONTENT_MEMO, MANIFEST
from selftaught.models.load import load_model, weight_files
from selftaught.models.policy import Policy, load_policy

if TYPE_CHECKING:
    import torch

Dtype = Literal["keep", "float32", "bfloat16", "float16"]
OWN = (RECORDS, CONTENT_MEMO, MANIFEST, "built.json")  # files of a policy that are the run's
KINDS = (".json", ".txt", ".jinja", ".model")  # of files that are copied: no pickles, no weights of another format
CARD = "README.md"


def export_policy(
    facts: RunFolder, to: Path, *, card: str, policy: str = "", dtype: Dtype = "keep", merge: bool = True
) -> Path:
    """Copy a policy's model to a new folder, which needs neither the run nor this package.

    Args:
        to: made; must not exist, or be empty.
        card: text of its `README.md`, see `card.model_card`.
        policy: version of the policy; by default the champion.
        dtype: number format of the weights; "keep" leaves them as they are.
        merge: merge an adapter into the weights it was trained on; otherwise the folder holds the adapter alone.

    Raises:
        BadInput: there is no such policy with weights here, it has notes, or the folder cannot be written.
    """
    to, version = to.resolve(), policy or facts.champion
    if version == facts.base:
        what = "no policy was promoted: the champion is the starting model"
        raise BadInput(what, where=str(facts.folder), fix="choose another policy (--policy VERSION), see lineage")
    if version not in facts.published:
        raise BadInput(f"policy {version} is not in this run", where=str(facts.folder), fix="see selftaught lineage")
    found = load_policy(facts.published[version])
    if found.notes:
        what = f"policy {version} is its starting model with notes, which it reads before every prompt"
        raise BadInput(what, where=str(facts.folder), fix=f"copy them from {found.path}")
    if to.exists() and (not to.is_dir() or any(to.iterdir())):
        raise BadInput("it exists", where=str(to), fix="choose a new folder")
    draft = to.with_name(f".{to.name}.part")
    shutil.rmtree(draft, ignore_errors=True)
    try:
        draft.mkdir(parents=True)
        _fill(found, draft, dtype, merge)
        (draft / CARD).write_text(card, "utf-8")
        if to.exists():
            to.rmdir()
        os.replace(draft, to)
    except OSError as error:
        raise disk_full_error(error, to) or BadInput(f"cannot write it ({error})"[:200], where=str(to)) from None
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return to


def push(folder: Path, name: str) -> None:
    """Upload a folder to the Hugging Face Hub, as a private repository.

    Raises:
        BadInput: there is one of that name, or the hub refuses or cannot be reached.
    """
    from huggingface_hub import HfApi

    with new_repository(name, "model", where=f"--push {name}"):
        HfApi().upload_folder(repo_id=name, folder_path=folder)


def _fill(policy: Policy, to: Path, dtype: Dtype, merge: bool) -> None:
    if policy.adapter and not merge:
        if policy.base is None or policy.base.adapter:
            what = "it is an adapter on another adapter, which its folder alone cannot name"
            raise BadInput(what, where=policy.version, fix="merge them (leave --adapter out)")
        _copy(policy.path, to, weights=True)
        return
    anew = policy.adapter or dtype != "keep"
    _copy(policy.weights, to, weights=not anew)
    if anew:
        load_model(policy, _dtype(dtype, policy.root.weights)).save_pretrained(to)


def _copy(folder: Path, to: Path, *, weights: bool) -> None:
    """The files of a model: configuration, tokenizer, template; and its weights, unless they are written anew."""
    for file in sorted(folder.iterdir()):
        of_weights = file.suffix == ".safetensors" or file.name.endswith(".safetensors.index.json")
        known = file.suffix in KINDS and file.name not in OWN and not file.name.endswith(".index.json")
        if file.is_file() and (weights if of_weights else known):
            shutil.copyfile(file, to / file.name)


def _dtype(name: Dtype, weights: Path) -> torch.dtype:
    """The dtype of that name; to keep it, that of most weights in a folder."""
    import torch
    from safetensors import safe_open

    if name != "keep":
        return getattr(torch, name)
    sizes: Counter[torch.dtype] = Counter()
    for file in weight_files(weights):
        with safe_open(file, framework="pt") as tensors:  # type: ignore[no-untyped-call]
            for key in tensors.keys():  # noqa: SIM118
                tensor = tensors.get_tensor(key)
                sizes[tensor.dtype] += tensor.numel()
    return sizes.most_common(1)[0][0]
