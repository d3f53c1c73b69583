"""A policy: the immutable name of a set of weights, and of the notes that they are given to read."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.machine.disk import write_atomically
from selftaught.models.cache import MANIFEST, policy_content, policy_files, stays
from selftaught.models.notes import Notes
from selftaught.records import content_hash

CONTENT = "content"
"""Entry of a manifest: hash of the policy's weights and small files (`cache.policy_content`)."""
FILES = "files"
"""Entry of a manifest: names of those files."""

ONE_ANSWER = "one-answer"  # folder in a run of the weights that live for one answer (`Ask.tuned`)
ANNOTATOR = "annotator:"  # what the version of an annotator's policy begins with (`Run.annotate`)


@dataclass(frozen=True, slots=True)
class Policy:
    """An immutable name for weights, and notes if it has any; learning returns a new one.

    Attributes:
        version: content hash of what produced the weights (of the files, for a starting model).
        path: folder with `config.json`, safetensors weights and a tokenizer; for an adapter, the
            folder with the adapter; with notes, the folder they are published in, or that of the weights.
        base: the policy it was trained from, or None for a starting model; with notes, the policy of the weights.
        adapter: whether `path` holds a LoRA adapter to be applied to `base`.
        remote: the model's name at an endpoint, if the weights are not local and `path` is not a folder.
        notes: what the model reads before every prompt, or None.
        annotator: whether it stands for the task's own annotator, and not for a model (`Run.annotate`).
        url: the address of its endpoint, if `remote`; empty for the environment's (see `models.remote.base_url`).
    """

    version: str
    path: Path
    base: Policy | None = None
    adapter: bool = False
    remote: str = ""
    notes: Notes | None = None
    annotator: bool = False
    url: str = field(default="", compare=False)  # the version has the address

    @property
    def weights_policy(self) -> Policy:
        """The policy of the weights alone, without notes."""
        return self.base if self.notes and self.base else self

    def with_notes(self, notes: Notes | None) -> Policy:
        """The policy of the same weights that reads `notes` before every prompt, in place of those it has.

        Its version is a hash of the weights' version and the notes. Without notes it is the policy of the weights.
        """
        weights = self.weights_policy
        if not notes:
            return weights
        version = content_hash("notes", weights.version, notes.version)
        return Policy(version, weights.path, weights, remote=weights.remote, notes=notes, url=weights.url)

    @property
    def temporary(self) -> bool:
        """Whether the weights live for one answer (`Ask.tuned`): nothing may be trained from it, measured or kept."""
        return self.path.parts[-3:-2] == (ONE_ANSWER,)

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
        return self.base.weights if (self.adapter or self.notes) and self.base else self.path


TUNED_FIX = "use it in the solver call that tuned it; run.learn trains policies that last"


def require_lasting(where: str, *policies: Any) -> None:
    """Refuse policies that live for one answer.

    Raises:
        BadInput: one does.
    """
    for policy in policies:
        if isinstance(policy, Policy) and policy.temporary:
            raise BadInput(f"policy {policy.version} lives for one answer", where=where, fix=TUNED_FIX)


def require_weights(policy: Policy) -> None:
    """Refuse a policy with notes where only weights are read, as the notes would be lost without a word.

    Raises:
        BadInput: it has notes.
    """
    if policy.notes:
        raise BadInput(
            f"policy {policy.version} has notes, and here only weights are read",
            where="notes",
            fix="give policy.weights_policy, and prompts made with policy.notes.apply; a run does both by itself",
        )


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
    """Move a finished draft folder into place: manifest last, then one rename, so that it is complete or absent.

    The manifest gets a hash of the weights and small files, by which `load_policy` knows that they are what was made.
    """
    names = policy_files(draft)
    made = {**manifest, FILES: names, CONTENT: policy_content(draft, names)}
    write_atomically(draft / MANIFEST, (json.dumps(made, indent=1, sort_keys=True) + "\n").encode())
    folder.parent.mkdir(parents=True, exist_ok=True)
    if folder.exists():
        shutil.rmtree(folder)
    os.replace(draft, folder)


def base_reference(base: Policy, folder: Path) -> dict[str, str]:
    """The base's entry in the manifest of `folder`: a relative path if it is a sibling, so that both can be moved.

    For a model behind an endpoint, its name in place of a path.
    """
    if base.remote:
        return {"path": str(base.path), "version": base.version}
    place, near = base.path.resolve(), folder.resolve().parent
    path = os.path.relpath(place, near / folder.name) if place.is_relative_to(near) else str(place)
    return {"path": path, "version": base.version}


