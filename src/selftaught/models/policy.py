"""A policy: the immutable name of a set of weights."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput

MANIFEST = "selftaught.json"


@dataclass(frozen=True, slots=True)
class Policy:
    """An immutable name for weights; learning returns a new one.

    Attributes:
        version: content hash of what produced the weights (of the files, for a starting model).
        path: folder with `config.json`, safetensors weights and a tokenizer; for an adapter, the
            folder with the adapter.
        base: the policy it was trained from, or None for a starting model.
        adapter: whether `path` holds a LoRA adapter to be applied to `base`.
        remote: the model's name at an endpoint, if the weights are not local and `path` is not a folder.
    """

    version: str
    path: Path
    base: Policy | None = None
    adapter: bool = False
    remote: str = ""

    @property
    def root(self) -> Policy:
        """The starting model at the end of the lineage."""
        return self.base.root if self.base else self

    @property
    def weights(self) -> Path:
        """The nearest folder up the lineage with full weights and the tokenizer.

        Raises:
            BadInput: the model is behind an endpoint.
        """
        if self.remote:
            raise BadInput(
                "its weights are behind an endpoint, not local",
                where=self.version,
                fix="use a folder or a Hugging Face id where weights are needed",
            )
        return self.base.weights if self.adapter and self.base else self.path


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest next to the weights; empty if the folder has none.

    Raises:
        BadInput: the manifest cannot be read.
    """
    try:
        manifest = json.loads((folder / MANIFEST).read_text("utf-8"))
        if not isinstance(manifest, dict) or not isinstance(manifest.get("version"), str):
            raise ValueError("it names no version")
        base = manifest.get("base") or {"path": "", "version": ""}
        if not isinstance(base, dict) or not all(isinstance(base.get(name), str) for name in ("path", "version")):
            raise ValueError("its base has no path and version")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(
            f"unreadable manifest ({error})", where=str(folder / MANIFEST), fix="delete the folder and run again"
        ) from None
    return manifest


def publish(draft: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Move a finished draft folder into place: manifest last, then one rename, so that it is complete or absent."""
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", "utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(draft, folder)


def base_reference(base: Policy, folder: Path) -> dict[str, str]:
    """The base's entry in the manifest of `folder`: a relative path if it is a sibling, so that both can be moved."""
    place, near = base.path.resolve(), folder.resolve().parent
    path = os.path.relpath(place, near / folder.name) if place.is_relative_to(near) else str(place)
    return {"path": path, "version": base.version}


def load_policy(folder: Path) -> Policy:
    """The policy published in `folder`, with its lineage from the manifests.

    Raises:
        BadInput: no manifest, or an adapter's base is missing or was replaced.
    """
    manifest = read_manifest(folder)
    if not manifest:
        raise BadInput(f"no {MANIFEST}", where=str(folder), fix="give the folder of a trained policy")
    above, adapter = manifest.get("base"), bool(manifest.get("adapter"))
    return Policy(manifest["version"], folder, _base(folder, above, needed=adapter) if above else None, adapter)


def _base(folder: Path, above: Mapping[str, str], *, needed: bool) -> Policy:
    """The parent policy. Full weights do not need it, so for them a missing base is only a name (`needed` is false)."""
    place = (folder / above["path"]).resolve()
    if not needed and (not place.is_dir() or read_manifest(place).get("version") != above["version"]):
        return Policy(above["version"], place)
    if not place.is_dir():
        raise BadInput(
            f"its base {place} is gone", where=str(folder), fix="put it back, or use a policy of full weights"
        )
    from selftaught.models.resolve import resolve

    base = resolve(place)
    if base.version != above["version"]:
        raise BadInput(
            f"its base {place} is now version {base.version}, not {above['version']} that the adapter was trained on",
            where=str(folder),
            fix="put the old base back, or train again",
        )
    return base
