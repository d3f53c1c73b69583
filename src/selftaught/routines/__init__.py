"""Procedures over a run that several methods share."""

from selftaught.routines.critiques import (
    CritiqueExample,
    collect_critiques,
    critique_demos,
    deduplicate,
    filter_verified,
    revision_demos,
    right_revisions,
)
from selftaught.routines.repair import collect_critic_data, repair_failures

__all__ = [
    "CritiqueExample",
    "collect_critic_data",
    "collect_critiques",
    "critique_demos",
    "deduplicate",
    "filter_verified",
    "repair_failures",
    "revision_demos",
    "right_revisions",
]
