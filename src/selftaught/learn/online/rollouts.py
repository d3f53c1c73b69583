"""Rollouts and credit assignment: rewards, and the advantages of turns and tokens."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from selftaught.errors import BadInput
from selftaught.learn.objectives.advantages import ADVANTAGE_ESTIMATORS
from selftaught.records import Attempt, TokenAdvantages, content_hash


@dataclass(frozen=True, slots=True)
class Rollout:
    """One run of a solver on one problem.

    Attributes:
        attempt: the answer, with its verdict.
        turns: everything sampled for it, in order, with verdicts; `attempt` is among them, usually the last.
        learner: version of the policy in training; empty if all turns are its own.
        rewards: of the task's environment, one for each turn: None for one that did not act in it. Empty without one.
        reward: of the whole, by a judge or an asynchronous function; None with others, and where it gives none.
    """

    attempt: Attempt
    turns: tuple[Attempt, ...]
    learner: str = ""
    rewards: tuple[float | None, ...] = ()
    reward: float | None = None

    def is_own(self, turn: Attempt) -> bool:
        """Whether the policy in training wrote a turn; what another said is credited to nobody."""
        return turn.policy == self.learner or not self.learner

    @property
    def own_turns(self) -> tuple[Attempt, ...]:
        """The turns that the policy in training wrote."""
        return tuple(turn for turn in self.turns if self.is_own(turn))

    @property
    def failed(self) -> bool:
        """Whether one of its requests was refused or failed: that is no reward of 0."""
        return self.attempt.failed or any(turn.failed for turn in self.turns)


AdvantageFn = Callable[[Sequence[Rollout]], Sequence[TokenAdvantages]]
RewardFn = Callable[[Rollout], float | None]
AsyncRewardFn = Callable[[Rollout], Awaitable[float | None]]


def outcome_reward(rollout: Rollout) -> float | None:
    """1 for a right answer, 0 for a wrong one, None (left out) if the verdict is unknown."""
    verdict = rollout.attempt.verdict
    return None if verdict == "unknown" else float(verdict == "right")


def outcome_key(rollout: Rollout) -> Any:
    """Whether the answer is right: a group that agrees on it teaches nothing, even if its rewards differ."""
    return rollout.attempt.right


@dataclass(frozen=True, slots=True)
class CreditAssignment:
    """How rollouts are rewarded.

    Attributes:
        reward: of one rollout; None leaves it out. Asynchronous functions, and judges (see `judge_reward`), are called
            while other rollouts are sampled; their rewards are journaled.
        advantages: makes `TokenAdvantages` records of one problem's rollouts, for rewards and KL coefficients by turn;
            by default, `reward` becomes an advantage on every token of every turn, by the objective's estimator.
            Of a dialogue, only turns of the policy in training are credited, whatever it makes.
        outcome_key: the outcome of a rollout. A problem whose rollouts all have the same is skipped, even if their
            rewards differ: reward shaping among failures teaches how to fail. By default whether the answer is right;
            the reward itself where it is a judge's or an asynchronous function's.
        skip_agreeing: whether those problems are skipped. False learns from what `advantages` makes of them: where
            their advantages are zero, the KL penalty alone acts on them, and it acts on all problems alike.

    Raises:
        BadInput: `reward` is no function of one rollout, or problems that agree are to be learned without `advantages`.
    """

    reward: RewardFn | AsyncRewardFn = outcome_reward
    advantages: AdvantageFn | None = None
    outcome_key: Callable[[Rollout], Any] = outcome_key
    skip_agreeing: bool = True

    def __post_init__(self) -> None:
        check_reward(self.reward)
        if not self.skip_agreeing and self.advantages is None:
            what = "objectives leave out problems whose rollouts all have the same reward"
            raise BadInput(what, where="CreditAssignment(skip_agreeing=False)", fix="give advantages=, too")

    @property
    def functions(self) -> tuple[Any, Any, Any]:
        """The three functions."""
        return self.reward, self.advantages, self.outcome_key

    @property
    def deferred(self) -> bool:
        """Whether the reward is computed as soon as a rollout is there (`Rollout.reward`)."""
        return is_deferred(self.reward)

    def reward_of(self, rollout: Rollout) -> float | None:
        """The reward of a rollout; None leaves it out."""
        found: Any = rollout.reward if self.deferred else self.reward(rollout)
        return found

    def outcome_of(self, rollout: Rollout) -> Any:
        """The outcome of a rollout; see `outcome_key`."""
        by_reward = self.deferred and self.outcome_key is outcome_key
        return rollout.reward if by_reward else self.outcome_key(rollout)


def agree(group: Sequence[Rollout], credit: CreditAssignment) -> bool:
    """Whether all rollouts have the same outcome."""
    return len({content_hash(credit.outcome_of(one)) for one in group}) < 2


def check_reward(reward: Any) -> None:
    """Refuse a judge, and whatever else cannot be called with a rollout alone.

    Raises:
        BadInput: it cannot.
    """
    try:
        inspect.signature(getattr(reward, "function", reward)).bind(None)  # of a method, its function
    except ValueError:  # a builtin without a signature
        return
    except TypeError:
        fix = "write it as (rollout) -> float; of a judge, pass judge_reward(judge, policy)"
        what = f"{getattr(reward, '__name__', getattr(reward, 'id', repr(reward)))!s:.60} takes no rollout alone"
        raise BadInput(what, where="CreditAssignment(reward=)", fix=fix) from None


def is_deferred(reward: Any) -> bool:
    """Whether a reward is a judge's, or asynchronous."""
    called = getattr(reward, "__call__", None)  # noqa: B004
    return getattr(reward, "deferred", False) or any(map(inspect.iscoroutinefunction, (reward, called)))


def broadcast_advantage(estimator: str, reward: RewardFn = outcome_reward) -> AdvantageFn:
    """Give every token of every turn that the policy in training wrote its rollout's advantage in the group.

    Args:
        estimator: name of an advantage estimator, see `objectives.advantages`.
        reward: of a whole rollout; None leaves it out.
    """

    def assign(rollouts: Sequence[Rollout]) -> list[TokenAdvantages]:
        rewards = [(one, value) for one in rollouts if (value := reward(one)) is not None]
        advantages = ADVANTAGE_ESTIMATORS[estimator]([value for _, value in rewards])
        pairs = zip((one for one, _ in rewards), advantages, strict=True)
        return [TokenAdvantages(turn, (a,) * len(turn.token_ids)) for one, a in pairs for turn in one.own_turns]

    return assign
