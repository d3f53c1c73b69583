"""Corrections of p-values for the number of tests."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjust p-values so that rejecting those ≤ alpha errs with a chance of at most alpha in all of them together.

    Step-down, valid under any dependence (Holm 1979, A Simple Sequentially Rejective Multiple Test Procedure).

    Raises:
        ValueError: a p-value outside 0..1.
    """
    order, size = _ranked(p_values), len(p_values)
    adjusted, highest = [0.0] * size, 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (size - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def benjamini_hochberg(p_values: Sequence[float]) -> list[float]:
    """Return q-values: rejecting those ≤ q leaves an expected share of at most q of false discoveries.

    Step-up, valid for independent or positively dependent tests (Benjamini & Hochberg 1995, Controlling the False
    Discovery Rate, section 3.1).

    Raises:
        ValueError: a p-value outside 0..1.
    """
    order, size = _ranked(p_values), len(p_values)
    adjusted, lowest = [0.0] * size, 1.0
    for rank in reversed(range(size)):
        i = order[rank]
        lowest = min(lowest, size / (rank + 1) * p_values[i])
        adjusted[i] = lowest
    return adjusted


def _ranked(p_values: Sequence[float]) -> list[int]:
    """Positions in ascending order of p-value."""
    for p in p_values:
        if not 0 <= p <= 1:
            raise ValueError(f"p-values must be in 0..1, got {p}")
    return sorted(range(len(p_values)), key=lambda i: p_values[i])
