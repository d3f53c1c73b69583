"""A training on records: all optimizer steps, which can be killed at any step and resumed."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from selftaught.learn.config import TrainConfig
from selftaught.learn.objectives.base import Group, Objective
from selftaught.learn.tracking import ExperimentTracker
from selftaught.learn.trainer import Trainer, TrainingFailed, TrainResult

Progress = Callable[[int, int, float], None]


def train(
    model: Any, groups: Sequence[Group], objective: Objective, config: TrainConfig, *, seed: int, checkpoint: Path,
    progress: Progress = lambda *_: None, head_folder: Path | None = None, optimizer_from: Path | None = None,
    optimizer_to: Path | None = None,
) -> TrainResult:  # fmt: skip
    """Train `model` in place, resuming from `checkpoint` if it holds one.

    Args:
        model: a causal language model of transformers, or a peft model around one; its trained weights are float32
            before and after.
        groups: rows to train on, grouped; not empty. Frozen outputs that the objective requires and the rows lack are
            computed by `model` as it is at the start.
        seed: of the order of the groups and of dropout; a resumed training sees the same order.
        checkpoint: folder for the state of an interrupted training.
        progress: called after each step with steps done, steps in all, and the loss.
        head_folder: folder of a policy whose value head to start from, for objectives that train one.
        optimizer_from: folder with the optimizer state to start from, if it has one.
        optimizer_to: folder to write the optimizer state to.

    Raises:
        TrainingFailed: the loss or its gradient is NaN or inf; what was learned before is in the checkpoint.
    """
    trainer = Trainer(model, objective, config, groups, seed=seed, head_folder=head_folder)
    name = checkpoint.parent.name.removesuffix(".work")
    tracker = ExperimentTracker(name, str(checkpoint.parent.parent / "tracked" / name))
    try:
        groups = trainer.with_frozen_logprobs(groups, cache=checkpoint)
        if optimizer_from:
            trainer.load_optimizer_state(optimizer_from)
        steps = _step_indices(len(groups), config, seed)
        done = _train_steps(trainer, groups, steps, checkpoint, tracker, progress)
        if optimizer_to:
            trainer.save_optimizer_state(optimizer_to)
    finally:
        tracker.close()
        trainer.close()
    return done


def _train_steps(
    trainer: Trainer, groups: Sequence[Group], steps: Sequence[Sequence[int]], checkpoint: Path,
    tracker: ExperimentTracker, progress: Progress,
) -> TrainResult:  # fmt: skip
    """All steps from the checkpoint on; `steps` are the indices of each step's groups."""
    done, saved = trainer.restore(checkpoint), time.monotonic()
    for step in range(done.steps, len(steps)):
        made = trainer.step([groups[i] for i in steps[step]], step, len(steps))
        if not math.isfinite(made.loss):
            trainer.save(checkpoint, done)
            where = f"step {step + 1} of {len(steps)} (records {steps[step]})"
            raise TrainingFailed(f"loss or gradient is NaN or inf at {where}: lower the learning rate")
        done = done.with_step(made)
        metrics = {"loss": made.loss, "learning_rate": made.learning_rate, "grad_norm": made.grad_norm}
        tracker.log(step + 1, metrics)
        progress(step + 1, len(steps), made.loss)
        if time.monotonic() - saved > trainer.config.checkpoint_seconds and step + 1 < len(steps):
            trainer.save(checkpoint, done)
            saved = time.monotonic()
    return done


def _step_indices(count: int, config: TrainConfig, seed: int) -> list[list[int]]:
    """The groups of each optimizer step, every pass over them in a new seeded order.

    Of epochs, the last step of each may be short; `config.steps` are all full, and a pass goes on within a step.
    """
    order, size = random.Random(seed), config.batch_size
    if config.steps:
        stream = [i for _ in range(-(-config.steps * size // count)) for i in _shuffled(count, order)]
        return [stream[i : i + size] for i in range(0, config.steps * size, size)]
    passes = [_shuffled(count, order) for _ in range(config.epochs)]
    return [one[i : i + size] for one in passes for i in range(0, count, size)]


def _shuffled(count: int, order: random.Random) -> list[int]:
    found = list(range(count))
    order.shuffle(found)
    return found
