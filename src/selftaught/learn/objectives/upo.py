"""Uncertain preferences: weight and smooth each pair by how uncertain an estimator is about it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from selftaught.errors import BadInput
from selftaught.records import Pair

__all__ = ["upo_weighting"]


def mutual_information(probabilities: Sequence[float]) -> float:
    """Disagreement of a stochastic estimator's passes about one pair, in nats (0 to log 2): H[mean p] - mean H[p].

    Args:
        probabilities: that the chosen response wins, one from each pass (dropout left on).

    Source: Houlsby et al., "Bayesian active learning", 1112.5745, equation 2; used by UPO, 2409.11212.

    Raises:
        BadInput: no passes, or a number outside 0..1.
    """
    if not probabilities or not all(0 <= p <= 1 for p in probabilities):
        raise BadInput("needs one probability for each pass", where="mutual_information", fix="pass numbers in 0..1")
    mean = sum(probabilities) / len(probabilities)
    return max(0.0, _entropy(mean) - sum(map(_entropy, probabilities)) / len(probabilities))


def _entropy(p: float) -> float:
    return -sum(q * math.log(q) for q in (p, 1 - p) if q > 0)


def upo_weighting(pairs: Sequence[Pair], probabilities: Sequence[Sequence[float]]) -> list[Pair]:
    """Multiply each pair's weight by 1 - B and smooth its label by B / 2, where B is mutual information over log 2.

    Where the estimator's passes agree, a pair keeps its weight and a hard label; where they contradict each other, it
    counts nothing. For any objective on pairs. Source: Wang et al., "UPO", 2409.11212: uncertainty by Monte
    Carlo dropout, weighting and smoothing; the form of the two is ours, its equations were not checked.

    Raises:
        BadInput: not one list of probabilities for each pair.
    """
    if len(pairs) != len(probabilities):
        counts = f"{len(pairs)} pairs and {len(probabilities)} estimates"
        raise BadInput(counts, where="upo_weighting", fix="give one list of probabilities for each pair")
    doubts = [mutual_information(each) / math.log(2) for each in probabilities]
    return [
        replace(pair, weight=pair.weight * (1 - doubt), label_smoothing=max(pair.label_smoothing, doubt / 2))
        for pair, doubt in zip(pairs, doubts, strict=True)
    ]
