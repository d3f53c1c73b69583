"""What TRL's trainers make of a few batches: writes tests/learn/goldens_trl.json, and serves the live test.

    python scripts/goldens_trl.py            # needs trl==1.16.*; run again when an objective's test gains a case

Every loss is computed by a trainer of TRL on a batch of its own making; only token ids, rewards and advantages are
read off that batch. Log-probabilities are those of transformers, row by row, without padding.
"""

# pyright: reportMissingImports=false
# (TRL is needed here alone, and the tests that lend their models are no package)

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT / "tests" / "learn")]

from learn_models import make_model, make_tokenizer  # noqa: E402

from selftaught.learn.objectives.base import Group, Row  # noqa: E402

GOLDENS = ROOT / "tests" / "learn" / "goldens_trl.json"
QUESTIONS = ["what is one plus two", "how red is the cat", "what is two", "how is the dog"]
CHOSEN = ["the sum is three .", "green .", "two . two .", "the dog is blue"]
REJECTED = ["cat .", "the cat is the sum of red", "two . one .", "red"]


@dataclass
class Case:
    """One loss of TRL: the objective that should equal it, its rows with all they need, the model, and the loss."""

    name: str
    objective: tuple[str, dict[str, Any]]
    groups: list[Group]
    model: Any
    loss: Tensor


def models(count: int = 2) -> list[Any]:
    """The tiny model, and others of its kind that differ a little from it."""
    made = [make_model(spread=0.2) for _ in range(count)]
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for model in made[1:]:
            for parameter in model.parameters():
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator))
    return made


def logprobs(model: Any, prompt: Sequence[int], target: Sequence[int]) -> tuple[float, ...]:
    """log p of each target token, from one plain forward pass."""
    ids = torch.tensor([[*prompt, *target]])
    with torch.no_grad():
        spread = model(input_ids=ids).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
    return tuple(spread.gather(-1, torch.tensor(target)[:, None])[:, 0].tolist())


def split(ids: Tensor, real: Tensor, target: Tensor) -> list[tuple[tuple[int, ...], tuple[int, ...]]]:
    """Prompt and target of each row of a padded batch, told by two masks."""
    found = []
    for row, there, learnt in zip(ids, real.bool(), target.bool(), strict=True):
        found.append((tuple(row[there & ~learnt].tolist()), tuple(row[there & learnt].tolist())))
    return found


def settings(kind: type, folder: str, **more: Any) -> Any:
    """Arguments of a trainer on a processor, in float32 and without reports."""
    usual = {"output_dir": folder, "use_cpu": True, "bf16": False, "report_to": [], "per_device_train_batch_size": 4}
    return kind(**(usual | {"disable_tqdm": True} | more))


