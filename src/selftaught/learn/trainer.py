"""The trainer: a loop on accelerate that learns any objective and can be killed at any step."""

from __future__ import annotations

import json
import math
import os
import random
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from selftaught.learn.config import Training
from selftaught.learn.forward import add_head, anchored, evaluate, side_by_side
from selftaught.learn.kernels.fused import large, lean
from selftaught.learn.kernels.optimizer import AdamW, join
from selftaught.learn.kernels.packing import NAME, packed_tokens, register
from selftaught.learn.kernels.slower import slower
from selftaught.learn.objectives.base import Batch, Group, Objective, Row
from selftaught.learn.schedules import rate_at
from selftaught.learn.teachers import MEAN, MovingTeacher
from selftaught.learn.tracking import Trackers
from selftaught.machine.device import pick_dtype
from selftaught.machine.malloc import hold_memory, trim, unhold_memory
from selftaught.remarks import remark

Progress = Callable[[int, int, float], None]
STATE = "state.safetensors"
MOMENTS = ("step", "exp_avg", "exp_avg_sq")


class TrainingFailed(RuntimeError):
    """The loss or its gradient stopped being a number; the weights before that step are in the checkpoint."""


@dataclass(frozen=True, slots=True)
class Step:
    """What one optimiser step came to: its mean loss (NaN if no step was made), rate, gradient norm, tokens read."""

    loss: float
    rate: float
    norm: float
    tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a training did: optimiser steps, tokens read (prompt and target, every epoch), and three numbers a step."""

    steps: int = 0
    tokens: int = 0
    losses: tuple[float, ...] = ()
    rates: tuple[float, ...] = ()
    norms: tuple[float, ...] = ()

    def and_then(self, step: Step) -> Outcome:
        """With one step more."""
        return Outcome(
            self.steps + 1, self.tokens + step.tokens, (*self.losses, step.loss), (*self.rates, step.rate),
            (*self.norms, step.norm),
        )  # fmt: skip


def train(
    model: Any, groups: Sequence[Group], objective: Objective, settings: Training, *, seed: int, checkpoint: Path,
    progress: Progress = lambda *_: None, head: Path | None = None, carried: Path | None = None,
    carry_to: Path | None = None,
) -> Outcome:  # fmt: skip
    """Train `model` in place, resuming from `checkpoint` where it holds one.

    Args:
        model: a causal language model of transformers, or a peft model around one; what is trained of it comes in
            float32 and is left so.
        groups: what to train on, rows that belong together; not empty. What the objective needs of frozen
            weights and the rows lack is asked of `model` as it comes in.
        seed: of the order of the groups and of dropout; a resumed training sees the same order.
        checkpoint: folder for the state of an interrupted training.
        progress: called after each step with steps done, steps in all, and the loss.
        head: folder of a policy whose value head to go on from, for objectives that train one.
        carried: folder with the optimiser's state to go on with, if it holds one.
        carry_to: folder to leave the optimiser's state in.

    Raises:
        TrainingFailed: the loss or its gradient is NaN or infinite; what was learnt before is in the checkpoint.
    """
    trainer = Trainer(model, objective, settings, groups, seed=seed, head=head)
    name = checkpoint.parent.name.removesuffix(".work")
    trackers = Trackers(name, str(checkpoint.parent.parent / "tracked" / name))
    try:
        groups = trainer.anchored(groups, cache=checkpoint)
        plan = _plan(len(groups), settings, seed)
        if carried:
            trainer.carry_from(carried)
        done, saved = trainer.restore(checkpoint), time.monotonic()
        for step in range(done.steps, len(plan)):
            made = trainer.step([groups[i] for i in plan[step]], step, len(plan))
            if not math.isfinite(made.loss):
                trainer.save(checkpoint, done)
                where = f"step {step + 1} of {len(plan)} (records {plan[step]})"
                raise TrainingFailed(f"the loss or its gradient is no number at {where}: lower the learning rate")
            done = done.and_then(made)
            trackers.tell(step + 1, {"loss": made.loss, "learning_rate": made.rate, "grad_norm": made.norm})
            progress(step + 1, len(plan), made.loss)
            if time.monotonic() - saved > settings.checkpoint_seconds and step + 1 < len(plan):
                trainer.save(checkpoint, done)
                saved = time.monotonic()
        if carry_to:
            trainer.carry_into(carry_to)
    finally:
        trackers.close()
        trainer.close()
    return done


class Trainer:
    """Steps of one training, on weights that stay where they are, so that an engine can sample from them in between.

    Args:
        model: see `train`; computes in `dtype` until `close`.
        groups: some of what is to be trained on, from which the objective tells what it needs.
        seed: of dropout.
        head: see `train`.

    Attributes:
        model: the model.
        dtype: what is computed in.
        needs: what the objective needs.
        extra: plain data kept with a checkpoint.
    """

    def __init__(
        self, model: Any, objective: Objective, settings: Training, groups: Sequence[Group], *, seed: int,
        head: Path | None = None,
    ) -> None:  # fmt: skip
        from accelerate import Accelerator

        self.objective, self.settings, self._seed = objective, settings, seed
        self.extra: dict[str, Any] = {}
        self.needs = objective.needs([row for group in groups for row in group])
        if "value" in self.needs:
            add_head(model, getattr(objective, "outputs", 1), head)
        trained = [p for p in model.parameters() if p.requires_grad]
        optimizer = AdamW(_groups(trained, settings.weight_decay), settings.learning_rate)
        self._accelerator = Accelerator(mixed_precision="no")  # the format is decided here
        self.model = self._accelerator.prepare(model)
        self._optimizer = optimizer
        self.dtype = training_dtype(settings.precision, trained[0].device.type)
        self._large = large(model)
        if self._large:
            hold_memory()
        if self.dtype == torch.bfloat16:
            self._narrow()
        self._teacher = self._moving_teacher()
        if settings.checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        if why := slower(self.model):
            remark(why)

    def _narrow(self) -> None:
        """Compute in bfloat16; a value head, which is small and reads fine differences, stays in float32."""
        from selftaught.learn.forward import HEAD

        own = {id(p) for n, p in self.model.named_parameters() if f".{HEAD}." in f".{n}"}
        self._optimizer.split(keep=own)
        for p in self.model.parameters():
            if not p.requires_grad and p.is_floating_point():
                p.data = p.data.to(torch.bfloat16)

    def _moving_teacher(self) -> MovingTeacher | None:
        objective = self.objective
        kind = getattr(objective, "moving", "")
        if not kind:
            return None
        decay, ahead, top_k = (getattr(objective, name) for name in ("decay", "ahead", "top_k"))
        ahead = ahead if kind == "future" else 0
        most = self.settings.micro_tokens
        return MovingTeacher(self.model, self._optimizer, decay=decay, ahead=ahead, top_k=top_k, most=most)

    def anchored(self, groups: Sequence[Group], cache: Path | None = None) -> Sequence[Group]:
        """`groups` with what frozen weights say of them, the model's own as it is now (see `learn.forward`)."""
        top_k = getattr(self.objective, "top_k", 0)
        needs = self.needs - {"teacher"} if self._teacher else self.needs  # one that moves is asked at each step
        with attention_of(self.model):
            return anchored(self.model, groups, needs, self.settings.micro_tokens, top_k=top_k, cache=cache)

    def step(
        self, batch: Sequence[Group], number: int, total: int, look: Callable[[Batch], None] | None = None
    ) -> Step:
        """One optimiser step over `batch`, in as many forward passes as fit.

        Args:
            number: of the step, from 0; with the seed it decides dropout, with `total` the learning rate.
            look: is shown each part of the batch as evaluated.

        Returns:
            What it came to; where loss or gradient is not finite, the loss is NaN and no step was made.
        """
        rate = rate_at(number, total, self.settings)
        for group in self._optimizer.param_groups:
            group["lr"] = rate
        with torch.random.fork_rng(), attention_of(self.model), lean(self.model):
            torch.manual_seed((self._seed * 1_000_003 + number) % 2**63)
            labelled = self._teacher.label(batch, self._descend) if self._teacher else batch
            loss, norm = self._descend(labelled, look)
        if self._teacher and math.isfinite(loss):
            self._teacher.stepped()
        return Step(loss, rate, norm, sum(_size(row) for group in batch for row in group))

    def _descend(self, batch: Sequence[Group], look: Callable[[Batch], None] | None = None) -> tuple[float, float]:
        """One update: the mean loss and the norm of its gradient; the loss is NaN where none was made."""
        self.model.train()
        try:
            loss = self._backward(batch, look)
            norm = self._optimizer.norm()
            if math.isfinite(loss) and math.isfinite(norm):
                self._optimizer.step(scale=min(1.0, self.settings.clip / (norm + 1e-6)))
            else:
                loss = math.nan
        finally:
            self._optimizer.zero_grad()
        return loss, norm

    def _backward(self, batch: Sequence[Group], look: Callable[[Batch], None] | None) -> float:
        """The mean loss (see `Objective.size`), whose gradient is left with the parameters."""
        survey = _survey(self.model, batch, self.objective, self.settings, self.needs)
        size, total = sum(map(self.objective.size, batch)), 0.0
        parts = _parts(self.model, [tuple(r for r in g if not r.probe) for g in batch], self.settings.micro_tokens)
        if len(parts) > 1 and self.dtype == torch.bfloat16:
            self._optimizer.sum_in_float32(self.model.get_input_embeddings(), self.model.get_output_embeddings())
        for part in parts:
            rows = [row for group in part for row in group]
            seen = evaluate(self.model, rows, self.needs, tuple(map(len, part)), survey)
            loss = self.objective.loss(seen) / size
            loss.backward()
            total += float(loss.detach())
            if look:
                look(seen)
        return total

    def rest(self) -> None:
        """Return what memory a large model's steps can do without, while somebody else computes."""
        self._optimizer.give_back()
        if self._large:
            trim()

    # --- checkpoints: one safetensors file, replaced in one rename; nothing is pickled ---

    def save(self, folder: Path, done: Outcome) -> None:
        """Keep weights, moments, `extra` and how far the training has come in `folder`."""
        tensors = {f"w.{n}": p.detach() for n, p in self.model.named_parameters() if p.requires_grad}
        _write(
            folder, tensors | self._moments((*MOMENTS, "rest", MEAN)), json.dumps(asdict(done) | {"extra": self.extra})
        )

    def restore(self, folder: Path) -> Outcome:
        """Go back to what was saved, if anything was; returns how far the training had come."""
        from safetensors import safe_open

        if not (folder / STATE).is_file():
            return Outcome()
        with safe_open(folder / STATE, framework="pt") as saved:  # pyright: ignore[reportCallIssue]
            for name, p in self.model.named_parameters():
                if p.requires_grad:
                    rest = f"rest.{name}"
                    kept = saved.get_tensor(f"w.{name}")
                    self._optimizer.set(p, join(kept, saved.get_tensor(rest)) if rest in saved.keys() else kept)  # noqa: SIM118
            self._take(saved, (*MOMENTS, MEAN))
            done = json.loads(saved.metadata()["progress"])
        self.extra = done.get("extra", {})
        return Outcome(done["steps"], done["tokens"], *(tuple(done[name]) for name in ("losses", "rates", "norms")))

    def carry_into(self, folder: Path) -> None:
        """Leave the optimiser's moments for the next training."""
        _write(folder, self._moments(MOMENTS), "{}")

    def carry_from(self, folder: Path) -> None:
        """Go on with the moments that an earlier training left in `folder`, if it left any."""
        from safetensors import safe_open

        if (folder / STATE).is_file():
            with safe_open(folder / STATE, framework="pt") as saved:  # pyright: ignore[reportCallIssue]
                self._take(saved, MOMENTS)

    def _moments(self, names: Collection[str]) -> dict[str, Tensor]:
        state = self._optimizer.state
        return {
            f"{key}.{n}": state[p][key] for n, p in self.model.named_parameters() if p in state for key in names
            if key in state[p]
        }  # fmt: skip

    def _take(self, saved: Any, names: Collection[str]) -> None:
        known = set(saved.keys())
        for n, p in self.model.named_parameters():
            for key in names:
                if p.requires_grad and f"{key}.{n}" in known:
                    kept = saved.get_tensor(f"{key}.{n}")
                    kept = kept.to(p.dtype) if key == "exp_avg" else kept
                    self._optimizer.state[p][key] = kept if key == "step" else kept.to(p.device)

    def close(self) -> None:
        """Back to float32 weights, in evaluation mode; gradients and optimiser are dropped."""
        self._optimizer.zero_grad()
        self._optimizer.give_back()
        self._optimizer.join()
        self._optimizer.state.clear()
        if self.settings.checkpointing:
            self.model.gradient_checkpointing_disable()
        self.model.eval()
        self._accelerator.free_memory()
        if self._large:
            unhold_memory()


