"""Rollouts, and what they are worth: rewards, and how they are spread over turns and tokens."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from selftaught.learn.objectives.advantages import BASELINES
from selftaught.records import Attempt, Credit


@dataclass(frozen=True, slots=True)
class Rollout:
    """One solving of one problem.

    Attributes:
        attempt: what was handed in, judged.
        turns: all that was sampled for it, in order, each judged; `attempt` is among them, usually the last.
    """

    attempt: Attempt
    turns: tuple[Attempt, ...]

    @property
    def failed(self) -> bool:
        """Whether a request of it was refused or failed: that is no reward of 0."""
        return self.attempt.failed or any(turn.failed for turn in self.turns)


Spread = Callable[[Sequence[Rollout]], Sequence[Credit]]
Rewarding = Callable[[Rollout], float | None]


def outcome_reward(rollout: Rollout) -> float | None:
    """1 for a right answer, 0 for a wrong one, None (left out) where the verifier could not tell."""
    verdict = rollout.attempt.verdict
    return None if verdict == "unknown" else float(verdict == "right")


def outcome_of(rollout: Rollout) -> Any:
    """Whether the answer handed in is right: a group that agrees on it teaches nothing, whatever its rewards."""
    return rollout.attempt.right


@dataclass(frozen=True, slots=True)
class Crediting:
    """What rollouts are worth.

    Attributes:
        reward: of one rollout; None leaves it out.
        spread: makes the `Credit` records of one problem's rollouts, for rewards by turn and anchors by turn; by
            default `reward` against the objective's baseline, on every token of every turn.
        outcome: what a rollout came to; a problem whose rollouts all came to the same is skipped, whatever their
            rewards: shaping among failures teaches how to fail.
    """

    reward: Rewarding = outcome_reward
    spread: Spread | None = None
    outcome: Callable[[Rollout], Any] = outcome_of

    @property
    def parts(self) -> tuple[Any, Any, Any]:
        """The three functions."""
        return self.reward, self.spread, self.outcome


def spread_evenly(baseline: str, reward: Rewarding = outcome_reward) -> Spread:
    """Credit every token of every turn of a rollout with its advantage in its group.

    Args:
        baseline: see `objectives.advantages`.
        reward: of a whole rollout; None leaves it out.
    """

    def credit(rollouts: Sequence[Rollout]) -> list[Credit]:
        rewards = [(one, value) for one in rollouts if (value := reward(one)) is not None]
        gains = BASELINES[baseline]([value for _, value in rewards])
        pairs = zip((one for one, _ in rewards), gains, strict=True)
        return [Credit(turn, (gain,) * len(turn.token_ids)) for one, gain in pairs for turn in one.turns]

    return credit
