"""Procedures over a run that several methods share."""

from selftaught.routines.acquire import Acquired, AcquiredRound, acquire, acquire_rounds, train_critic
from selftaught.routines.critiques import (
    CritiqueExample,
    collect_critiques,
    critique_demos,
    deduplicate,
    filter_verified,
    revision_demos,
    right_revisions,
)
from selftaught.routines.divergence import kl_from
from selftaught.routines.repair import collect_critic_data, repair_failures
from selftaught.routines.scoring import (
    StepReward,
    balance_metrics,
    score_attempts,
    scored_sampler,
    selected_demos,
    step_judge,
    train_process_reward,
)

__all__ = [
    "Acquired",
    "AcquiredRound",
    "CritiqueExample",
    "StepReward",
    "acquire",
    "acquire_rounds",
    "balance_metrics",
    "collect_critic_data",
    "collect_critiques",
    "critique_demos",
    "deduplicate",
    "filter_verified",
    "kl_from",
    "repair_failures",
    "revision_demos",
    "right_revisions",
    "score_attempts",
    "scored_sampler",
    "selected_demos",
    "step_judge",
    "train_critic",
    "train_process_reward",
]
