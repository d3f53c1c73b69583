"""What a study found, as plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class StudyReport:
    """What a study found.

    Attributes:
        title: the finding in a sentence.
        rows: a table, one row a step of the study, oldest first; names of columns -> values.
        scores: problem id -> the figure that the study's claim is about.
    """

    title: str
    rows: tuple[Mapping[str, float | int | str], ...]
    scores: Mapping[str, float]
