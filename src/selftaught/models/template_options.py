"""Chat template options, such as `enable_thinking=false`: part of a model's name and version.

Options are a file in the model's folder, so that they accompany its tokenizer: into its version, and into every
policy trained from it.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput, suggest
from selftaught.models.cache import config_files, locked_folder
from selftaught.models.load import weight_files
from selftaught.models.policy import MANIFEST, Policy, base_reference, load_policy, publish
from selftaught.models.tokenizer import load_image
from selftaught.records import content_hash

OPTIONS_FILE = "template_options.json"
RESERVED_OPTIONS = ("messages", "tools", "documents", "add_generation_prompt")


def parse_options(name: str) -> tuple[str, dict[str, Any]]:
    """Split a model's name and its options (`NAME:key=value,key=value`); values are JSON, otherwise text.

    Raises:
        BadInput: an option without a name or a value.
    """
    bare, colon, tail = name.rpartition(":")
    if not colon or "=" not in tail or Path(name).exists():
        return name, {}
    options: dict[str, Any] = {}
    for item in tail.split(","):
        key, equals, value = (part.strip() for part in item.partition("="))
        if not equals or not key.isidentifier() or not value:
            raise BadInput(f"no option {item!r}", where=name, fix="write key=value, as in enable_thinking=false")
        try:
            options[key] = json.loads(value)
        except ValueError:
            options[key] = {"True": True, "False": False}.get(value, value)
    return bare, options


def with_template_options(policy: Policy, options: dict[str, Any]) -> Policy:
    """The same weights with chat template `options`: a folder of links in the cache.

    Raises:
        BadInput: the template does not use one of them, or the policy has no full weights.
    """
    if policy.notes:
        return with_template_options(policy.weights_policy, options).with_notes(policy.notes)
    where = f"{policy.path}:{','.join(options)}"
    if policy.adapter or policy.remote:
        raise BadInput("options require a model with full weights", where=where, fix="leave them out")
    _check_known(policy.path, options, where)
    options = read_options(policy.path) | options
    version = content_hash("template options", policy.version, options)
    with locked_folder(f"options-{version}") as folder:
        if not (folder / MANIFEST).is_file() or not all(link.exists() for link in folder.iterdir()):
            draft = folder.with_name(f"{folder.name}.draft")
            shutil.rmtree(draft, ignore_errors=True)
            _fill(draft, policy.path, options)
            base = base_reference(policy.base, folder) if policy.base else None
            publish(draft, folder, {"version": version, "base": base, "adapter": False, "source": policy.version})
        return load_policy(folder)


def read_options(folder: Path) -> dict[str, Any]:
    """The options in a model's folder; empty if there is no such file.

    Raises:
        BadInput: it is not a JSON object.
    """
    file = folder / OPTIONS_FILE
    try:
        found = json.loads(file.read_text("utf-8"))
        if not isinstance(found, dict):
            raise ValueError("expected an object")
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, RecursionError) as error:
        raise BadInput(f"cannot read it ({error})", where=str(file), fix="correct or delete the file") from None
    return {key: value for key, value in found.items() if key not in RESERVED_OPTIONS}


def _check_known(folder: Path, options: dict[str, Any], where: str) -> None:
    from jinja2 import TemplateError, meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    image = load_image(folder)
    try:
        parsed = ImmutableSandboxedEnvironment(extensions=["jinja2.ext.loopcontrols"]).parse(image.template or "")
        known = meta.find_undeclared_variables(parsed)
    except TemplateError:  # tags specific to transformers
        known = {key for key in options if key in (image.template or "")}
    for key in options:
        if key not in known or key in RESERVED_OPTIONS or key in image.special:
            others = sorted(known - {*RESERVED_OPTIONS, *image.special, "raise_exception", "strftime_now", "namespace"})
            fix = suggest(key, others) if others else "leave it out: it has none"
            raise BadInput(f"the chat template has no option {key!r}", where=where, fix=fix)


def _fill(draft: Path, source: Path, options: dict[str, Any]) -> None:
    draft.mkdir(parents=True)
    for file in config_files(source):
        if file.name != MANIFEST:
            shutil.copy2(file, draft / file.name)
    for file in weight_files(source):
        (draft / file.name).symlink_to(file.resolve())
    (draft / OPTIONS_FILE).write_text(json.dumps(options, indent=1, sort_keys=True) + "\n", "utf-8")
