"""The optimizer's settings."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from selftaught.errors import BadInput
from selftaught.learn.checks import check_choices


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """Settings of the optimizer.

    Attributes:
        epochs: passes over the records.
        steps: optimizer steps in place of `epochs`; the records are cycled through, each pass in a new order, and every
            batch is full. 0: as many as the epochs take.
        learning_rate: peak learning rate of AdamW.
        batch_size: records in one optimizer step.
        max_tokens_per_pass: most tokens in one forward pass; bounds memory and changes only the rounding.
        gradient_checkpointing: recompute activations in the backward pass: a third more time for far less memory.
        warmup_ratio: fraction of the steps over which the learning rate rises.
        schedule: of the learning rate after the warm-up (see `learn.schedules`).
        decay_ratio: fraction of the steps after the warm-up in which "wsd" decays at the end, and in which "infinite"
            both cools down at the start and anneals at the end.
        constant_lr_ratio: constant rate of "infinite", as a fraction of the peak rate.
        schedule_start: fraction of the schedule that earlier trainings have gone through, for one schedule over several
            trainings (`learn.round_schedule`); warm-up and decay are fractions of the whole.
        schedule_end: fraction of the schedule at which this training ends.
        min_lr_ratio: lowest rate after the warm-up, as a fraction of the peak rate: a schedule falls to it, not to 0.
        weight_decay: AdamW's decoupled decay of matrices; 0 as fine-tuning is short.
        max_grad_norm: gradients with a larger norm are scaled down to it; infinity clips nothing.
        lora_rank: 0 trains all weights; otherwise a LoRA adapter (2106.09685) of this rank on all linear layers.
        keep_optimizer_state: start from the optimizer state that the base policy's training saved, and save one for the
            next training, offline or online (B-STaR keeps it, STaR starts afresh); full weights only, and policies take
            three times the disk.
        precision: "auto" (bf16 if the processor multiplies it faster, by a measurement of 10 ms, else float32),
            "bf16" (compute in bfloat16; weights are updated in float32, see `learn.kernels.optimizer`) or "float32".
        checkpoint_seconds: time between checkpoints, from which an interrupted training resumes.

    Raises:
        BadInput: a value that means nothing.
    """

    epochs: int = 3
    steps: int = 0
    learning_rate: float = 2e-5
    batch_size: int = 16
    max_tokens_per_pass: int = 512
    gradient_checkpointing: bool = False
    warmup_ratio: float = 0.05
    schedule: Literal["cosine", "linear", "constant", "wsd", "infinite"] = "cosine"
    decay_ratio: float = 0.2
    constant_lr_ratio: float = 0.5
    schedule_start: float = 0.0
    schedule_end: float = 1.0
    min_lr_ratio: float = 0.0
    weight_decay: float = 0.0
    max_grad_norm: float = 1.0
    lora_rank: int = 0
    keep_optimizer_state: bool = False
    precision: Literal["auto", "bf16", "float32"] = "auto"
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        check_choices(self)
        for name in ("epochs", "learning_rate", "batch_size", "max_tokens_per_pass", "max_grad_norm"):
            if not getattr(self, name) > 0:
                raise BadInput(f"must be above 0, got {getattr(self, name)}", where=name, fix="use more than 0")
        for name in ("steps", "warmup_ratio", "weight_decay", "lora_rank", "checkpoint_seconds"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"must be ≥ 0, got {getattr(self, name)}", where=name, fix="use 0 or more")
        for name in ("learning_rate", "weight_decay"):
            if not math.isfinite(getattr(self, name)):
                raise BadInput(f"must be finite, got {getattr(self, name)}", where=name, fix="use a finite number")
        longest = 0.5 if self.schedule == "infinite" else 1.0
        for name, high in (("decay_ratio", longest), ("constant_lr_ratio", 1.0), ("min_lr_ratio", 1.0)):
            if not 0 <= getattr(self, name) <= high:
                got = f"must be in 0..{high:g}, got {getattr(self, name)}"
                raise BadInput(got, where=name, fix=f"use 0 to {high:g}")
        if not 0 <= self.schedule_start < self.schedule_end <= 1:
            got = f"the schedule must run from 0 to 1, got {self.schedule_start} to {self.schedule_end}"
            raise BadInput(got, where="schedule_start, schedule_end", fix="use 0 and 1 for a training of its own")
        if self.keep_optimizer_state and self.lora_rank:
            problem = "each LoRA training has a new adapter"
            raise BadInput(problem, where="keep_optimizer_state", fix="train full weights")

    def num_steps(self, records: int) -> int:
        """Optimizer steps of a training on so many records."""
        return self.steps or self.epochs * -(-records // self.batch_size)
