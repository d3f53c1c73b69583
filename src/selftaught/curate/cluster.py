"""Group texts by the words they share: TF-IDF vectors and k-means, exact and small."""

from __future__ import annotations

import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from selftaught.errors import BadInput

if TYPE_CHECKING:
    import numpy as np

    Matrix = np.ndarray[Any, np.dtype[np.float64]]

WORDS = re.compile(r"\w+|[^\w\s]")
STARTS, MAX_ITERATIONS = 10, 300


def cluster(texts: Sequence[str], clusters: int, *, seed: int = 0) -> list[list[int]]:
    """Group texts into clusters, each from its center outward.

    Texts are TF-IDF vectors of their words, numbers and signs. Of ten runs of k-means from centers that k-means++
    draws, the one of the smallest squared distances counts. Equal distances keep the order of the texts.

    Args:
        texts: what to group.
        clusters: number of groups; fewer are made of fewer different texts.
        seed: of the first centers.

    Returns:
        Indices of the texts, a list for each cluster that is not empty, in the order of their first texts.

    Raises:
        BadInput: `clusters` is below 1.
    """
    import numpy as np

    if clusters < 1:
        raise BadInput(f"clusters must be ≥ 1, got {clusters}", where="clusters", fix="use 8")
    if not texts:
        return []
    points, rng = tfidf(texts), np.random.default_rng(seed)
    runs = [kmeans(points, _first_centers(points, clusters, rng)) for _ in range(STARTS)]
    labels, distances = min(runs, key=lambda run: round(float(run[1].sum()), 9))
    groups = [np.flatnonzero(labels == label) for label in range(clusters)]
    near = [[int(i) for i in group[np.argsort(distances[group], kind="stable")]] for group in groups if len(group)]
    return sorted(near, key=min)


def random_groups(count: int, groups: int, *, seed: int = 0) -> list[list[int]]:
    """Indices 0 to `count` - 1 in random order, dealt into groups: what `cluster` is compared with."""
    order = random.Random(seed).sample(range(count), count)
    return [dealt for i in range(groups) if (dealt := order[i::groups])]


def tfidf(texts: Sequence[str]) -> Matrix:
    """One row of unit length per text `[texts, words]`; words are sorted.

    The count of a word is weighted by `ln((1 + texts) / (1 + texts with it)) + 1`, as scikit-learn does by default.
    """
    import numpy as np

    counts = [Counter(WORDS.findall(text.casefold())) for text in texts]
    place = {word: i for i, word in enumerate(sorted({word for count in counts for word in count}))}
    matrix = np.zeros((len(texts), max(1, len(place))))
    for row, count in zip(matrix, counts, strict=True):
        for word, times in count.items():
            row[place[word]] = times
    matrix *= np.log((1 + len(texts)) / (1 + (matrix > 0).sum(axis=0))) + 1
    lengths = np.linalg.norm(matrix, axis=1, keepdims=True)
    return matrix / np.where(lengths > 0, lengths, 1)


def kmeans(points: Matrix, centers: Matrix) -> tuple[Any, Any]:
    """Lloyd's algorithm from the given centers, until no point changes its cluster.

    Args:
        points: `[points, dimensions]`.
        centers: `[clusters, dimensions]`; one that loses all points stays where it is.

    Returns:
        The cluster of each point, and its squared distance to the center of the cluster.
    """
    import numpy as np

    labels, distances = _nearest(points, centers)
    for _ in range(MAX_ITERATIONS):
        groups = [points[labels == label] for label in range(len(centers))]
        centers = np.stack(
            [group.mean(axis=0) if len(group) else old for group, old in zip(groups, centers, strict=True)]
        )
        before, (labels, distances) = labels, _nearest(points, centers)
        if (labels == before).all():
            break
    return labels, distances


def _nearest(points: Matrix, centers: Matrix) -> tuple[Any, Any]:
    squares = (points**2).sum(axis=1)[:, None] - 2 * points @ centers.T + (centers**2).sum(axis=1)
    labels = squares.argmin(axis=1)
    return labels, squares[range(len(points)), labels].clip(min=0)


def _first_centers(points: Matrix, count: int, rng: Any) -> Matrix:
    """k-means++: each further center is a point, drawn in proportion to its squared distance from those before."""
    import numpy as np

    chosen = [int(rng.integers(len(points)))]
    while len(chosen) < count:
        far = _nearest(points, points[chosen])[1]
        far = np.where(far > 1e-12, far, 0)
        if not far.any():  # all different texts are centers
            break
        chosen.append(int(rng.choice(len(points), p=far / far.sum())))
    return points[chosen]
