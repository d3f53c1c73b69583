"""From a policy and records to a new policy on disk."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput
from selftaught.learn.config import Training
from selftaught.learn.objectives.base import Group, Objective
from selftaught.machine.threads import releasing_threads
from selftaught.models.cache import config_files
from selftaught.models.policy import MANIFEST, Policy, base_reference, load_policy, publish, read_manifest
from selftaught.records import as_json, content_hash

if TYPE_CHECKING:
    from selftaught.learn.trainer import Outcome
    from selftaught.models.chat import ChatTokenizer

OPTIMIZER = "optimizer"  # folder of a policy's optimiser state, for a training that carries it on
HOW_ONLY = ("checkpoint_seconds", "micro_tokens", "checkpointing")  # settings of the machine, not of what is learnt


def policy_version(base: Policy, objective: Objective, records: Sequence[Any], settings: Training, seed: int) -> str:
    """Content hash of how a policy is made: same base, records, objective, settings and seed, same version."""
    how = {name: value for name, value in asdict(settings).items() if name not in HOW_ONLY}
    return content_hash(base.version, named(objective), list(records), how, seed)


def named(objective: Objective) -> Any:
    """The objective's fields; policies among them by version, as the same weights may lie anywhere."""
    if not is_dataclass(objective):
        return objective.name
    values = {name: getattr(objective, name) for name in objective.__dataclass_fields__}
    return {name: value.version if isinstance(value, Policy) else value for name, value in values.items()}


