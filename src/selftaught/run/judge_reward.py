"""Judges as rewards of online RL."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from selftaught.identity import require_identity
from selftaught.learn.online.rollouts import Rollout
from selftaught.models.policy import Policy
from selftaught.records import content_hash
from selftaught.run.judgments import check_judge
from selftaught.run.solver import Judge


@dataclass(frozen=True)
class JudgeReward:
    """The score of a judge as the reward of a rollout; see `judge_reward`.

    Attributes:
        judge: judges the rollout's answer.
        policy: what the judge samples; None for the policy in training.
        samples: judgments of each answer.
        sampling: fields of `Sampling` to change.
    """

    judge: Judge
    policy: Policy | None
    samples: int
    sampling: Mapping[str, Any] = field(default_factory=dict)
    deferred = True

    @property
    def id(self) -> str:
        """Part of the training's version, with `options`."""
        return "judge-reward"

    @property
    def options(self) -> dict[str, Any]:
        """What the rewards depend on."""
        who = self.policy.version if self.policy else "in training"
        judge = require_identity(self.judge, "online training").key
        return {"judge": judge, "policy": who, "samples": self.samples, "sampling": content_hash(self.sampling)}

    def __call__(self, rollout: Rollout) -> float | None:
        """The reward that the run has computed."""
        return rollout.reward


def judge_reward(judge: Judge, policy: Policy | None, *, samples: int = 1, **sampling: Any) -> JudgeReward:
    """Reward rollouts by a judge: `CreditAssignment(reward=judge_reward(rubric, base))`.

    Each answer is judged as soon as it is there, while other rollouts are sampled, and as `Run.judge` does it: without
    verdicts and references, journaled, as judge tokens. Its reward is `Attempt.score`; without a score the rollout is
    left out, and a problem whose rollouts all have the same reward is skipped.

    Args:
        judge: of single attempts.
        policy: what the judge samples; None for the policy in training itself.
        samples: judgments of each answer.
        sampling: fields of `Sampling` to change.

    Raises:
        BadInput: it is no judge of single attempts.
    """
    check_judge(judge, 1)
    return JudgeReward(judge, policy, samples, sampling)
