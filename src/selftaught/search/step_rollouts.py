"""A solver that labels the steps of solutions by Monte Carlo: how often an answer that goes on from there is right."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from itertools import accumulate
from typing import Any

from selftaught.records import Attempt, Problem, ScoredSteps, Solution, Verdict
from selftaught.run.ask import Ask
from selftaught.samples import Sample


@dataclass(frozen=True)
class StepRollouts:
    """Samples solutions to a problem, and rollouts from the end of each of their steps.

    Source: Wang et al., Math-Shepherd: Verify and Reinforce LLMs Step-by-step without Human Annotations, 2312.08935,
    section 3. Solutions with the same steps so far share the rollouts. The last step needs none: the solution's own
    verdict labels it. Solutions that are cut off, or that the verifier cannot judge, are left out.

    The data of its `Solution` is a row for each different solution: its steps, the share of rollouts from the end of
    each that are right, and the solution's id; `scored_steps` reads it.

    Attributes:
        samples: solutions per problem.
        rollouts: answers sampled from the end of each step.
        temperature: of sampling both.
    """

    samples: int = 8
    rollouts: int = 8
    temperature: float = 1.0
    id = "step-rollouts"

    @property
    def options(self) -> dict[str, Any]:
        """The settings, for the solver's name."""
        return asdict(self)

    async def __call__(self, ask: Ask, problem: Problem) -> Solution:
        """Sample solutions and rollouts; the attempt returned is the first solution."""
        drawn = await ask.sample(problem.prompt, self.samples, temperature=self.temperature)
        different: dict[str, Attempt] = {}
        for one in drawn:
            if not (one.truncated or one.failed):
                different.setdefault(one.text, one)
        verdicts = [found.verdict for found in await asyncio.gather(*map(ask.verify, different.values()))]
        pairs = zip(different.values(), verdicts, strict=True)
        judged = [(one, verdict) for one, verdict in pairs if verdict is not Verdict.UNKNOWN]
        shares = await self._shares(ask, [one for one, _ in judged])
        rows = [
            [steps, [*(shares[end] for end in _ends(steps)), float(verdict is Verdict.RIGHT)], one.id]
            for one, verdict in judged if (steps := ask.steps.split(one.text))
        ]  # fmt: skip
        return Solution(drawn[0], rows)

    async def _shares(self, ask: Ask, solutions: Sequence[Attempt]) -> dict[str, float]:
        """The share of right rollouts from each beginning that a solution has after a step, but for its last."""
        begun: dict[str, Attempt] = {}
        for one in solutions:
            for end in _ends(ask.steps.split(one.text)):
                begun.setdefault(end, one)
        found = await asyncio.gather(*(self._share(ask, one, end) for end, one in begun.items()))
        return dict(zip(begun, found, strict=True))

    async def _share(self, ask: Ask, solution: Attempt, beginning: str) -> float:
        sample = Sample(beginning, finish_reason="unfinished", policy=solution.policy)
        partial = replace(solution, text=beginning, answer=None, sample=sample)

        async def right() -> bool:
            whole = await ask.continue_from(partial, temperature=self.temperature)
            return not whole.failed and (await ask.verify(whole)).verdict is Verdict.RIGHT

        return sum(await asyncio.gather(*(right() for _ in range(self.rollouts)))) / self.rollouts


def _ends(steps: Sequence[str]) -> list[str]:
    """The text up to the end of each step but the last."""
    return list(accumulate(steps))[:-1]


def scored_steps(found: Solution, *, soft: bool = False) -> list[ScoredSteps]:
    """The solutions that `StepRollouts` labeled, as training records of a process reward model.

    Args:
        soft: score a step by its share of right rollouts; otherwise by 1 if any is right, as Math-Shepherd's "hard
            estimation" does.
    """
    rows: Sequence[tuple[Sequence[str], Sequence[float], str]] = found.data
    return [
        ScoredSteps(found.attempt.problem.prompt, tuple(steps), tuple(shares if soft else map(_any, shares)), (name,))
        for steps, shares, name in rows
    ]


def _any(share: float) -> float:
    return float(share > 0)