def sft_cases(folder: str) -> Iterator[Case]:
    """Mean over the tokens of completions."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    (model,) = models(1)
    data = Dataset.from_list([{"prompt": q, "completion": f" {c}"} for q, c in zip(QUESTIONS, CHOSEN, strict=True)])
    args = settings(SFTConfig, folder, completion_only_loss=True)
    trainer = SFTTrainer(model, args=args, train_dataset=data, processing_class=make_tokenizer())
    batch = next(iter(trainer.get_train_dataloader()))
    target = batch["labels"] != -100
    rows = [(Row(*pair),) for pair in split(batch["input_ids"], batch["attention_mask"], target)]
    yield Case("sft", ("sft", {}), rows, model, trainer.compute_loss(model, dict(batch)))


def pair_groups(found: list[tuple[tuple[int, ...], tuple[int, ...]]], reference: Any = None) -> list[Group]:
    """Groups of chosen and rejected, from all chosen followed by all rejected."""
    half = len(found) // 2
    facts = {"label_smoothing": 0.0, "margin": 0.0}

    def row(prompt: tuple[int, ...], target: tuple[int, ...]) -> Row:
        said = {"reference": logprobs(reference, prompt, target)} if reference else {}
        return Row(prompt, target, 1.0, facts, said)

    return [(row(*found[i]), row(*found[half + i])) for i in range(half)]


def dpo_cases(folder: str) -> Iterator[Case]:
    """All that DPO's trainer shares with ours, by setting the same attributes that its arguments set."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    model, reference = models()
    rows = zip(QUESTIONS, CHOSEN, REJECTED, strict=True)
    data = Dataset.from_list([{"prompt": q, "chosen": f" {c}", "rejected": f" {r}"} for q, c, r in rows])
    trainer = DPOTrainer(
        model, reference, args=settings(DPOConfig, folder), train_dataset=data, processing_class=make_tokenizer()
    )
    batch = next(iter(trainer.get_train_dataloader()))
    groups = pair_groups(split(batch["input_ids"], batch["attention_mask"], batch["completion_mask"]), reference)
    for kind, ours, beta, smooth in [
        ("sigmoid", "sigmoid", 0.1, 0.0), ("sigmoid", "sigmoid", 1.0, 0.0), ("ipo", "ipo", 0.1, 0.0),
        ("ipo", "ipo", 0.5, 0.0), ("hinge", "hinge", 0.1, 0.0), ("hinge", "hinge", 2.0, 0.0),
        ("robust", "robust", 0.3, 0.1), ("robust", "robust", 1.0, 0.4), ("sppo_hard", "sppo", 0.5, 0.0),
    ]:  # fmt: skip
        trainer.loss_types, trainer.loss_weights = [kind], [1.0]
        trainer.beta, trainer.label_smoothing = beta, smooth
        how = {"beta": beta, "loss_type": ours, "label_smoothing": smooth}
        loss = trainer.compute_loss(model, dict(batch))
        yield Case(f"dpo-{kind}-{beta}-{smooth}", ("dpo", how), groups, model, loss)
    trainer.loss_types, trainer.loss_weights, trainer.label_smoothing = ["sigmoid", "sft"], [1.0, 0.5], 0.0
    for beta, at in ((0.1, 0), (1.0, 2)):  # one pair at a time: with more, TRL averages the likelihood over all tokens
        trainer.beta, half = beta, len(groups)
        one = {name: values[[at, half + at]] for name, values in batch.items()}
        how = {"beta": beta, "nll_coef": 0.5}
        yield Case(f"rpo-{beta}", ("rpo", how), [groups[at]], model, trainer.compute_loss(model, one))


