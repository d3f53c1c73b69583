"""Judges within solvers: attempts with a judge's feedback, and the best of several by its score."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from selftaught.curate.judged import all_pairs, win_rates
from selftaught.identity import require_identity
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.run.judgments import as_judge_sees, call_judge, check_judge, takes_groups
from selftaught.run.solver import AnyJudge


async def judged(ask: Ask, attempts: Sequence[Attempt], judge: AnyJudge) -> list[Attempt]:
    """Attempts at one problem with a judge's feedback, within a solver: without verdicts and references.

    A judge of pairs compares every two of them, and the win rate counts. What it samples is part of the solver's call.

    Raises:
        BadInput: the judge has another shape, or returns something else.
    """
    pairs = takes_groups(judge)
    check_judge(judge, 2 if pairs else 1)
    seen = [as_judge_sees(attempt, reference=False, verdict=False) for attempt in attempts]
    groups = list(all_pairs(seen)) if pairs else [(one,) for one in seen if not one.failed]
    given = await asyncio.gather(*(call_judge(ask, group, judge) for group in groups))
    rated = [
        tuple(replace(one, feedback=(*one.feedback, said)) for one, said in zip(group, each, strict=True))
        for group, each in zip(groups, given, strict=True)
    ]
    if pairs:
        return win_rates(attempts, rated)
    known = {one.id: one.judgments[-1] for group in rated for one in group}
    return [replace(a, feedback=(*a.feedback, known[a.id])) if a.id in known else a for a in attempts]


@dataclass(frozen=True)
class BestOf:
    """A solver that samples several answers and returns the one that a judge scores highest; ties go to the first.

    Source: best-of-n of Cobbe et al., 2110.14168, with a judge in place of the trained verifier.

    Attributes:
        judge: of single attempts or of pairs.
        samples: answers to choose from.
        sampling: fields of `Sampling` to change for the answers.
    """

    judge: AnyJudge
    samples: int
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def id(self) -> str:
        """Part of the solver's name, with `options`."""
        return "best-of"

    @property
    def options(self) -> dict[str, Any]:
        """What its answers depend on."""
        found = require_identity(self.judge, "best-of")
        return {"judge": f"{found.name} {found.key}", "samples": self.samples, "sampling": dict(self.sampling)}

    async def __call__(self, ask: Ask, problem: Problem) -> Attempt:
        """Sample, judge, and choose."""
        tried = await ask.sample(problem.prompt, self.samples, **self.sampling)
        return max(await judged(ask, tried, self.judge), key=lambda one: -1.0 if one.score is None else one.score)
