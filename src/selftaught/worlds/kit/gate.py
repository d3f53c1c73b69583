"""The gate: is a model its writer? Divergence and accuracy by skill, decision by decision, on text it never read."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import numpy as np
import torch

from selftaught.worlds.kit.text import Array, Batch, Text, make_batch, plan

MAX_KL = 0.03
"""Largest KL(writer || model), in nats a decision."""

MAX_GAP = 0.02
"""Largest difference between the accuracies of model and writer at any skill."""

FEWEST = 200
"""A skill with fewer decisions is reported, but not judged."""

GATE_SEED = 900_999
"""Seed of the text of the gate; no training text has it."""

ALL = "all"
CERTAIN = "certain"
"""Tokens that the writer has no choice about."""


@dataclass(frozen=True, slots=True)
class SkillGate:
    """How a model does at one kind of decision.

    Attributes:
        skill: its name; a group of skills is named by what is before the colon.
        count: decisions.
        kl: mean KL(writer || model), in nats.
        kl_se: its standard error; decisions of a lesson are one cluster.
        writer: the writer's mean probability of the right token; None if no token is right or wrong.
        model: the model's.
        gap_se: standard error of `model - writer`.
    """

    skill: str
    count: int
    kl: float
    kl_se: float
    writer: float | None
    model: float | None
    gap_se: float | None

    @property
    def gap(self) -> float:
        """Difference between the accuracies of model and writer; 0 where there are none."""
        return 0.0 if self.writer is None or self.model is None else self.model - self.writer

    @property
    def fails(self) -> bool:
        """Whether the accuracies differ, or, of a whole group, the distributions."""
        return abs(self.gap) > MAX_GAP or (":" not in self.skill and self.kl > MAX_KL)


@dataclass(frozen=True, slots=True)
class Gate:
    """What the gate found.

    Attributes:
        rows: all decisions, what is certain, then groups of skills, then skills.
    """

    rows: tuple[SkillGate, ...]

    @property
    def failing(self) -> tuple[SkillGate, ...]:
        """Rows that do not hold."""
        return tuple(row for row in self.rows if row.count >= FEWEST and row.fails)

    @property
    def holds(self) -> bool:
        """Whether the model is its writer."""
        return not self.failing

    @property
    def kl(self) -> float:
        """Mean over all decisions, in nats."""
        return self.rows[0].kl

    def as_data(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "holds": self.holds,
            "failing": [row.skill for row in self.failing],
            "rows": [asdict(row) for row in self.rows],
        }


class _Decisions(NamedTuple):
    """One entry a decision: its lesson, skill, divergence, and P(right) of writer and model (NaN without)."""

    lesson: Array
    skill: Array
    kl: Array
    writer: Array
    model: Array


def gate(model: Any, text: Text, batch_tokens: int = 4096) -> Gate:
    """Compare a model with its writer at every decision of a text.

    Args:
        model: a causal language model of transformers, in float32.
        text: lessons that the model was not trained on.
        batch_tokens: most tokens of a forward pass.
    """
    found = [_decisions(model, text, lessons) for lessons in plan(text, batch_tokens, [0])]
    lesson, skill, *values = (np.concatenate(parts) for parts in zip(*found, strict=True))
    every = _Decisions(lesson, text.skills[skill], *values)
    names = sorted(set(every.skill.tolist()) - {""})
    groups = sorted({name.partition(":")[0] for name in names if ":" in name} - set(names))
    masks = [(ALL, every.skill != ""), (CERTAIN, every.skill == "")]
    masks += [(name, np.char.startswith(every.skill, f"{name}:")) for name in groups]
    masks += [(name, every.skill == name) for name in names]
    return Gate(tuple(_row(name, every, mask) for name, mask in masks))


@torch.inference_mode()
def _decisions(model: Any, text: Text, lessons: Array) -> _Decisions:
    batch = make_batch(text, lessons)
    logits = model(input_ids=torch.from_numpy(batch.ids)).logits.flatten(0, 1)[torch.from_numpy(batch.at)]
    logprobs = torch.log_softmax(logits.double(), -1).numpy()
    right = text.right[batch.rows]
    model_right = np.where(right >= 0, np.exp(logprobs[np.arange(len(right)), right]), np.nan)
    writer_right = np.where(right >= 0, _writer_right(batch, right), np.nan)
    counts = np.diff(text.target_starts)[lessons]
    return _Decisions(
        np.repeat(lessons, counts), text.skill[batch.rows], _divergence(batch, logprobs), writer_right, model_right
    )


def _divergence(batch: Batch, logprobs: Array) -> Array:
    """KL(writer || model) at each target, in nats."""
    probs = batch.probs.astype(np.float64)
    nats = probs * (np.log(probs) - logprobs[batch.target, batch.token])
    return np.bincount(batch.target, nats, len(batch.rows))


def _writer_right(batch: Batch, right: Array) -> Array:
    """The writer's probability of the right token at each target."""
    return np.bincount(batch.target, batch.probs * (batch.token == right[batch.target]), len(batch.rows))


def _row(name: str, every: _Decisions, mask: Array) -> SkillGate:
    lesson, kl = every.lesson[mask], every.kl[mask]
    graded = mask & ~np.isnan(every.writer)
    writer = model = gap_se = None
    if graded.any():
        writer, model = float(every.writer[graded].mean()), float(every.model[graded].mean())
        gap_se = _clustered_se(every.lesson[graded], (every.model - every.writer)[graded])
    return SkillGate(name, len(kl), float(kl.mean()), _clustered_se(lesson, kl), writer, model, gap_se)


def _clustered_se(cluster: Sequence[int] | Array, values: Array) -> float:
    """Standard error of a mean of values that are independent between clusters only."""
    _, number = np.unique(cluster, return_inverse=True)
    sums = np.bincount(number, values - values.mean())
    clusters = len(sums)
    return math.sqrt((sums**2).sum() * clusters / max(1, clusters - 1)) / len(values)