@releasing_threads()
def learn(
    base: Policy, objective: Objective, records: Sequence[Any], settings: Training, *, seed: int, folder: Path,
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
        settings: of the optimiser.
        seed: of the order of the records, of dropout and of a new adapter's weights.
        folder: where policies are kept.
        progress: called after each step with steps done, steps in all, and the loss.

    Raises:
        BadInput: no records, a record without a prompt or longer than the model's context, or one that the
            objective cannot learn from; a reference or teacher of another vocabulary.
        TrainingFailed: the loss stopped being a number (see `learn.trainer`).
    """
    version = policy_version(base, objective, records, settings, seed)
    target, work = folder / version, folder / f"{version}.work"
    if read_manifest(target):
        shutil.rmtree(work, ignore_errors=True)  # left by a process killed after it published
        return load_policy(target)
    if not records:
        raise BadInput("nothing to learn from", where="learn", fix="draw more samples, or use an easier task")

    from selftaught.learn.trainer import train
    from selftaught.models.chat import ChatTokenizer

    tokenizer = ChatTokenizer(base.weights)
    groups = asked(objective, rows_of(objective, records, tokenizer, base), tokenizer, settings, work)
    model = trainable_model(base, settings, seed)
    draft = work / "policy"
    done = train(
        model, groups, objective, settings, seed=seed, checkpoint=work / "checkpoint", progress=progress,
        head=base.path, carried=base.path / OPTIMIZER if settings.carry else None,
        carry_to=work / OPTIMIZER if settings.carry else None,
    )  # fmt: skip
    write_policy(draft, model, base, records, adapter=bool(settings.lora_rank))
    if settings.carry:
        (work / OPTIMIZER).rename(draft / OPTIMIZER)
    publish(
        draft, target, manifest_of(version, base_reference(base, target), objective, len(records), settings, seed, done)
    )
    shutil.rmtree(work, ignore_errors=True)
    return load_policy(target)


def trainable_model(base: Policy, settings: Training, seed: int) -> Any:
    """The model of a policy, all weights in float32 and to be trained, or frozen with an adapter that is."""
    import torch

    from selftaught.engines.local.agreement import check_before_training
    from selftaught.learn.trainer import training_dtype
    from selftaught.models.load import load_model

    if not settings.lora_rank:
        whole = load_model(base, torch.float32)
        check_before_training(base, whole)
        return whole.requires_grad_(True)  # merging an adapter leaves its base frozen
    model = load_model(base, training_dtype(settings.precision, "cpu"))
    check_before_training(base, model)
    return _with_adapter(model, settings.lora_rank, seed)


def rows_of(
    objective: Objective, records: Sequence[Any], tokenizer: ChatTokenizer, base: Policy, *, keep_empty: bool = False
) -> list[Group]:
    """What to train on, each sequence checked against the model's context.

    Args:
        keep_empty: return a group for each record, in order, also where it teaches nothing.
    """
    context = _context(base)
    found = objective.groups(records, tokenizer)
    for i, group in enumerate(found):
        for row in group:
            size = max(len(row.prompt), len(row.anchor)) + len(row.target)
            if not row.prompt:
                raise BadInput("its prompt is empty", where=f"training record {i}", fix="drop it, or give it a prompt")
            if not row.target:
                raise BadInput("nothing of it is learnt", where=f"training record {i}", fix="drop it")
            if context and size > context:
                raise BadInput(
                    f"it has {size} tokens and the model's context holds {context}",
                    where=f"training record {i}",
                    fix="drop it, or lower --max-tokens",
                )
    if keep_empty:
        return list(found)
    groups = [group for group in found if group]
    if not groups:
        raise BadInput(
            f"none of {len(records)} records teaches anything: {objective.name} learns from differences, "
            "and within each record all are scored alike",
            where="learn",
            fix="draw more samples, or use problems that are neither always nor never solved",
        )
    return groups


def _context(base: Policy) -> int | None:
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(str(base.weights), trust_remote_code=False)
    return getattr(config.get_text_config(), "max_position_embeddings", None)


def asked(
    objective: Objective, groups: Sequence[Group], tokenizer: ChatTokenizer, settings: Training, work: Path
) -> Sequence[Group]:
    """`groups` with what the objective's own reference or teacher, a policy other than the base, says of them.

    It is loaded, asked and freed before the weights to train are loaded.
    """

    from selftaught.learn.forward import anchored
    from selftaught.learn.trainer import training_dtype
    from selftaught.models.load import load_model

    needs = objective.needs([row for group in groups for row in group])
    for name in ("reference", "teacher"):
        other = getattr(objective, name, None)
        if name in needs and isinstance(other, Policy):
            check_vocabulary(objective.name, name, other, tokenizer)
            frozen, top_k = load_model(other, training_dtype(settings.precision, "cpu")), getattr(objective, "top_k", 0)
            groups = anchored(frozen, groups, {name}, settings.micro_tokens, top_k=top_k, cache=work / name)
            del frozen
    return groups


def check_vocabulary(objective: str, name: str, other: Policy, tokenizer: ChatTokenizer) -> None:
    """Raise `BadInput` where another policy's token ids mean something else."""
    from selftaught.models.chat import ChatTokenizer

    if ChatTokenizer(other.weights).vocabulary() != tokenizer.vocabulary():
        raise BadInput(
            "its vocabulary is not that of the model to train",
            where=f"{objective}, {name} {other.path}",
            fix="use a policy of the same family",
        )


def _with_adapter(model: Any, rank: int, seed: int) -> Any:
    import torch
    from peft import LoraConfig, get_peft_model

    settings = LoraConfig(r=rank, lora_alpha=2 * rank, target_modules="all-linear", task_type="CAUSAL_LM")
    with torch.random.fork_rng():
        torch.manual_seed(seed % 2**63)
        return get_peft_model(model, settings)


def write_policy(draft: Path, model: Any, base: Policy, records: Sequence[Any], *, adapter: bool) -> None:
    """All files of a policy but its manifest; a value head in a folder of its own."""
    from selftaught.learn.forward import take_head, write_head

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


def manifest_of(
    version: str, base: dict[str, str], objective: Objective, records: int, settings: Training, seed: int, done: Outcome
) -> dict[str, Any]:
    """What stands beside a policy's weights: how they were made."""
    made = {"version": version, "base": base, "adapter": bool(settings.lora_rank), "objective": objective.name}
    made |= {"records": records, "seed": seed, "training": asdict(settings)}
    made |= {"steps": done.steps, "tokens": done.tokens, "losses": done.losses}
    return made | {"rates": done.rates, "norms": done.norms}


def _copy_tokenizer(source: Path, target: Path) -> None:
    """Every small file of the model that training did not write: tokenizer, template, generation defaults."""
    for file in config_files(source):
        known = (target / file.name).exists() or file.name == MANIFEST or file.name.endswith(".index.json")
        if not known:
            shutil.copy2(file, target / file.name)
