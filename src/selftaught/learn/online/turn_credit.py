"""Credit by turn: each turn is rewarded with what came of it, the rewards of the environment from there on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from selftaught.learn.checks import check_choices
from selftaught.learn.objectives.advantages import ADVANTAGE_ESTIMATORS
from selftaught.learn.online.rollouts import CreditAssignment, Rollout
from selftaught.records import TokenAdvantages

Estimator = Literal["group_std", "group_mean", "leave_one_out", "none"]


@dataclass(frozen=True)
class TurnCredit:
    """Make `TokenAdvantages` of the rollouts of one problem, each turn's from its return to go.

    The return to go of turn t is the discounted sum of the environment's rewards from t on. It is compared with those
    of the other rollouts at the same turn (their first own turns with each other, and so on); a turn that no other
    rollout reaches has nothing to be compared with, and gets no advantage, except from "none".

    Turns of other policies earn rewards for the turns before them, and are not credited.

    Attributes:
        discount: of a reward that comes one turn later, 0..1.
        estimator: of advantages, see `objectives.advantages`.
    """

    discount: float = 1.0
    estimator: Estimator = "group_std"

    def __post_init__(self) -> None:
        check_choices(self)

    @property
    def id(self) -> str:
        """Identity in the training's version."""
        return f"by turn {self.discount} {self.estimator}"

    def returns(self, rollout: Rollout) -> list[float]:
        """The return to go of each turn, of all speakers, in order."""
        found, ahead = [], 0.0
        for reward in reversed(rollout.rewards):
            ahead = (reward or 0.0) + self.discount * ahead
            found.append(ahead)
        return found[::-1]

    def __call__(self, rollouts: Sequence[Rollout]) -> list[TokenAdvantages]:
        """See the class; rollouts whose verdict is unknown, as the environment failed, are left out."""
        known = [one for one in rollouts if one.rewards and one.attempt.verdict != "unknown"]
        own = [
            [(turn, value) for turn, value in zip(one.turns, self.returns(one), strict=True) if one.is_own(turn)]
            for one in known
        ]
        made: list[TokenAdvantages] = []
        for place in range(max(map(len, own), default=0)):
            here = [turns[place] for turns in own if len(turns) > place]
            if len(here) < 2 and self.estimator != "none":
                continue
            advantages = ADVANTAGE_ESTIMATORS[self.estimator]([value for _, value in here])
            pairs = zip((turn for turn, _ in here), advantages, strict=True)
            made += [TokenAdvantages(turn, (a,) * len(turn.token_ids)) for turn, a in pairs]
        return made


def episode_return(rollout: Rollout) -> float | None:
    """The sum of the environment's rewards; None (left out) if the verdict is unknown."""
    return None if rollout.attempt.verdict == "unknown" else sum(reward or 0.0 for reward in rollout.rewards)


def episode_outcome(rollout: Rollout) -> list[float | None]:
    """The rewards of an episode: problems on whose rollouts all agree teach nothing."""
    return list(rollout.rewards)


def credit_by_turn(discount: float = 1.0, estimator: Estimator = "group_std") -> CreditAssignment:
    """Credit each turn with the rewards of the environment from there on; see `TurnCredit`."""
    return CreditAssignment(episode_return, TurnCredit(discount, estimator), episode_outcome)


def credit_by_episode() -> CreditAssignment:
    """Credit every turn with the return of the whole episode, by the objective's estimator."""
    return CreditAssignment(episode_return, outcome_key=episode_return)