def load_policy(folder: Path, version: str = "") -> Policy:
    """The policy published in `folder`, with its lineage from the manifests.

    Args:
        version: which policy it should be; empty for any.

    Raises:
        BadInput: no manifest, or that of another policy; its files have changed since; its notes cannot be read; or
            the base of an adapter or of notes is missing or was replaced.
    """
    manifest = read_manifest(folder)
    if not manifest:
        raise BadInput(f"no {MANIFEST}", where=str(folder), fix="give the folder of a trained policy")
    if version and manifest["version"] != version:
        what = f"it holds policy {manifest['version']}, not {version}"
        raise BadInput(what, where=str(folder), fix="delete the folder, and it is made again")
    _require_unchanged(folder, manifest)
    above, adapter = manifest.get("base"), bool(manifest.get("adapter"))
    notes = Notes.from_json(manifest["notes"], str(folder / MANIFEST)) if manifest.get("notes") else None
    needed = "the adapter was trained on" if adapter else "its notes were made for" if notes else ""
    base = _base(folder, above, needed) if above else None
    if notes and (base is None or base.with_notes(notes).version != manifest["version"]):
        raise BadInput("its notes or their base were changed", where=str(folder), fix="make the policy again")
    return Policy(manifest["version"], folder, base, adapter, remote=base.remote if base and notes else "", notes=notes)


def _require_unchanged(folder: Path, manifest: Mapping[str, Any]) -> None:
    """Refuse files that lead out of the folder, or are not what the manifest says; an older one does not say it."""
    home, fix = folder.resolve(), "put it back; or delete the folder, and it is made again"
    for weights in folder.rglob("*.safetensors"):
        if not stays(weights, home):
            raise BadInput(f"{weights.name} leads out of the folder", where=str(folder), fix="copy the file into it")
    try:
        changed = CONTENT in manifest and policy_content(folder, manifest[FILES]) != manifest[CONTENT]
    except (OSError, KeyError, TypeError) as error:
        name = Path(getattr(error, "filename", None) or MANIFEST).name
        raise BadInput(f"{name} is missing or cannot be read", where=str(folder), fix=fix) from None
    if changed:
        raise BadInput("its weights or small files have changed since it was made", where=str(folder), fix=fix)


def publish_notes(policy: Policy, folder: Path, sources: Mapping[str, Any]) -> Policy:
    """Publish a policy with notes as `folder`: the notes and the name of its weights, which are not copied.

    Args:
        sources: what the notes come from, for the manifest.

    Returns:
        The same policy, whose path is `folder`.
    """
    assert policy.notes
    assert policy.base
    if read_manifest(folder).get("version") != policy.version:
        draft = folder.with_name(f"{folder.name}.draft")
        shutil.rmtree(draft, ignore_errors=True)
        draft.mkdir(parents=True)
        made = {"version": policy.version, "base": base_reference(policy.base, folder), "adapter": False}
        publish(draft, folder, {**made, "notes": policy.notes.to_json(), **sources})
    return replace(policy, path=folder)


def _base(folder: Path, above: Mapping[str, str], needed: str) -> Policy:
    """The parent policy. Full weights do not need it, so for them a missing base is only a name.

    Args:
        needed: what was done to the base that needs it, for messages; empty for full weights.
    """
    from selftaught.models.remote import PREFIX, remote_policy

    if above["path"].startswith(PREFIX):
        return _same(folder, above, needed, remote_policy(above["path"].removeprefix(PREFIX)))
    place = (folder / above["path"]).resolve()
    if not needed and (not place.is_dir() or read_manifest(place).get("version") != above["version"]):
        return Policy(above["version"], place)
    if not place.is_dir():
        raise BadInput(
            f"its base {place} is gone", where=str(folder), fix="put it back, or use a policy of full weights"
        )
    from selftaught.models.resolve import resolve

    return _same(folder, above, needed, resolve(place))


def _same(folder: Path, above: Mapping[str, str], needed: str, base: Policy) -> Policy:
    """The base, if it is the version that the manifest names."""
    if base.version != above["version"]:
        raise BadInput(
            f"its base {base.path} is now version {base.version}, not {above['version']} that {needed}",
            where=str(folder),
            fix="put the old base back, or train again",
        )
    return base