def training_dtype(precision: str, device: str) -> torch.dtype:
    """What a training computes in, "auto" by what is faster on this device."""
    fixed = {"bf16": torch.bfloat16, "float32": torch.float32}
    return fixed[precision] if precision in fixed else pick_dtype("auto", device)


def _write(folder: Path, tensors: dict[str, Tensor], progress: str) -> None:
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    draft = folder / f"{STATE}.draft"
    save_file({n: t.contiguous() for n, t in tensors.items()}, draft, {"progress": progress})
    os.replace(draft, folder / STATE)


def _size(row: Row) -> int:
    return len(row.prompt) + len(row.target)


@contextmanager
def attention_of(model: Any) -> Iterator[None]:
    """Inside, a model that can attends to rows lying side by side, also where it computes again for the gradient."""
    usual = model.config._attn_implementation
    if side_by_side(model):
        register()
        model.set_attn_implementation(NAME)
    try:
        yield
    finally:
        model.set_attn_implementation(usual)


def _groups(parameters: list[Tensor], decay: float) -> list[dict[str, Any]]:
    matrices = [p for p in parameters if p.dim() >= 2]
    return [
        {"params": matrices, "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
    ]


def _plan(count: int, settings: Training, seed: int) -> list[list[int]]:
    """The rows of each optimiser step: every epoch a fresh seeded order, its last step may be short."""
    order = random.Random(seed)
    plan = []
    for _ in range(settings.epochs):
        epoch = list(range(count))
        order.shuffle(epoch)
        plan += [epoch[i : i + settings.batch] for i in range(0, count, settings.batch)]
    return plan


def _survey(
    model: Any, batch: Sequence[Group], objective: Objective, settings: Training, needs: Collection[str]
) -> tuple[Tensor, int] | None:
    """The objective's sum over the probes of the whole step, so that it does not depend on how the step is split."""
    probes = [(row,) for group in batch for row in group if row.probe]
    if not probes:
        return None
    with torch.no_grad():
        parts = [[row for (row,) in part] for part in _parts(model, probes, settings.micro_tokens)]
        sums = [objective.survey(evaluate(model, rows, needs, (1,) * len(rows))) for rows in parts]
    return torch.stack(sums).sum(0), len(probes)


# --- a step in parts that fit ---


def _parts(model: Any, batch: Sequence[Group], most: int) -> list[list[Group]]:
    """`batch` in as few parts as have at most `most` tokens each, as they are read, and those as even as can be."""
    return _evenly(batch, most) if side_by_side(model) else _alike(batch, most)


def _alike(batch: Sequence[Group], most: int) -> list[list[Group]]:
    """Groups of like length together, as they are padded to the longest."""
    groups = sorted(batch, key=_longest)
    fewest = len(_split(groups, most))
    if fewest == 1:
        return [groups]
    rows = sum(map(len, groups))
    limits = sorted({(i + 1) * _longest(group) for group in groups for i in range(rows)})
    return next(parts for limit in limits if len(parts := _split(groups, limit)) <= fewest)


def _evenly(batch: Sequence[Group], most: int) -> list[list[Group]]:
    """The largest group first, each to the part that has the fewest tokens."""
    sizes = sorted(((packed_tokens(group), i) for i, group in enumerate(batch)), reverse=True)
    for count in range(max(1, math.ceil(sum(size for size, _ in sizes) / most)), len(batch) + 1):
        held, parts = [0] * count, [[] for _ in range(count)]
        for size, i in sizes:
            at = held.index(min(held))
            held[at] += size
            parts[at].append(batch[i])
        if max(held) <= most:
            return parts
    return [[group] for group in batch]


def _longest(group: Group) -> int:
    return max(map(_size, group))


def _split(groups: list[Group], most: int) -> list[list[Group]]:
    """`groups`, sorted by their longest row, split so that no part, padded, has more than `most` tokens.

    One group always fits.
    """
    parts: list[list[Group]] = []
    held = 0
    for group in groups:
        if parts and (held + len(group)) * _longest(group) <= most:
            parts[-1].append(group)
            held += len(group)
        else:
            parts.append([group])
            held = len(group)
    return parts
