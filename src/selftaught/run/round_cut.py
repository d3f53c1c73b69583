"""Cutting the last round of a run, so that its compute fits the budget."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple, TypeVar

from selftaught.control.budget import Budget
from selftaught.journal.ledger import Ledger
from selftaught.models import Policy
from selftaught.records import Problem

MIN_SHARE = 0.05
"""Smallest share of a round that is worth its measurement; below it the run ends with the round before."""
MARGIN = 0.9
"""Share of what is left that a cut round may cost by estimate, as answers differ in length."""

T = TypeVar("T")


class RoundEnd(NamedTuple):
    """What a round left.

    Attributes:
        champion: of the main learner.
        compute: from the start of the run to the end of the round (`Ledger.compute`).
        began: from the start of the run to its beginning.
        fixed: the part of the round's compute that does not shrink with it.
    """

    champion: Policy
    compute: int
    began: int = 0
    fixed: int = 0


class RoundCut:
    """The share of its problems and steps that a round may use; 1 without a limit on compute.

    The cost of a round is that of the round before, or `Budget.round_compute`: a part that does not shrink, its
    measurements, and a part in proportion to the problems. Of a round that is cut, `run.attempt`, `run.search` and
    `run.learn_online` take the first problems only, and `run.learn_online` and trainings of a fixed number of steps
    take fewer steps.

    Args:
        budget: the limit.
        ledger: what was spent.

    Attributes:
        share: of its problems that the current round may use.
        ends: for each round that ended, not of nested methods, what it left.
    """

    def __init__(self, budget: Budget, ledger: Ledger) -> None:
        self._budget, self._ledger = budget, ledger
        self._cost, self._fixed, self._began, self._fixed_now = budget.round_compute, budget.round_fixed, 0, 0
        self.share = 1.0
        self.ends: list[RoundEnd] = []

    def begin_round(self) -> bool:
        """Begin a round, cut if needed; False if none fits any more."""
        self._began, self._fixed_now = self._ledger.compute, 0
        if self._budget.compute is None:
            return True
        if self.share < 1:  # the round before was the last
            return False
        left = self._budget.compute - self._began
        if self._cost is None or self._cost <= left:
            return True
        share = (MARGIN * left - self._fixed) / max(1, self._cost - self._fixed)
        self.share = min(1.0, share)
        return share >= MIN_SHARE

    def end_round(self, champion: Policy) -> None:
        """Note what the round cost, and whom it leaves as the champion."""
        self.ends.append(RoundEnd(champion, self._ledger.compute, self._began, self._fixed_now))
        if self._budget.compute is not None and self.share == 1:
            self._cost, self._fixed = self._ledger.compute - self._began, self._fixed_now

    @contextmanager
    def fixed_cost(self) -> Iterator[None]:
        """A block whose cost does not shrink with the round."""
        before = self._ledger.compute
        yield
        self._fixed_now += self._ledger.compute - before

    def problems(self, subjects: Sequence[T]) -> Sequence[T]:
        """The first of the problems, as many as the round may use; attempts, which come of them, are left."""
        if self.share == 1 or not all(isinstance(one, Problem) for one in subjects):
            return subjects
        return subjects[: math.ceil(self.share * len(subjects))]

    def steps(self, steps: int) -> int:
        """Optimizer steps, as many as the round may use, one at least; 0 stays 0."""
        return max(1, math.ceil(self.share * steps)) if steps else 0
