"""From a policy and records to a new policy on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.learn.objectives import Objective
from selftaught.learn.training import Training
from selftaught.models.policy import Policy, policy_from, publish, read_manifest
from selftaught.records import as_json, content_hash


def policy_version(base: Policy, objective: Objective, records: Sequence[Any], settings: Training, seed: int) -> str:
    """Content hash of how a policy is made: same base, records, objective, settings and seed, same version."""
    how = asdict(settings)
    del how["checkpoint_seconds"], how["micro_tokens"]
    return content_hash(base.version, objective, list(records), how, seed)


def learn(
    base: Policy, objective: Objective, records: Sequence[Any], settings: Training, *, seed: int, folder: Path,
    progress: Callable[[int, int, float], None] = lambda *_: None,
) -> Policy:  # fmt: skip
    """Train a new policy into `folder/<version>`, or return the one already there.

    The policy's folder holds whole weights (or the LoRA adapter) as safetensors, the tokenizer, the
    records it was trained on and a manifest; it appears in one rename once it is complete. An
    interrupted training resumes from its checkpoint in `folder/<version>.work`.

    Raises:
        BadInput: no records, or a record longer than the model's context.
    """
    version = policy_version(base, objective, records, settings, seed)
    target = folder / version
    if "version" in read_manifest(target):
        return policy_from(target)
    if not records:
        raise BadInput("nothing to learn from", where="learn", fix="draw more samples, or use an easier task")
    import torch

    from selftaught.learn.trainer import train
    from selftaught.models.chat import ChatTokenizer
    from selftaught.models.load import load_model

    tokenizer = ChatTokenizer(base.weights)
    rows = [row for record in records for row in objective.rows(record, tokenizer)]
    model = load_model(base, torch.float32)
    _check_lengths(rows, getattr(model.config.get_text_config(), "max_position_embeddings", None))
    if settings.lora_rank:
        model = _with_adapter(model, settings.lora_rank, seed)
    work = folder / f"{version}.work"
    done = train(model, rows, objective, settings, seed=seed, checkpoint=work / "checkpoint", progress=progress)
    draft = work / "policy"
    shutil.rmtree(draft, ignore_errors=True)
    model.save_pretrained(draft)
    if not settings.lora_rank:
        _copy_tokenizer(base.weights, draft)
    with (draft / "records.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(as_json(record), ensure_ascii=False) + "\n" for record in records)
    above = {"path": str(base.path.resolve()), "version": base.version}
    made = {"version": version, "base": above, "adapter": bool(settings.lora_rank), "objective": objective.name}
    made |= {"records": len(records), "seed": seed, "training": asdict(settings)}
    made |= {"steps": done.steps, "tokens": done.tokens, "losses": done.losses}
    publish(draft, target, made)
    shutil.rmtree(work, ignore_errors=True)
    return policy_from(target)


def _check_lengths(rows: Sequence[Any], context: int | None) -> None:
    for i, row in enumerate(rows):
        size = len(row.prompt) + len(row.target)
        if context and size > context:
            raise BadInput(
                f"it has {size} tokens and the model's context holds {context}",
                where=f"training record {i}",
                fix="drop it, or lower --max-tokens",
            )


def _with_adapter(model: Any, rank: int, seed: int) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    torch.manual_seed(seed)
    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    return get_peft_model(model, settings)


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Every small text file of the model that training did not write: tokenizer, template, generation defaults."""
    for file in source.iterdir():
        if file.suffix in (".json", ".jinja", ".model", ".txt") and not (target / file.name).exists():
            if file.name.endswith(".index.json") or file.name == "selftaught.json":
                continue
            shutil.copy2(file, target / file.name)
