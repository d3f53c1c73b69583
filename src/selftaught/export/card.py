"""The card of an exported model: what it is, and the proof that it is better."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from selftaught.lineage.folder import RunFolder
from selftaught.terminal import make_visible

UNTESTED = "The run that made it has not been tested on held-out problems."


def model_card(facts: RunFolder, policy: str, version: str) -> str:
    """The card as Markdown, with the Hub's metadata in front.

    It has the accuracies with intervals on held-out problems, the vote at equal tokens, the paired difference, the
    method with its options, and the end of the journal's chain of hashes.

    What a user or a model has named is shown as code, so that it is neither markup nor a link.

    Args:
        policy: version of the policy that is exported.
        version: of this package.
    """
    from huggingface_hub import ModelCardData

    found = _summary(facts.folder)
    config: Mapping[str, Any] = facts.config
    method, model, task = (str(value or "") for value in (config.get("method"), found.get("model"), found.get("task")))
    base = model if model.count("/") == 1 and not Path(model).exists() else None
    tags = ["selftaught", *([method] if method.replace("-", "").isalnum() else [])]
    head = ModelCardData(library_name="transformers", base_model=base, tags=tags).to_yaml()
    proof = _proof(found) if found.get("champion") == policy else [UNTESTED]
    options = json.dumps(config.get("options") or {}, ensure_ascii=True, sort_keys=True)
    lines = [
        f"# {_code(policy)}", "", f"A language model trained on its own answers by {_code(method or 'a method')}.", "",
        *proof, "", "## How it was made", "",
        f"- starting model: {_code(model or facts.base)}, version {_code(facts.base)}", f"- task: {_code(task)}",
        f"- method: {_code(method)} with {_code(options)}", f"- policy: {_code(policy)}, of selftaught {version}",
        f"- journal: {facts.reader.last_effect:,} effects, chain of hashes up to {_code(facts.reader.last_link)}",
    ]  # fmt: skip
    return f"---\n{head}\n---\n\n" + "\n".join(lines) + "\n"


def _summary(folder: Path) -> Mapping[str, Any]:
    try:
        found = json.loads((folder / "summary.json").read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _proof(found: Mapping[str, Any]) -> list[str]:
    """The figures of a summary as a table."""
    try:
        vote, paired = found["majority_at_equal_tokens"], found["paired_difference"]
        title = f"{int(found['n_test']):,} held-out problems, evaluated once"
        rows = [("before", found["before"]), ("after", found["after"])]
        if vote.get("accuracy") is not None:
            rows.insert(1, (f"before, majority vote of {int(vote['samples'])} samples (equal tokens)", vote))
        low, high = paired["ci95"]
        return [
            f"| {title} | accuracy | 95 % interval |", "|---|---|---|", *(_row(name, one) for name, one in rows),
            "", f"Paired difference between after and before: {100 * paired['mean']:+.1f} percentage points"
            f" [{100 * low:+.1f}, {100 * high:+.1f}], p = {paired['p_value']:.2g}.",
        ]  # fmt: skip
    except (KeyError, TypeError, ValueError, IndexError):
        return [UNTESTED]


def _row(name: str, one: Mapping[str, Any]) -> str:
    low, high = one["ci95"]
    return f"| {name} | {one['accuracy']:.1%} | {low:.1%} to {high:.1%} |"


def _code(text: str) -> str:
    """A text as inline code, on one line."""
    shown = make_visible(text).replace("`", "'").replace("\n", " ")
    return f"`{shown}`" if shown.strip() else "`?`"
