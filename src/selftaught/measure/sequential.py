"""Group-sequential looks at a growing number of seeds, with O'Brien-Fleming boundaries.

Looking at the data several times and stopping at the first p < 0.05 errs far more often than 5 %. O'Brien & Fleming
1979 (A Multiple Testing Procedure for Clinical Trials) ask for |Z_k| ≥ c / sqrt(t_k) at information fraction t_k, with
c such that all looks together err with chance alpha. c is found by numerical integration over the paths that have not
crossed yet (Armitage, McPherson & Rowe 1969, Repeated Significance Tests on Accumulating Data).

Student's t takes the place of the normal distribution by its p-value: at each look p is compared with the boundary's
nominal p-value (a significance-level approach, attributed to Pocock 1977; unconfirmed).
The fractions are those of the seeds. Where test problems are shared by the seeds, the statistics of two looks are
correlated more closely than by seeds alone, which makes the boundaries err less (Slepian's inequality), not more.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING

from selftaught.errors import BadInput

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class Looks:
    """The numbers of seeds after which a check looks at its results, fixed in advance.

    Attributes:
        seeds: rising numbers of seeds; the last one is the most that are run.
        alpha: chance of a two-sided error, all looks together.

    Raises:
        BadInput: the numbers do not rise from at least 1, or `alpha` is not between 0 and 1.
    """

    seeds: tuple[int, ...] = (6, 12, 20)
    alpha: float = 0.05

    def __post_init__(self) -> None:
        if not self.seeds or self.seeds[0] < 1 or any(b <= a for a, b in pairwise(self.seeds)):
            raise BadInput(f"looks must be rising numbers of seeds, got {self.seeds}", where="looks")
        if not 0 < self.alpha < 1:
            raise BadInput(f"alpha must be between 0 and 1, got {self.alpha}", where="looks")

    @property
    def fractions(self) -> tuple[float, ...]:
        """The information fraction of each look."""
        return tuple(s / self.seeds[-1] for s in self.seeds)

    @property
    def nominal(self) -> tuple[float, ...]:
        """The two-sided p-value below which each look stops; of (6, 12, 20): 0.0003, 0.0097, 0.0456."""
        return tuple(self.nominal_p(look) for look in range(len(self.seeds)))

    def nominal_p(self, look: int, comparisons: int = 1) -> float:
        """The boundary of look 0, 1, ... as a two-sided p-value, with alpha shared by a number of comparisons."""
        bound = critical_value(self.fractions, self.alpha / comparisons) / math.sqrt(self.fractions[look])
        return two_sided(bound)

    def level(self, look: int, comparisons: int = 1) -> float:
        """The level of the repeated interval at a look.

        Intervals of these levels cover the truth at all looks at once with chance 1 - alpha, whenever the check stops
        and why (Jennison & Turnbull 1989, Interim Analyses: The Repeated Confidence Interval Approach).
        """
        return 1 - self.nominal_p(look, comparisons)

    def repeated_p(self, p: float, look: int) -> float:
        """The smallest alpha at which a two-sided nominal p-value would cross the boundary of its look.

        A repeated p-value stays valid whenever the check stops and can be corrected for multiplicity like any other
        (repeated p-values: Jennison & Turnbull 2000, Group Sequential Methods with Applications to Clinical Trials).
        """
        if p >= 1:
            return 1.0
        z = -NormalDist().inv_cdf(p / 2) if p > 1e-300 else math.inf
        return crossing_probability(self.fractions, z * math.sqrt(self.fractions[look]))


DEFAULT_LOOKS = Looks()
"""After 6, 12 and 20 seeds."""

FIXED = Looks((1,))
"""One look at the end: solvers, or a number of seeds fixed in advance."""


@lru_cache(maxsize=1024)
def critical_value(fractions: tuple[float, ...], alpha: float) -> float:
    """Return c, the constant of the O'Brien-Fleming boundaries |Z_k| ≥ c / sqrt(t_k), by bisection.

    Args:
        fractions: rising information fractions, the last one 1.
        alpha: two-sided chance to cross at some look where there is no effect.
    """
    low, high = -NormalDist().inv_cdf(alpha / 2), 10.0  # one look alone asks for the normal quantile, more ask for more
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if crossing_probability(fractions, middle) > alpha else (low, middle)
    return high


def crossing_probability(fractions: tuple[float, ...], c: float) -> float:
    """The chance that a Brownian motion is outside ±c at one of the times `fractions`, which rise to 1.

    The density of the paths that were inside so far is carried from look to look on Gauss-Legendre nodes
    (Armitage, McPherson & Rowe 1969).
    """
    import numpy as np
    from scipy.special import ndtr

    if c <= 0:
        return 1.0
    if c > 12:
        return 0.0  # below 1e-32 at time 1
    x, weights = _nodes(c, min(b - a for a, b in pairwise((0.0, *fractions))))
    outside = 2 * float(ndtr(-c / math.sqrt(fractions[0])))
    density = np.exp(-(x**2) / (2 * fractions[0])) / math.sqrt(2 * math.pi * fractions[0])
    for before, now in pairwise(fractions):
        step = math.sqrt(now - before)
        outside += float((weights * density) @ (ndtr((-c - x) / step) + ndtr((x - c) / step)))
        jump = np.exp(-(((x[:, None] - x) / step) ** 2) / 2) / (step * math.sqrt(2 * math.pi))
        density = jump @ (weights * density)
    return min(1.0, outside)


def _nodes(c: float, shortest: float) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes and weights on -c..c, dense enough for a step of variance `shortest`."""
    import numpy as np

    x, weights = _legendre(min(512, max(48, math.ceil(6 * c / math.sqrt(shortest)))))
    return c * np.asarray(x), c * np.asarray(weights)


@lru_cache(maxsize=32)
def _legendre(size: int) -> tuple[np.ndarray, np.ndarray]:
    import numpy as np

    return np.polynomial.legendre.leggauss(size)


def two_sided(z: float) -> float:
    """The two-sided p-value of a standard normal statistic."""
    return math.erfc(abs(z) / math.sqrt(2))
