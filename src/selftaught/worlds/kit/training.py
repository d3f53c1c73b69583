"""Train a network on a world's text until it is its writer: soft targets, Muon and AdamW, exact resume."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Executor, Future, ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch

from selftaught.machine.malloc import release_memory
from selftaught.machine.processes import end_with_parent
from selftaught.worlds.kit.build import TrainingConfig
from selftaught.worlds.kit.network import Shape, Weights, initial_weights, surprise
from selftaught.worlds.kit.optimizer import Muon, warmup_cosine
from selftaught.worlds.kit.text import Array, Lessons, Text, entropies, make_batch, plan, write_chunk

SHARDS = 2  # of a step, each with gradients of its own; the result does not depend on how many threads there are
SMOOTHING = 0.98  # of the running divergence, per step
STATE_FILE = "state.pt"


@dataclass
class Progress:
    """How far a training is.

    Attributes:
        steps: optimizer steps done.
        visits: chunks read to the end, of all passes.
        done: batches of the present chunk that are done.
        tokens: tokens read, without padding.
        seconds: time spent.
        sums, counts: per group of skills, smoothed sum of KL(writer || network) and number of decisions.
        text: hash of each chunk read, of all passes.
        curve: tokens, seconds and divergence after each chunk.
    """

    steps: int = 0
    visits: int = 0
    done: int = 0
    tokens: int = 0
    seconds: float = 0.0
    sums: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    text: list[str] = field(default_factory=list)
    curve: list[dict[str, Any]] = field(default_factory=list)

    @property
    def divergence(self) -> dict[str, float]:
        """Running mean of KL(writer || network) by group of skills, in nats a decision."""
        return {name: self.sums[name] / self.counts[name] for name in sorted(self.sums)}

    def end_chunk(self, text: Text) -> None:
        """Take note of a chunk that was read to its end."""
        self.visits, self.done = self.visits + 1, 0
        self.text.append(text.sha256)
        divergence = {name: round(nats, 4) for name, nats in self.divergence.items()}
        self.curve.append({"tokens": self.tokens, "seconds": round(self.seconds), "kl": divergence})

    def add(self, found: Mapping[str, tuple[float, int]]) -> None:
        """Take in the divergence of a step: group -> (sum, number)."""
        for name in {*self.sums, *found}:
            total, count = found.get(name, (0.0, 0))
            self.sums[name] = self.sums.get(name, 0.0) * SMOOTHING + total
            self.counts[name] = self.counts.get(name, 0.0) * SMOOTHING + count


def group_of(skill: str) -> str:
    """The group that a skill is reported in: what is before the colon."""
    return skill.partition(":")[0]


class Texts:
    """The chunks of a training's text, written ahead by another process.

    Args:
        folder: where chunks are kept.
        pool: writes chunks; without one they are written when they are needed.
    """

    def __init__(self, folder: Path, lessons: Lessons, config: TrainingConfig, pool: Executor | None = None) -> None:
        self.folder, self.lessons, self.config, self.pool = folder, lessons, config, pool
        self._written: dict[int, Future[None]] = {}
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(config.chunks if pool else 0):
            if not self.file(number).exists():
                self._written[number] = pool.submit(write_chunk, *self._order(number))  # type: ignore[union-attr]

    def file(self, number: int) -> Path:
        """File of a chunk."""
        return self.folder / f"{number:05d}.npz"

    def _order(self, number: int) -> tuple[Path, Lessons, int, int]:
        seed = self.config.seed * 100_000 + number
        return self.file(number), self.lessons, seed, self.config.chunk_tokens

    def load(self, number: int) -> Text:
        """A chunk, when it is written."""
        if number in self._written:
            self._written.pop(number).result()
        write_chunk(*self._order(number))
        return Text.load(self.file(number))


class Training:
    """A network in training.

    Args:
        executor: threads that compute gradients; the weights do not depend on it.
    """

    def __init__(self, shape: Shape, config: TrainingConfig, executor: ThreadPoolExecutor | None = None) -> None:
        self.shape, self.config = shape, config
        self.weights: Weights = initial_weights(shape, config.seed)
        for tensor in self.weights.values():
            tensor.requires_grad_()
        self.progress = Progress()
        self._each: Any = executor.map if executor else map
        matrices = [self.weights[name] for name in ("attention", "gate_up", "down")]
        vectors = [self.weights[name] for name in ("embedding", "gain")]
        muon = Muon(matrices, lr=config.learning_rate, weight_decay=config.weight_decay, each=self._each)
        adam = torch.optim.AdamW(vectors, lr=config.adam_rate, betas=(0.9, 0.98), weight_decay=0.0, fused=True)
        self.optimizers: tuple[torch.optim.Optimizer, ...] = (muon, adam)
        self._peaks = [group["lr"] for optimizer in self.optimizers for group in optimizer.param_groups]

    def state(self) -> dict[str, Any]:
        """Everything that the rest of the training depends on."""
        weights = {name: tensor.detach() for name, tensor in self.weights.items()}
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        return {"weights": weights, "optimizers": optimizers, "progress": vars(self.progress)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from a state."""
        with torch.no_grad():
            for name, tensor in state["weights"].items():
                self.weights[name].copy_(tensor)
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.progress = Progress(**state["progress"])

    def run(self, texts: Texts) -> Iterator[Progress]:
        """Train to the end, from wherever it is; yields after each optimizer step."""
        config, progress = self.config, self.progress
        for visit in range(progress.visits, config.passes * config.chunks):
            text = texts.load(visit % config.chunks)
            scale, entropy = _weights(text, config.weights), entropies(text)
            batches = plan(text, config.batch_tokens, [config.seed, visit])
            release_memory()
            for first in range(progress.done, len(batches), config.batches):
                began = time.monotonic()
                self.step(text, batches[first : first + config.batches], scale, entropy)
                progress.done = first + config.batches
                progress.seconds += time.monotonic() - began
                if progress.done >= len(batches):
                    progress.end_chunk(text)
                yield progress

    def step(self, text: Text, batches: Sequence[Array], scale: Array, entropy: Array) -> None:
        """One optimizer step on some batches of a text."""
        made = [make_batch(text, lessons) for lessons in batches]
        total = float(sum(scale[batch.rows].sum() for batch in made))
        shards = [made[i::SHARDS] for i in range(SHARDS)]
        found = list(self._each(lambda shard: self._gradient(shard, scale / total), shards))
        names = list(self.weights)
        gradients = [torch.stack([g[i] for g, _ in found if g]).sum(0) for i in range(len(names))]
        for name, gradient in zip(names, gradients, strict=True):
            self.weights[name].grad = gradient
        torch.nn.utils.clip_grad_norm_(self.weights.values(), self.config.max_grad_norm)
        self._set_rates()
        for optimizer in self.optimizers:
            optimizer.step()
        self.progress.steps += 1
        self.progress.tokens += int(sum(text.lengths[lessons].sum() for lessons in batches))
        rows = np.concatenate([batch.rows for shard in shards for batch in shard])
        nats = np.concatenate([n for _, parts in found for n in parts])
        self.progress.add(_by_group(text, rows, nats - entropy[rows]))

    def _gradient(self, batches: Sequence[Any], scale: Array) -> tuple[list[torch.Tensor], list[Array]]:
        """Gradient of the sum of the weighted losses of some batches, and the losses."""
        torch.set_num_threads(1)
        dtype, leaves = getattr(torch, self.config.dtype), list(self.weights.values())
        total: list[torch.Tensor] = []
        losses = []
        for batch in batches:
            nats = surprise(self.weights, self.shape, batch, dtype)
            loss = (nats * torch.from_numpy(scale[batch.rows]).float()).sum()
            found = torch.autograd.grad(loss, leaves)
            total = [a.add_(b) for a, b in zip(total, found, strict=True)] if total else list(found)
            losses.append(nats.detach().numpy())
        return total, losses

    def _set_rates(self) -> None:
        share = min(1.0, self.progress.tokens / self.config.tokens)
        groups = [group for optimizer in self.optimizers for group in optimizer.param_groups]
        for group, peak in zip(groups, self._peaks, strict=True):
            group["lr"] = peak * warmup_cosine(share, self.config.warmup, self.config.floor)


