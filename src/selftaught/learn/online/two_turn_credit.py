"""Credit assignment of two turns: a reward and a KL coefficient for each, with a bonus for progress between them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from selftaught.learn.checks import check_choices
from selftaught.learn.objectives.advantages import ADVANTAGE_ESTIMATORS, correction_bonus, group_mean
from selftaught.learn.online.rollouts import CreditAssignment, Rollout
from selftaught.records import Attempt, TokenAdvantages, Verdict


@dataclass(frozen=True)
class TwoTurnReward:
    """Rewards and KL coefficients of two turns: makes `TokenAdvantages` of the rollouts of one problem.

    Source: Kumar et al., 2409.12917, equations 3 (first_weight=0, bonus=0, a large first KL coefficient) and 4. Each
    turn is credited with its own reward: the second one's reward and the bonus are not credited to the first. This is
    the instantaneous reward (discount 0) that the re-implementation BY571/SCoRe attributes to appendix A.4 of the paper
    (unconfirmed); one of the two others read does the same, the third (VityaVitalich/SCoRe, with a bonus of weight 0.5)
    credits both turns with the sum.

    Where the verdicts of all rollouts agree, the advantages are 0, and the KL penalty alone acts on them.

    Attributes:
        first_weight: weight of the first answer's reward.
        bonus: weight of the progress from the first answer to the second, the paper's alpha.
        kl_coefs: KL coefficients to the starting model on the first and on the second turn.
        offline_drafts: first answers that were not sampled in the rollout, by id; they are not learned.
        second_advantage: how the rewards of second answers become advantages: less their mean, or standardized too, so
            that a large bonus does not outweigh everything else in a small batch.
    """

    first_weight: float
    bonus: float
    kl_coefs: tuple[float, float]
    offline_drafts: Mapping[str, Attempt] = field(default_factory=dict)
    second_advantage: Literal["group_mean", "group_std"] = "group_mean"

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def id(self) -> str:
        """Identity of the rewards in the training's version."""
        estimator = "" if self.second_advantage == "group_mean" else f" {self.second_advantage}"
        return f"score {self.first_weight} {self.bonus} {self.kl_coefs}{estimator}"

    @property
    def credit_assignment(self) -> CreditAssignment:
        """For an online training, which learns from problems whose rollouts agree, too."""
        return CreditAssignment(advantages=self, outcome_key=self.verdicts, skip_agreeing=False)

    def turns(self, rollout: Rollout) -> tuple[Attempt, Attempt]:
        """The first and the second answer."""
        return self.offline_drafts.get(rollout.attempt.parent or "") or rollout.turns[0], rollout.attempt

    def verdicts(self, rollout: Rollout) -> list[Verdict]:
        """The verdicts of both turns."""
        return [turn.verdict for turn in self.turns(rollout)]

    def __call__(self, rollouts: Sequence[Rollout]) -> list[TokenAdvantages]:
        """A turn's advantage comes from its reward among that turn's rewards; an offline draft gets none."""
        pairs = [self.turns(one) for one in rollouts if Verdict.UNKNOWN not in self.verdicts(one)]
        if not pairs:
            return []
        first = group_mean([self.first_weight * a.right for a, _ in pairs])
        rewards = [b.right + correction_bonus(a.right, b.right, self.bonus) for a, b in pairs]
        second = ADVANTAGE_ESTIMATORS[self.second_advantage](rewards)
        advantages = zip(pairs, zip(first, second, strict=True), strict=True)
        return [
            TokenAdvantages(turn, (advantage,) * len(turn.token_ids), kl_coef=kl_coef) for pair, each in advantages
            for turn, advantage, kl_coef in zip(pair, each, self.kl_coefs, strict=True)
            if turn.id not in self.offline_drafts
        ]  # fmt: skip
