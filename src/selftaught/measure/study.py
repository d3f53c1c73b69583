"""Findings of a study, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StudyReport:
    """The findings of a study.

    Attributes:
        title: the finding in a sentence.
        rows: a table with one row per step of the study, oldest first; column name -> value.
        scores: problem id -> the figure that the study's claim is tested on.
    """

    title: str
    rows: tuple[Mapping[str, float | int | str], ...]
    scores: Mapping[str, float]
