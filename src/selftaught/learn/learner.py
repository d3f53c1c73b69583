"""Training a policy: from a base policy and records to a new policy on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.config import TrainConfig
from selftaught.learn.objectives.base import Group, Objective, Row
from selftaught.machine.threads import releasing_threads
from selftaught.models.cache import config_files
from selftaught.models.policy import MANIFEST, Policy, base_reference, load_policy, publish, read_manifest
from selftaught.records import Record, as_json, content_hash

if TYPE_CHECKING:
    from selftaught.learn.trainer import TrainResult
    from selftaught.models.chat import ChatTokenizer

OPTIMIZER_FOLDER = "optimizer"  # in a policy's folder, for the next training (`TrainConfig.keep_optimizer_state`)
UNHASHED_FIELDS = ("checkpoint_seconds", "max_tokens_per_pass", "gradient_checkpointing")  # of the machine
LATER_FIELDS = {"steps": 0, "schedule_start": 0.0, "schedule_end": 1.0, "min_lr_ratio": 0.0}
"""Fields with the value at which they are not hashed, so that versions are as before there were any."""


def policy_version(
    base: Policy, objective: Objective, records: Sequence[Record], config: TrainConfig, seed: int
) -> str:
    """Content hash of a training: the same base, records, objective, settings and seed have the same version."""
    return content_hash(base.version, objective_key(objective), list(records), config_key(config), seed)


def config_key(config: TrainConfig) -> dict[str, Any]:
    """The settings that decide what is learned."""
    values = {name: value for name, value in asdict(config).items() if name not in UNHASHED_FIELDS}
    return {name: value for name, value in values.items() if name not in LATER_FIELDS or value != LATER_FIELDS[name]}


def objective_key(objective: Objective) -> Any:
    """The objective's fields, with policies by version, as the same weights may lie anywhere."""
    if not is_dataclass(objective):
        return objective.name
    values = {name: getattr(objective, name) for name in objective.__dataclass_fields__}
    return {name: value.version if isinstance(value, Policy) else value for name, value in values.items()}


@releasing_threads()
def train_policy(
    base: Policy, objective: Objective, records: Sequence[Record], config: TrainConfig, *, seed: int, folder: Path,
    progress: Callable[[int, int, float], None] = lambda *_: None,
) -> Policy:  # fmt: skip
    """Train a new policy into `folder/<version>`, or return the one already there.

    The policy's folder holds whole weights (or the LoRA adapter) as safetensors, the tokenizer, the
    records it was trained on and a manifest; it appears in one rename once it is complete. An
    interrupted training resumes from its checkpoint in `folder/<version>.work`.

    Args:
        base: policy to start from; its adapters are merged in first.
        objective: how records become tokens and a loss.
        records: what to learn from.
        config: the optimizer's settings.
        seed: of the order of the records, of dropout and of a new adapter's weights.
        folder: for policies.
        progress: called after each step with steps done, steps in all, and the loss.

    Raises:
        BadInput: no records, a record without a prompt or longer than the model's context, or one that the
            objective cannot learn from; a reference or teacher of another vocabulary.
        TrainingFailed: the loss or its gradient is NaN or inf (see `learn.train`).
    """
    version = policy_version(base, objective, records, config, seed)
    target, work = folder / version, folder / f"{version}.work"
    if read_manifest(target):
        shutil.rmtree(work, ignore_errors=True)  # left by a process killed after it published
        return load_policy(target, version)
    if not records:
        raise BadInput("nothing to learn from", where="learn", fix="draw more samples, or use an easier task")

    from selftaught.learn.train import train
    from selftaught.models.chat import ChatTokenizer

    tokenizer = ChatTokenizer(base.weights)
    groups = encode_records(objective, records, tokenizer, base)
    groups = with_policy_logprobs(objective, groups, tokenizer, config, work)
    model, keep = load_trainable(base, config, seed), config.keep_optimizer_state
    draft = work / "policy"
    result = train(
        model, groups, objective, config, seed=seed, checkpoint=work / "checkpoint", progress=progress,
        head_folder=base.path, optimizer_from=base.path / OPTIMIZER_FOLDER if keep else None,
        optimizer_to=work / OPTIMIZER_FOLDER if keep else None,
    )  # fmt: skip
    write_policy(draft, model, base, records, adapter=bool(config.lora_rank))
    if keep:
        (work / OPTIMIZER_FOLDER).rename(draft / OPTIMIZER_FOLDER)
    manifest = build_manifest(version, base_reference(base, target), objective, len(records), config, seed, result)
    publish(draft, target, manifest)
    shutil.rmtree(work, ignore_errors=True)
    return load_policy(target, version)


def load_trainable(base: Policy, config: TrainConfig, seed: int) -> Any:
    """Load the model of a policy to train: all weights in float32, or frozen ones with a new adapter."""
    import torch

    from selftaught.engines.local.agreement import check_before_training
    from selftaught.learn.trainer import training_dtype
    from selftaught.models.load import load_model

    if not config.lora_rank:
        whole = load_model(base, torch.float32)
        check_before_training(base, whole)
        return whole.requires_grad_(True)  # merging an adapter leaves its base frozen
    model = load_model(base, training_dtype(config.precision, "cpu"))
    check_before_training(base, model)
    return _with_adapter(model, config.lora_rank, seed)