def _weights(text: Text, weights: Sequence[tuple[str, float]]) -> Array:
    """Weight of each distribution of a text in the loss."""
    longest_first = sorted(weights, key=lambda pair: -len(pair[0]))
    by_skill = [next((w for start, w in longest_first if skill.startswith(start)), 1.0) for skill in text.skills]
    return np.array(by_skill)[text.skill]


def _by_group(text: Text, rows: Array, divergence: Array) -> dict[str, tuple[float, int]]:
    """Sum and number of the divergences by group of skills; certain tokens are the group ""."""
    sums = np.bincount(text.skill[rows], divergence, len(text.skills))
    counts = np.bincount(text.skill[rows], minlength=len(text.skills))
    found: dict[str, tuple[float, int]] = {}
    for skill, total, count in zip(text.skills, sums, counts, strict=True):
        if not count:
            continue
        name = group_of(str(skill))
        old = found.get(name, (0.0, 0))
        found[name] = (old[0] + float(total), old[1] + int(count))
    return found


def train(
    shape: Shape,
    config: TrainingConfig,
    lessons: Lessons,
    folder: Path,
    *,
    threads: int = 1,
    ahead: bool = True,
    every: float = 120.0,
    report: Callable[[Progress], None] = lambda _: None,
) -> Training:
    """Train a network in a folder, where an interrupted training continues exactly.

    Args:
        folder: of the text and the state.
        threads: threads that compute gradients, at most two; the weights do not depend on it.
        ahead: whether another process writes the text.
        every: seconds between checkpoints.
        report: called after each optimizer step.
    """
    with ExitStack() as stack:
        executor = stack.enter_context(ThreadPoolExecutor(threads)) if threads > 1 else None
        pool = stack.enter_context(ProcessPoolExecutor(1, get_context("spawn"), end_with_parent)) if ahead else None
        if pool:
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
        training = Training(shape, config, executor)
        if (folder / STATE_FILE).exists():
            training.restore(torch.load(folder / STATE_FILE, weights_only=True))
        saved = time.monotonic()
        for progress in training.run(Texts(folder / "text", lessons, config, pool)):
            report(progress)
            if time.monotonic() - saved >= every:
                save_state(training, folder)
                saved = time.monotonic()
        save_state(training, folder)
    return training


def save_state(training: Training, folder: Path) -> None:
    """Write a checkpoint, at once or not at all."""
    half = folder / f"{STATE_FILE}.part"
    torch.save(training.state(), half)
    os.replace(half, folder / STATE_FILE)
