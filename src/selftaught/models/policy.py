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
        version: content hash of how the weights were made (of the files, for a starting model).
        path: folder with `config.json`, safetensors weights and a tokenizer; for an adapter, the
            folder with the adapter.
        base: the policy it was trained from, or None for a starting model.
        adapter: whether `path` holds a LoRA adapter to be applied to `base`.
    """

    version: str
    path: Path
    base: Policy | None = None
    adapter: bool = False

    @property
    def root(self) -> Policy:
        """The starting model at the end of the lineage."""
        return self.base.root if self.base else self

    @property
    def weights(self) -> Path:
        """The nearest folder up the lineage that holds whole weights and the tokenizer."""
        return self.base.weights if self.adapter and self.base else self.path


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest beside the weights, or an empty one where the folder is not ours."""
    try:
        return json.loads((folder / MANIFEST).read_text("utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise BadInput(
            f"unreadable manifest ({error})", where=str(folder / MANIFEST), fix="delete the folder and run again"
        ) from None


def publish(draft: Path, folder: Path, manifest: Mapping[str, Any]) -> None:
    """Move a finished draft folder into place: the manifest last, then one rename, so it is whole or absent."""
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", "utf-8")
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(draft, folder)


def policy_from(folder: Path) -> Policy:
    """The policy published in `folder`, with its whole lineage as the manifests tell it."""
    manifest = read_manifest(folder)
    above = manifest.get("base")
    return Policy(manifest["version"], folder, _base(folder, above) if above else None, manifest["adapter"])


def _base(folder: Path, above: Mapping[str, str]) -> Policy:
    place = (folder / above["path"]).resolve()
    if not place.is_dir():
        raise BadInput(f"its base {place} is gone", where=str(folder), fix="put it back, or use a policy of full weights")
    base = policy_from(place) if read_manifest(place) else Policy(above["version"], place)
    if base.version != above["version"]:
        raise BadInput(f"its base is now version {base.version}, not {above['version']}", where=str(folder))
    return base