def kto_cases(folder: str) -> Iterator[Case]:
    """KTO with its KL estimate, and without it."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    reference, model = models()  # this way round the estimate is above 0, where it counts
    rows = zip(QUESTIONS, CHOSEN, [True, False, True, False], strict=True)
    data = Dataset.from_list([{"prompt": q, "completion": f" {c}", "label": good} for q, c, good in rows])
    args = settings(KTOConfig, folder, train_sampling_strategy="sequential")
    trainer = KTOTrainer(model, reference, args=args, train_dataset=data, processing_class=make_tokenizer())
    batch = next(iter(trainer.get_train_dataloader()))
    main = split(batch["input_ids"], batch["attention_mask"], batch["completion_mask"])
    probes = split(batch["KL_input_ids"], batch["KL_attention_mask"], batch["KL_completion_mask"])

    def row(prompt: tuple[int, ...], target: tuple[int, ...], **more: Any) -> Row:
        return Row(prompt, target, token_features={"reference": logprobs(reference, prompt, target)}, **more)

    for beta, good, bad in [(0.1, 1.0, 1.0), (1.0, 1.5, 0.5)]:
        trainer.beta, trainer.desirable_weight, trainer.undesirable_weight = beta, good, bad
        groups = [
            (
                row(*pair, row_features={"good": float(label)}, weight=good if label else bad),
                row(*probe, no_grad_probe=True),
            )
            for pair, probe, label in zip(main, probes, batch["label"].tolist(), strict=True)
        ]
        loss = trainer.compute_loss(model, dict(batch))
        how = {"beta": beta, "desirable_weight": good, "undesirable_weight": bad}
        yield Case(f"kto-{beta}-{good}-{bad}", ("kto", how), groups, model, loss)


def reference_free_cases(folder: str) -> Iterator[Case]:
    """SimPO whole; of ORPO the odds ratio, beside the mean likelihood of each chosen response."""
    from datasets import Dataset
    from trl.experimental.cpo import CPOConfig, CPOTrainer
    from trl.experimental.orpo import ORPOConfig, ORPOTrainer

    rows = zip(QUESTIONS, CHOSEN, REJECTED, strict=True)
    data = Dataset.from_list([{"prompt": q, "chosen": f" {c}", "rejected": f" {r}"} for q, c, r in rows])
    (model,) = models(1)
    args = settings(CPOConfig, folder, loss_type="simpo", cpo_alpha=0.0, beta=2.0, simpo_gamma=0.5, max_length=40)
    trainer: Any = CPOTrainer(model, args=args, train_dataset=data, processing_class=make_tokenizer())
    batch = next(iter(trainer.get_train_dataloader()))
    loss, _ = trainer.get_batch_loss_metrics(model, dict(batch))
    groups = _concatenated(trainer, batch)
    yield Case("simpo", ("simpo", {"beta": 2.0, "gamma": 0.5}), groups, model, loss)
    (model,) = models(1)
    args = settings(ORPOConfig, folder, beta=0.3, max_length=40)
    trainer = ORPOTrainer(model, args=args, train_dataset=data, processing_class=make_tokenizer())
    batch = next(iter(trainer.get_train_dataloader()))
    chosen, rejected = trainer.concatenated_forward(model, dict(batch))[:2]
    odds, *_ = trainer.odds_ratio_loss(chosen, rejected)
    yield Case("orpo", ("orpo", {"beta": 0.3}), _concatenated(trainer, batch), model, -odds.mean() - chosen.mean())


def _concatenated(trainer: Any, batch: Any) -> list[Group]:
    whole = trainer.concatenated_inputs(batch, padding_value=0)
    labels = whole["concatenated_labels"] != -100
    return pair_groups(split(whole["concatenated_input_ids"], whole["concatenated_attention_mask"], labels))


def rewards(completions: list[Any], **_: Any) -> list[float]:
    """Uneven rewards, whatever was written."""
    return [float((3 * i) % 5) / 4 for i in range(len(completions))]


def online_cases(folder: str) -> Iterator[Case]:
    """GRPO and its kin, and RLOO, on rollouts that TRL sampled, rewarded and gave advantages."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    data = Dataset.from_list([{"prompt": q} for q in QUESTIONS])
    how = {"num_generations": 4, "max_completion_length": 12, "per_device_train_batch_size": 8, "temperature": 1.0}
    for name, config, kind in [("grpo", GRPOConfig, GRPOTrainer), ("rloo", RLOOConfig, RLOOTrainer)]:
        model, away = models()
        model.save_pretrained(f"{folder}/start")  # the trainers load their reference from where the model came from
        model = type(model).from_pretrained(f"{folder}/start", dtype=torch.float32)
        args = settings(config, folder, beta=0.05, **how)
        trainer: Any = kind(model, rewards, args=args, train_dataset=data, processing_class=make_tokenizer())
        trainer.ref_model.load_state_dict(away.state_dict())
        model.train()
        trainer.current_gradient_accumulation_steps = 1
        asked = next(iter(trainer.get_train_dataloader()))[:8]
        batch = _uneven(trainer, asked)
        groups = _rollouts(batch, model, trainer.ref_model, name)
        if name == "grpo":
            held = [row.token_features["old_logprobs"] for group in groups for row in group]
            batch["old_per_token_logps"] = torch.nn.utils.rnn.pad_sequence(
                [torch.tensor(o) for o in held], batch_first=True
            )
        with torch.no_grad():  # now the policy is another than the one that sampled
            generator = torch.Generator().manual_seed(5)
            for parameter in model.parameters():
                parameter.add_(0.03 * torch.randn(parameter.shape, generator=generator))
        variants = _grpo_variants(trainer) if name == "grpo" else [("rloo", {"kl_coef": 0.05})]
        for label, spec in variants:
            loss = trainer._compute_loss(model, dict(batch))
            maker = {"rloo": "rloo"}.get(name, "policy_gradient")
            yield Case(f"{name}-{label}", (maker, spec), groups, model, loss)


def _uneven(trainer: Any, asked: Any) -> Any:
    """Rollouts of different lengths, so that a mean over rows is not one over tokens."""
    for seed in range(20):
        torch.manual_seed(seed)
        batch = trainer._generate_and_score_completions(asked)
        if len(set(batch["completion_mask"].sum(1).tolist())) > 2:
            return batch
    raise RuntimeError("no seed gives rollouts of three lengths")