def encode_records(
    objective: Objective, records: Sequence[Record], tokenizer: ChatTokenizer, base: Policy, *, keep_empty: bool = False
) -> list[Group]:
    """Encode records as groups of rows, each row checked against the model's context.

    Args:
        keep_empty: return a group for each record, in order, even if it teaches nothing.

    Raises:
        BadInput: a record without a prompt or a completion, or too long; no record teaches anything.
    """
    context = _context_length(base)
    found = objective.groups(records, tokenizer)
    for i, group in enumerate(found):
        for row in group:
            _check_row(row, f"training record {i}", context)
    if keep_empty:
        return list(found)
    groups = [group for group in found if group]
    if not groups:
        raise BadInput(
            f"none of {len(records)} records teaches anything: {objective.name} learns from differences, "
            "and within each record all scores are equal",
            where="learn",
            fix="draw more samples, or use problems that are neither always nor never solved",
        )
    return groups


def _check_row(row: Row, where: str, context: int | None) -> None:
    size = max(len(row.prompt), len(row.reference_prompt)) + len(row.completion)
    if not row.prompt:
        raise BadInput("its prompt is empty", where=where, fix="drop it, or give it a prompt")
    if not row.completion:
        raise BadInput("it has no tokens to learn", where=where, fix="drop it")
    if context and size > context:
        problem = f"it has {size} tokens and the model's context holds {context}"
        raise BadInput(problem, where=where, fix="drop it, or lower --max-tokens")


def _context_length(base: Policy) -> int | None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(base.weights), trust_remote_code=False)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def with_policy_logprobs(
    objective: Objective, groups: Sequence[Group], tokenizer: ChatTokenizer, config: TrainConfig, work: Path
) -> Sequence[Group]:
    """Add the outputs of the objective's reference or teacher to `groups`, if that is another policy than the base.

    It is loaded, evaluated and freed before the weights to train are loaded.
    """

    from selftaught.learn.frozen import with_frozen_logprobs
    from selftaught.learn.trainer import training_dtype
    from selftaught.models.load import load_model

    requires, top_k = objective.requires([row for group in groups for row in group]), objective.teacher_top_k
    for name, other in (("reference", objective.reference), ("teacher", objective.teacher)):
        if name in requires and other is not None:
            check_vocabulary(objective.name, name, other, tokenizer)
            frozen = load_model(other, training_dtype(config.precision, "cpu"))
            most = config.max_tokens_per_pass
            groups = with_frozen_logprobs(frozen, groups, {name}, most, top_k=top_k, cache=work / name)
            del frozen
    return groups


def check_vocabulary(objective: str, name: str, other: Policy, tokenizer: ChatTokenizer) -> None:
    """Raise `BadInput` where another policy's token ids mean something else."""
    from selftaught.models.chat import ChatTokenizer

    if ChatTokenizer(other.weights).vocabulary() != tokenizer.vocabulary():
        raise BadInput(
            "its vocabulary differs from that of the model to train",
            where=f"{objective}, {name} {other.path}",
            fix="use a policy of the same family",
        )


def _with_adapter(model: Any, rank: int, seed: int) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**63)
        return get_peft_model(model, config)


def write_policy(draft: Path, model: Any, base: Policy, records: Sequence[Record], *, adapter: bool) -> None:
    """Write all files of a policy but its manifest; a value head goes into a subfolder."""
    from selftaught.learn.value_head import take_head, write_head

    shutil.rmtree(draft, ignore_errors=True)
    if (head := take_head(model)) is not None:
        write_head(head, draft)
    if adapter:
        model.save_pretrained(draft, save_embedding_layers=False)  # "auto" would ask the hub about the base
    else:
        model.save_pretrained(draft)
        _copy_tokenizer(base.weights, draft)
    with (draft / "records.jsonl").open("w", encoding="utf-8") as out:
        out.writelines(json.dumps(as_json(record), ensure_ascii=False) + "\n" for record in records)


def build_manifest(
    version: str, base: dict[str, str], objective: Objective, records: int, config: TrainConfig, seed: int,
    result: TrainResult,
) -> dict[str, Any]:  # fmt: skip
    """The manifest beside a policy's weights: how they were trained."""
    made = {"version": version, "base": base, "adapter": bool(config.lora_rank), "objective": objective.name}
    made |= {"records": records, "seed": seed, "training": asdict(config)}
    return made | head_entry(objective) | asdict(result)


def head_entry(objective: Objective) -> dict[str, Any]:
    """The entry of a manifest that says what the policy's value head means; none where it scores nothing."""
    return {"head": objective.head.to_json()} if objective.head else {}


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Every small file of the model that training did not write: tokenizer, template, generation defaults."""
    for file in config_files(source):
        known = (target / file.name).exists() or file.name == MANIFEST or file.name.endswith(".index.json")
        if not known:
            shutil.copy2(file, target / file.name)
