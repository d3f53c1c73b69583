"""The configuration of an online training, as data: its version is a hash of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from selftaught.errors import BadInput
from selftaught.learn.config import TrainConfig
from selftaught.learn.learner import config_key, objective_key
from selftaught.learn.objectives.base import Objective
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.models.policy import Policy
from selftaught.records import Problem, content_hash


@dataclass(frozen=True, slots=True)
class OnlineConfig:
    """The configuration of an online training, beside its policy and problems.

    Attributes:
        objective: learns from `TokenAdvantages` records (or `RolloutGroup`, if rollouts have one turn and `credit`
            makes no records).
        training: `batch_size` problems in a step, `epochs` optimizer steps on each step's rollouts.
        steps: number of steps, each with rollouts and updates.
        samples: rollouts of each problem.
        credit: how rollouts are rewarded.
        max_importance_weight: upper bound of a token's importance weight (see `online.importance`).
        rollout_key: hash of how rollouts are made: solver, sampling, and the functions of `credit` by name.
        seed: of the order of problems, and of the training.
        max_gen_batches: batches of problems sampled per step, at most, until a whole batch has mixed outcomes.
        reference_decay: share that the reference keeps of itself after each step; it takes the rest from the weights
            in training. 1 leaves it as it is.
    """

    objective: Objective
    training: TrainConfig
    steps: int
    samples: int
    credit: CreditAssignment
    max_importance_weight: float
    rollout_key: str
    seed: int
    max_gen_batches: int = 1
    reference_decay: float = 1.0

    def __post_init__(self) -> None:
        if self.max_gen_batches < 1:
            raise BadInput(f"max_gen_batches must be at least 1, got {self.max_gen_batches}")
        if not 0 <= self.reference_decay <= 1:
            raise BadInput(f"reference_decay must be 0 to 1, got {self.reference_decay}")
        if self.reference_decay < 1 and (self.training.lora_rank or self.objective.reference is not None):
            what = "a moving reference averages the trained weights, from those that training starts from"
            raise BadInput(what, where="reference_decay", fix="train full weights, and give the objective no reference")

    def version(self, base: Policy, problems: Sequence[Problem]) -> str:
        """Content hash of the policy that the training makes of `base`."""
        return content_hash(
            "online", base.version, objective_key(self.objective), [problem.id for problem in problems],
            config_key(self.training), self.steps, self.samples, self.max_importance_weight, self.rollout_key,
            self.seed, *self._additions,
        )  # fmt: skip

    @property
    def _additions(self) -> list[Any]:
        """What is set of the fields that came later: without them, versions are as before."""
        usual = self.max_gen_batches == 1 and self.reference_decay == 1
        found: list[Any] = [] if usual else [self.max_gen_batches, self.reference_decay]
        return found if self.credit.skip_agreeing else [*found, "agreeing problems, too"]

    def problems_of(self, problems: Sequence[Problem], step: int, draw: int = 0) -> list[Problem]:
        """The problems of a step's draw: every pass over them in a new seeded order, draws not made passed over."""
        size = min(self.training.batch_size, len(problems))
        found: list[Problem] = []
        start = (step * self.max_gen_batches + draw) * size
        for place in range(start, start + size):
            order = list(range(len(problems)))
            random.Random(f"{self.seed}/{place // len(problems)}").shuffle(order)
            found.append(problems[order[place % len(problems)]])
        return found
