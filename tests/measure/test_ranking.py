"""AUROC against brute force and closed forms."""

from __future__ import annotations

import math
import random

import pytest

from selftaught.measure import auroc


def test_it_is_the_share_of_pairs_in_order_with_ties_half() -> None:
    draw = random.Random(0)
    for _ in range(20):
        scores = [draw.randrange(6) / 5 for _ in range(30)]
        right = [draw.random() < 0.4 for _ in scores]
        pairs = [
            (a, b) for a, x in zip(scores, right, strict=True) for b, y in zip(scores, right, strict=True) if x > y
        ]
        share = sum((a > b) + (a == b) / 2 for a, b in pairs) / len(pairs)
        assert auroc(scores, right) == pytest.approx(share)


def test_ends() -> None:
    assert auroc([0.1, 0.9], [False, True]) == 1
    assert auroc([0.9, 0.1], [False, True]) == 0
    assert auroc([0.5, 0.5], [True, True]) == 0.5
    assert auroc([math.nan, 0.2, 0.1], [False, True, False]) == 1
    with pytest.raises(ValueError, match="zip"):
        auroc([0.1], [])
