"""What an online training is, as data: its version is a hash of it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from selftaught.learn.config import Training
from selftaught.learn.learner import HOW_ONLY, named
from selftaught.learn.objectives.base import Objective
from selftaught.learn.online.rollouts import Crediting
from selftaught.models.policy import Policy
from selftaught.records import Problem, content_hash


@dataclass(frozen=True, slots=True)
class Plan:
    """What an online training is, beside its policy and problems.

    Attributes:
        objective: learns from `Credit` records (or `Rollouts`, where each is one turn and nothing is credited).
        settings: `batch` problems a step, `epochs` optimiser steps on each step's rollouts; `carry` as in
            `learn.learner.learn`.
        steps: rollouts and updates, so many times.
        n: rollouts of each problem.
        credit: what rollouts are worth.
        cap: greatest importance weight of a token (see `learn.correction`).
        named: hash of how rollouts are made: solver, sampling, and the functions above by name.
        seed: of the order of problems, and of what is trained.
    """

    objective: Objective
    settings: Training
    steps: int
    n: int
    credit: Crediting
    cap: float
    named: str
    seed: int

    def version(self, base: Policy, problems: Sequence[Problem]) -> str:
        """Content hash of how the policy is made."""
        how = {name: value for name, value in asdict(self.settings).items() if name not in HOW_ONLY}
        ids = [problem.id for problem in problems]
        return content_hash(
            "online", base.version, named(self.objective), ids, how, self.steps, self.n, self.cap, self.named, self.seed
        )

    def problems_of(self, problems: Sequence[Problem], step: int) -> list[Problem]:
        """The problems of a step: every pass over them in a fresh seeded order."""
        size = min(self.settings.batch, len(problems))
        found: list[Problem] = []
        for place in range(step * size, (step + 1) * size):
            order = list(range(len(problems)))
            random.Random(f"{self.seed}/{place // len(problems)}").shuffle(order)
            found.append(problems[order[place % len(problems)]])
        return found