def _grpo_variants(trainer: Any) -> Iterator[tuple[str, dict[str, Any]]]:
    """Sets the trainer and names the settings of ours that should equal it."""
    for label, loss_type, level, kl, ours in [
        ("clip", "grpo", "token", 0.0, {}),
        ("kl", "grpo", "token", 0.05, {"kl_coef": 0.05}),
        ("kl-unweighed", "grpo", "token", 0.05, {"kl_coef": 0.05, "kl_importance_weighted": False}),
        ("mean-of-tokens", "bnpo", "token", 0.05, {"kl_coef": 0.05, "loss_aggregation": "token-mean"}),
        ("constant", "dr_grpo", "token", 0.0, {"loss_aggregation": "seq-mean-token-sum-norm", "max_tokens": 12}),
        ("gspo", "grpo", "sequence", 0.0, {"importance_level": "sequence_mean"}),
        ("dapo", "dapo", "token", 0.0, {"loss_aggregation": "token-mean"}),
        ("dapo-kl", "dapo", "token", 0.05, {"loss_aggregation": "token-mean", "kl_coef": 0.05}),
    ]:
        trainer.loss_type, trainer.importance_sampling_level, trainer.beta = loss_type, level, kl
        trainer.epsilon_low, trainer.epsilon_high = 0.02, 0.04
        trainer.args.use_bias_correction_kl = ours.get("kl_importance_weighted", True)
        yield label, {**ours, "clip_low": 0.02, "clip_high": 0.04, "name": "grpo"}


def _rollouts(batch: Any, sampler: Any, reference: Any, name: str) -> list[Group]:
    """Two groups of four, with TRL's advantages (RLOO's are computed anew by ours, and must come out the same)."""
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], 1)
    real = torch.cat([batch["prompt_mask"], batch["completion_mask"]], 1)
    target = torch.cat([torch.zeros_like(batch["prompt_mask"]), batch["completion_mask"]], 1)
    earned = rewards([None] * 8)
    rows = []
    for i, (prompt, answer) in enumerate(split(ids, real, target)):
        facts = {"old_logprobs": logprobs(sampler, prompt, answer), "reference": logprobs(reference, prompt, answer)}
        facts["advantage"] = (batch["advantages"][i].item(),) * len(answer)
        rows.append(Row(prompt, answer, row_features={"kl_coef": 0.05, "reward": earned[i]}, token_features=facts))
    assert name != "rloo" or torch.allclose(
        batch["old_logps"], torch.tensor([sum(row.token_features["old_logprobs"]) for row in rows]), atol=1e-4
    )
    return [tuple(rows[:4]), tuple(rows[4:])]


def cases() -> Iterator[Case]:
    """Every case; each must be used up (its gradient taken) before the next is asked for."""
    with tempfile.TemporaryDirectory() as folder:
        for kind in (sft_cases, dpo_cases, kto_cases, reference_free_cases, online_cases):
            yield from kind(folder)


def main() -> None:
    """Write the goldens."""
    import transformers
    import trl

    found = []
    for case in cases():
        print(case.name, case.loss.item(), flush=True)
        groups = [[_row(row, case.model) for row in group] for group in case.groups]
        found.append({"name": case.name, "objective": case.objective, "groups": groups, "loss": case.loss.item()})
    versions = {"trl": trl.__version__, "transformers": transformers.__version__, "torch": torch.__version__}
    text = json.dumps({"versions": versions, "cases": found}, indent=None, separators=(",", ":"))
    GOLDENS.write_text(text.replace('{"name"', '\n{"name"') + "\n", "utf-8")


def _row(row: Row, model: Any) -> dict[str, Any]:
    return {
        "logprobs": [round(x, 7) for x in logprobs(model, row.prompt, row.completion)],
        "weight": row.weight,
        "row_features": row.row_features,
        "token_features": {name: [round(x, 7) for x in values] for name, values in row.token_features.items()},
        "no_grad_probe": row.no_grad_probe,
    }


if __name__ == "__main__":
    main()
