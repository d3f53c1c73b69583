"""Rewards that online training computes as soon as a rollout is there: a judge's, or an asynchronous function's."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, replace
from typing import Any

from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import require_identity, solver_name
from selftaught.learn.online.rollouts import AsyncRewardFn, Rollout, is_deferred
from selftaught.models import Policy
from selftaught.records import content_hash
from selftaught.run.background import SharedTasks
from selftaught.run.context import RunContext
from selftaught.run.judge_reward import JudgeReward
from selftaught.run.judging import visible_to_judge, with_feedback
from selftaught.run.judgments import JudgeBatch
from selftaught.run.settings import override, require_positive
from selftaught.run.solver import SolverResult


@dataclass(frozen=True, slots=True)
class RewardHost:
    """Computes rewards on the run's event loop, while other rollouts are sampled.

    Attributes:
        context: the run.
        reward: a judge, or an asynchronous function.
        key: hash of what a function's rewards depend on.
        sampling: of the judge.
        share: awaits each reward once.
    """

    context: RunContext
    reward: JudgeReward | AsyncRewardFn
    key: str
    sampling: Sampling
    share: SharedTasks

    @classmethod
    def of(cls, context: RunContext, reward: Any) -> RewardHost | None:
        """The host of a reward; None for a plain function, which is called when it is needed."""
        if not is_deferred(reward):
            return None
        changes = reward.sampling if isinstance(reward, JudgeReward) else {}
        if isinstance(reward, JudgeReward):
            require_positive("samples", reward.samples)
        how = override(context.settings.sampling, changes)
        return cls(context, reward, require_identity(reward, "online training").key, how, SharedTasks())

    async def finish(self, live: Policy, result: SolverResult) -> SolverResult:
        """A rollout with its reward; one with a failed request gets none.

        Args:
            live: the policy in training, which made the rollout.
        """
        rollout = Rollout(result.attempt, result.turns or (result.attempt,), live.version, result.rewards)
        if rollout.failed:
            return result
        if isinstance(self.reward, JudgeReward):
            return await self._judged(self.reward, live, result)
        key = content_hash("reward", self.key, result.attempt.id)
        if (found := self.context.journal.get(key)) is None:
            value = await self.share(key, lambda: self._computed(self.reward, key, rollout))
        else:
            value = found[0]["reward"]
        return replace(result, reward=value)

    async def _judged(self, reward: JudgeReward, live: Policy, result: SolverResult) -> SolverResult:
        """The answer with the judge's feedback, among the turns too."""
        group = visible_to_judge(self.context, (result.attempt,), reward.judge)
        batch = JudgeBatch("", reward.policy or live, reward.judge, self.sampling, ())
        judge = self.context.sampler.judgments.judge
        names = [f"reward/{self.key}/{result.attempt.id}/{i}" for i in range(reward.samples)]
        given = await asyncio.gather(*(judge(batch, group, name) for name in names))
        (attempt,) = with_feedback((result.attempt,), given)
        turns = tuple(attempt if turn.id == attempt.id else turn for turn in result.turns)
        return replace(result, attempt=attempt, turns=turns, reward=attempt.score)

    async def _computed(self, reward: Any, key: str, rollout: Rollout) -> float | None:
        """The value of an asynchronous function, journaled."""
        value = await reward(rollout)
        if value is not None and not (isinstance(value, int | float) and math.isfinite(value)):
            fix = "return a finite number, or None to leave the rollout out"
            raise BadInput(f"the reward is {value!r:.60}", where=solver_name(reward), fix=fix)
        value = None if value is None else float(value)
        self.context.journal.put_new(key, "reward", {"attempt": rollout.attempt.id, "reward": value})
        return value
