"""The trainer: single optimizer steps of any objective, on accelerate."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.learn.checkpoint import MOMENTS, load_checkpoint, load_moments, save_checkpoint, save_moments
from selftaught.learn.config import TrainConfig
from selftaught.learn.forward import HEAD_NAME, can_pack, forward_batch, row_tokens
from selftaught.learn.frozen import with_frozen_logprobs
from selftaught.learn.kernels.fused import fused_kernels, is_large
from selftaught.learn.kernels.optimizer import AdamW
from selftaught.learn.kernels.packing import ATTENTION_NAME, register_attention
from selftaught.learn.kernels.slow_path import slow_path_reason
from selftaught.learn.microbatches import microbatches
from selftaught.learn.objectives.base import Batch, EMAConfig, Group, Objective
from selftaught.learn.schedules import learning_rate_at
from selftaught.learn.teachers import EMA_KEY, EMATeacher
from selftaught.learn.value_head import add_head
from selftaught.machine.device import pick_dtype
from selftaught.machine.malloc import hold_memory, trim, unhold_memory
from selftaught.remarks import remark


class TrainingFailed(RuntimeError):
    """The loss or its gradient is NaN or inf; the weights before that step are in the checkpoint."""


@dataclass(frozen=True, slots=True)
class StepResult:
    """One optimizer step: its mean loss (NaN if no update was made), learning rate, gradient norm and tokens."""

    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int


@dataclass(frozen=True, slots=True)
class TrainResult:
    """A training: optimizer steps, tokens (prompt and completion, every epoch), and three numbers for each step."""

    steps: int = 0
    tokens: int = 0
    losses: tuple[float, ...] = ()
    learning_rates: tuple[float, ...] = ()
    grad_norms: tuple[float, ...] = ()

    def with_step(self, step: StepResult) -> TrainResult:
        """Append a step."""
        losses, rates = (*self.losses, step.loss), (*self.learning_rates, step.learning_rate)
        return TrainResult(self.steps + 1, self.tokens + step.tokens, losses, rates, (*self.grad_norms, step.grad_norm))


class Trainer:
    """Optimizer steps on weights that stay in place, so that an engine can sample from them in between.

    Args:
        model: see `learn.train.train`; computes in `dtype` until `close`.
        groups: some of the rows to train on, which show what the objective requires.
        seed: of dropout.
        head_folder: see `learn.train.train`.

    Attributes:
        model: the model.
        config: the settings.
        dtype: of the computation.
        requires: what the objective requires beyond log-probabilities.
        extra: plain data kept with a checkpoint.
    """

    def __init__(
        self, model: Any, objective: Objective, config: TrainConfig, groups: Sequence[Group], *, seed: int,
        head_folder: Path | None = None,
    ) -> None:  # fmt: skip
        from accelerate import Accelerator

        self.objective, self.config, self._seed = objective, config, seed
        self.extra: dict[str, Any] = {}
        self.requires = objective.requires([row for group in groups for row in group])
        if "value" in self.requires:
            add_head(model, objective.value_outputs, head_folder)
        trained = [p for p in model.parameters() if p.requires_grad]
        self._optimizer = AdamW(_parameter_groups(trained, config.weight_decay), config.learning_rate)
        self._accelerator = Accelerator(mixed_precision="no")  # the number format is decided here
        self.model = self._accelerator.prepare(model)
        self.dtype = training_dtype(config.precision, trained[0].device.type)
        self._large = is_large(model)
        if self._large:
            hold_memory()
        if self.dtype == torch.bfloat16:
            self._to_bfloat16()
        self._teacher = self._ema_teacher()
        if config.gradient_checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if why := slow_path_reason(self.model):
            remark(why)

    def _to_bfloat16(self) -> None:
        """Compute in bfloat16; a value head, which is small and reads fine differences, stays in float32."""
        head = {id(p) for n, p in self.model.named_parameters() if f".{HEAD_NAME}." in f".{n}"}
        self._optimizer.split_weights(keep=head)
        for p in self.model.parameters():
            if not p.requires_grad and p.is_floating_point():
                p.data = p.data.to(torch.bfloat16)

    def _ema_teacher(self) -> EMATeacher | None:
        ema = self.objective.ema_teacher
        return None if ema is None else self.moving_average(ema, "teacher")

    def moving_average(self, config: EMAConfig, output: str) -> EMATeacher:
        """The moving average of the weights in training, kept in checkpoints; there can be one. See `EMATeacher`."""
        top_k, most = self.objective.teacher_top_k, self.config.max_tokens_per_pass
        return EMATeacher(self.model, self._optimizer, config, top_k=top_k, max_tokens=most, output=output)

    def with_frozen_logprobs(self, groups: Sequence[Group], cache: Path | None = None) -> Sequence[Group]:
        """Add the outputs of the current weights, as frozen ones, to `groups` (see `learn.frozen`)."""
        requires = self.requires - {"teacher"} if self._teacher else self.requires  # a moving one acts at each step
        top_k, most = self.objective.teacher_top_k, self.config.max_tokens_per_pass
        with packed_attention_on(self.model):
            return with_frozen_logprobs(self.model, groups, requires, most, top_k=top_k, cache=cache)

    def step(
        self, batch: Sequence[Group], index: int, total: int, on_batch: Callable[[Batch], None] | None = None
    ) -> StepResult:
        """Take one optimizer step over `batch`, in as many forward passes as `max_tokens_per_pass` asks for.

        Args:
            index: of the step, from 0; with the seed it decides dropout, with `total` the learning rate.
            on_batch: called with each evaluated part of the batch.

        Returns:
            Its figures; if loss or gradient is not finite, the loss is NaN and no update was made.
        """
        rate = learning_rate_at(index, total, self.config)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with torch.random.fork_rng(), packed_attention_on(self.model), fused_kernels(self.model):
            torch.manual_seed((self._seed * 1_000_003 + index) % 2**63)
            labeled = self._teacher.with_logprobs(batch, self._update) if self._teacher else batch
            loss, norm = self._update(labeled, on_batch)
        if self._teacher and math.isfinite(loss):
            self._teacher.after_step()
        return StepResult(loss, rate, norm, sum(row_tokens(row) for group in batch for row in group))

    def _update(self, batch: Sequence[Group], on_batch: Callable[[Batch], None] | None = None) -> tuple[float, float]:
        """One update: the mean loss and its gradient's norm; the loss is NaN if no update was made."""
        self.model.train()
        try:
            loss = self._backward(batch, on_batch)
            norm = self._optimizer.grad_norm()
            if math.isfinite(loss) and math.isfinite(norm):
                self._optimizer.step(scale=min(1.0, self.config.max_grad_norm / (norm + 1e-6)))
            else:
                loss = math.nan
        finally:
            self._optimizer.zero_grad()
        return loss, norm

    def _backward(self, batch: Sequence[Group], on_batch: Callable[[Batch], None] | None) -> float:
        """The mean loss (see `Objective.normalizer`); its gradient accumulates in the parameters."""
        probes, total = self._probe_statistics(batch), 0.0
        size = sum(map(self.objective.normalizer, batch))
        learned = [tuple(row for row in group if not row.no_grad_probe) for group in batch]
        parts = microbatches(self.model, learned, self.config.max_tokens_per_pass)
        if len(parts) > 1 and self.dtype == torch.bfloat16:
            self._optimizer.accumulate_in_float32(self.model.get_input_embeddings(), self.model.get_output_embeddings())
        for part in parts:
            rows = [row for group in part for row in group]
            evaluated = forward_batch(self.model, rows, self.requires, tuple(map(len, part)), probes)
            loss = self.objective.loss(evaluated) / size
            loss.backward()
            total += float(loss.detach())
            if on_batch:
                on_batch(evaluated)
        return total

    def _probe_statistics(self, batch: Sequence[Group]) -> tuple[Tensor, int] | None:
        """The objective's sum over the probes of the whole step, which does not depend on how the step is split."""
        probes = [(row,) for group in batch for row in group if row.no_grad_probe]
        if not probes:
            return None
        with torch.no_grad():
            parts = microbatches(self.model, probes, self.config.max_tokens_per_pass)
            each = [[row for (row,) in part] for part in parts]
            evaluated = (forward_batch(self.model, rows, self.requires, (1,) * len(rows)) for rows in each)
            sums = [self.objective.probe_sum(one) for one in evaluated]
        return torch.stack(sums).sum(0), len(probes)

    def release_memory(self) -> None:
        """Free the memory that a large model's steps can do without, while other code computes."""
        self._optimizer.release_buffers()
        if self._large:
            trim()

    def save(self, folder: Path, done: TrainResult) -> None:
        """Write weights, optimizer state, `extra` and the progress to `folder`."""
        progress = asdict(done) | {"extra": self.extra}
        save_checkpoint(folder, self.model, self._optimizer, (*MOMENTS, "low_bits", EMA_KEY), progress)

    def restore(self, folder: Path) -> TrainResult:
        """Load the checkpoint in `folder`, if there is one, and return its progress."""
        found = load_checkpoint(folder, self.model, self._optimizer, (*MOMENTS, EMA_KEY))
        if found is None:
            return TrainResult()
        self.extra = found.get("extra", {})
        each = (tuple(found[name]) for name in ("losses", "learning_rates", "grad_norms"))
        return TrainResult(found["steps"], found["tokens"], *each)

    def save_optimizer_state(self, folder: Path) -> None:
        """Write the optimizer's moments for the next training."""
        save_moments(folder, self.model, self._optimizer)

    def load_optimizer_state(self, folder: Path) -> None:
        """Load the moments that an earlier training wrote into `folder`, if any."""
        load_moments(folder, self.model, self._optimizer)

    def close(self) -> None:
        """Return the model to float32 weights in evaluation mode, and drop gradients and optimizer state."""
        self._optimizer.zero_grad()
        self._optimizer.release_buffers()
        self._optimizer.join_weights()
        self._optimizer.state.clear()
        if self.config.gradient_checkpointing:
            self.model.gradient_checkpointing_disable()
        self.model.eval()
        self._accelerator.free_memory()
        if self._large:
            unhold_memory()


def training_dtype(precision: str, device: str) -> torch.dtype:
    """The number format of a training; "auto" is the faster one on this device."""
    fixed = {"bf16": torch.bfloat16, "float32": torch.float32}
    return fixed[precision] if precision in fixed else pick_dtype("auto", device)


@contextmanager
def packed_attention_on(model: Any) -> Iterator[None]:
    """Inside, a model that can be packed uses packed attention, also where activations are recomputed."""
    usual = model.config._attn_implementation
    if can_pack(model):
        register_attention()
        model.set_attn_implementation(ATTENTION_NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _parameter_groups(parameters: list[Tensor], decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.dim() >= 2]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]
