"""How learning is optimised, whatever is learnt."""

from __future__ import annotations

import math
from dataclasses import dataclass

from selftaught.errors import BadInput, suggest

SCHEDULES = ("cosine", "linear", "constant", "wsd", "infinite")
PRECISIONS = ("auto", "bf16", "float32")


@dataclass(frozen=True, slots=True)
class Training:
    """Settings of the optimiser.

    Attributes:
        epochs: passes over the records.
        learning_rate: peak learning rate of AdamW.
        batch: records in one optimiser step.
        micro_tokens: most tokens in one forward pass; bounds memory, changes only the rounding.
        checkpointing: compute activations again in the backward pass: a third more time for far less memory.
        warmup: fraction of the steps over which the learning rate rises.
        schedule: after the warm-up "cosine", "linear", "constant", "wsd" or "infinite" (see `learn.schedules`).
        cooldown: fraction of the steps after the warm-up in which "wsd" decays at the end, and "infinite" comes
            down to its plateau at first and anneals at the end.
        plateau: where "infinite" stays, as a fraction of the peak rate.
        weight_decay: AdamW's decoupled decay of matrices; 0 as fine-tuning is short.
        clip: largest gradient norm; infinity clips nothing.
        lora_rank: 0 trains all weights; otherwise a LoRA adapter (2106.09685) of this rank on all linear layers.
        carry: go on with the optimiser's state that the policy trained from was left with, and leave one for the
            next, whichever of them learns online (B-STaR carries, STaR starts afresh); full weights only, and policies
            take three times the disk.
        precision: "auto" (bf16 where the processor multiplies it faster, by a measurement of 10 ms, else float32),
            "bf16" (computing in bfloat16; weights are updated in float32, see `learn.optimizer`) or "float32".
        checkpoint_seconds: how often the state is saved that an interrupted training resumes from.

    Raises:
        BadInput: a value that means nothing.
    """

    epochs: int = 3
    learning_rate: float = 2e-5
    batch: int = 16
    micro_tokens: int = 512
    checkpointing: bool = False
    warmup: float = 0.05
    schedule: str = "cosine"
    cooldown: float = 0.2
    plateau: float = 0.5
    weight_decay: float = 0.0
    clip: float = 1.0
    lora_rank: int = 0
    carry: bool = False
    precision: str = "auto"
    checkpoint_seconds: float = 60.0

    def __post_init__(self) -> None:
        for name, known in (("schedule", SCHEDULES), ("precision", PRECISIONS)):
            if getattr(self, name) not in known:
                raise BadInput(f"unknown {getattr(self, name)!r}", where=name, fix=suggest(getattr(self, name), known))
        for name in ("epochs", "learning_rate", "batch", "micro_tokens", "clip"):
            if not getattr(self, name) > 0:
                raise BadInput(f"got {getattr(self, name)}", where=name, fix="use more than 0")
        for name in ("warmup", "weight_decay", "lora_rank", "checkpoint_seconds"):
            if not getattr(self, name) >= 0:
                raise BadInput(f"got {getattr(self, name)}", where=name, fix="use 0 or more")
        for name in ("learning_rate", "weight_decay"):
            if not math.isfinite(getattr(self, name)):
                raise BadInput(f"got {getattr(self, name)}", where=name, fix="use a finite number")
        for name, most in (("cooldown", 0.5 if self.schedule == "infinite" else 1.0), ("plateau", 1.0)):
            if not 0 <= getattr(self, name) <= most:
                raise BadInput(f"got {getattr(self, name)}", where=name, fix=f"use 0 to {most:g}")
        if self.carry and self.lora_rank:
            raise BadInput("each training has an adapter of its own", where="carry", fix="train full weights")
