"""Procedures over a run that several methods share."""

from selftaught.routines.acquire import Acquired, AcquiredRound, acquire, acquire_rounds, train_critic
from selftaught.routines.annotations import (
    ExpertData,
    annotate_drafts,
    choose_teacher,
    collect_expert_data,
    hold_out,
    known_error_steps,
    split_train,
)
from selftaught.routines.critics import CriticScores, TrainedCritic, measure_critic, train_measured_critic
from selftaught.routines.critiques import (
    CritiqueExample,
    answer_demos,
    collect_critiques,
    critique_demos,
    deduplicate,
    filter_verified,
    purity,
    revision_demos,
    right_revisions,
)
from selftaught.routines.difficulty import accuracy_on_unsolved, hard_coverage, hard_problems, hard_share
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
    "CriticScores",
    "CritiqueExample",
    "ExpertData",
    "StepReward",
    "TrainedCritic",
    "accuracy_on_unsolved",
    "acquire",
    "acquire_rounds",
    "annotate_drafts",
    "answer_demos",
    "balance_metrics",
    "choose_teacher",
    "collect_critic_data",
    "collect_critiques",
    "collect_expert_data",
    "critique_demos",
    "deduplicate",
    "filter_verified",
    "hard_coverage",
    "hard_problems",
    "hard_share",
    "hold_out",
    "kl_from",
    "known_error_steps",
    "measure_critic",
    "purity",
    "repair_failures",
    "revision_demos",
    "right_revisions",
    "score_attempts",
    "scored_sampler",
    "selected_demos",
    "split_train",
    "step_judge",
    "train_critic",
    "train_measured_critic",
    "train_process_reward",
]
