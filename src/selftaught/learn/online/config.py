"""The configuration of an online training, as data: its version is a hash of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

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
    """

    objective: Objective
    training: TrainConfig
    steps: int
    samples: int
    credit: CreditAssignment
    max_importance_weight: float
    rollout_key: str
    seed: int

    def version(self, base: Policy, problems: Sequence[Problem]) -> str:
        """Content hash of the policy that the training makes of `base`."""
        return content_hash(
            "online", base.version, objective_key(self.objective), [problem.id for problem in problems],
            config_key(self.training), self.steps, self.samples, self.max_importance_weight, self.rollout_key,
            self.seed,
        )  # fmt: skip

    def problems_of(self, problems: Sequence[Problem], step: int) -> list[Problem]:
        """The problems of a step: every pass over them in a new seeded order."""
        size = min(self.training.batch_size, len(problems))
        found: list[Problem] = []
        for place in range(step * size, (step + 1) * size):
            order = list(range(len(problems)))
            random.Random(f"{self.seed}/{place // len(problems)}").shuffle(order)
            found.append(problems[order[place % len(problems)]])
        return found
