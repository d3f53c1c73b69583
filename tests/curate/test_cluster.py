"""Clusters of texts: TF-IDF by hand, k-means against scipy's, and their order."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.cluster.vq import kmeans2

from selftaught.curate.cluster import cluster, kmeans, tfidf
from selftaught.errors import BadInput

FRUIT = [f"How many {kind} are left of {n} {kind}?" for kind in ("apples", "pears") for n in (3, 4, 5)]
TRAINS = [f"A train drives {n} km in {n + 1} hours; how fast is it?" for n in (30, 40, 50, 60)]


def test_tfidf_by_hand() -> None:
    rare, common = math.log(3 / 2) + 1, 1.0  # of two texts, one has it; both have it
    first = np.array([2 * rare, common]) / math.hypot(2 * rare, common)  # "a a b", "b": columns a, b
    assert tfidf(["A a b", "b"]) == pytest.approx(np.array([first, [0, 1]]))


def test_kmeans_is_that_of_scipy() -> None:
    points = np.random.default_rng(0).normal(size=(200, 5))
    start = points[:6]
    _, wanted = kmeans2(points, start, iter=100, minit="matrix")
    labels, distances = kmeans(points, start)
    assert (labels == wanted).all()
    means = np.stack([points[labels == i].mean(axis=0) for i in range(6)])
    assert distances == pytest.approx(((points - means[labels]) ** 2).sum(axis=1))


def test_like_questions_are_together_from_the_center_outward() -> None:
    texts = [text for pair in zip(FRUIT, [*TRAINS, *TRAINS[:2]], strict=True) for text in pair]
    groups = cluster(texts, 2)
    assert [sorted(group) for group in groups] == [[0, 2, 4, 6, 8, 10], [1, 3, 5, 7, 9, 11]]
    points = tfidf(texts)
    for group in groups:
        center = points[group].mean(axis=0)
        far = [float(((points[i] - center) ** 2).sum()) for i in group]
        assert far == pytest.approx(sorted(far))
    assert groups == cluster(texts, 2, seed=0)


def test_fewer_different_texts_make_fewer_clusters() -> None:
    assert cluster(["a", "b", "a"], 5) == [[0, 2], [1]]
    assert cluster(["same"] * 3, 2) == [[0, 1, 2]]
    assert cluster(["", ""], 2) == [[0, 1]]
    assert cluster([], 2) == []


def test_no_clusters_are_refused() -> None:
    with pytest.raises(BadInput, match="clusters must be ≥ 1, got 0"):
        cluster(["a"], 0)
