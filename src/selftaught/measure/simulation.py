"""Simulated outcomes of checks, to see how often a procedure errs and what it finds."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist, fmean
from typing import TYPE_CHECKING, NamedTuple

from selftaught.measure.crossed import effect_of_differences
from selftaught.measure.inference import Decision, Leg, decide
from selftaught.measure.sequential import DEFAULT_LOOKS, Looks

if TYPE_CHECKING:
    import numpy as np

NORMAL = NormalDist()


@dataclass(frozen=True)
class OutcomeModel:
    """Right and wrong answers of trained arms, correlated as those of language models are.

    A probit model: an answer is right where difficulty + arm + seed + noise > 0, with noise of variance 1 that is in
    part shared by the arms of a seed (same train problems, same sampler) and in part by the seeds of an arm (what a
    method teaches). The defaults resemble a world of 4-step problems: a wide, Beta-like spread of the chance of a right
    answer, and 18 % of problems that one arm solves and the other does not.

    Attributes:
        accuracy: of the baselines.
        difficulty_sd: spread of the problems on the probit scale; 1 makes the chances uniform.
        seed_sd: standard deviation between seeds of the difference of two arms' accuracies.
        shared: share of the noise common to the arms of a seed.
        taught: share of the noise common to the seeds of an arm.
    """

    accuracy: float = 0.5
    difficulty_sd: float = 0.9
    seed_sd: float = 0.02
    shared: float = 0.72
    taught: float = 0.1

    def draw(self, rng: np.random.Generator, effects: Sequence[float], seeds: int, problems: int) -> np.ndarray:
        """Return right answers y[arm, seed, problem] as 0 and 1.

        Args:
            rng: source of randomness.
            effects: accuracy of each arm less that of the baselines.
            seeds: number of seeds.
            problems: number of problems, shared by arms and seeds.
        """
        import numpy as np

        def normal(*shape: int) -> np.ndarray:
            return rng.standard_normal(shape, dtype=np.float32)

        arms, own = len(effects), 1 - self.shared - self.taught
        shift = np.array([self._probit(self.accuracy + effect) for effect in effects], dtype=np.float32)
        score = shift[:, None, None] + self._latent_seed_sd() * normal(arms, seeds, 1)
        score = score + self.difficulty_sd * normal(problems) + math.sqrt(self.shared) * normal(seeds, problems)
        score += math.sqrt(self.taught) * normal(arms, 1, problems) + math.sqrt(own) * normal(arms, seeds, problems)
        return (score > 0).astype(np.float32)

    def _latent_seed_sd(self) -> float:
        """On the probit scale: an arm has 1 / sqrt(2) of the difference's, over the mean density at the threshold."""
        scale = math.sqrt(1 + self.difficulty_sd**2)
        density = NORMAL.pdf(NORMAL.inv_cdf(self.accuracy)) / scale
        return self.seed_sd / math.sqrt(2) / density

    def _probit(self, accuracy: float) -> float:
        """The constant that makes the mean chance of a right answer `accuracy`, over seeds and problems."""
        return NORMAL.inv_cdf(accuracy) * math.sqrt(1 + self.difficulty_sd**2 + self._latent_seed_sd() ** 2)


@dataclass(frozen=True)
class Rates:
    """What came of simulated checks.

    Attributes:
        verdicts: share of checks by verdict.
        seeds: mean number of seeds at which a check stopped.
        coverage: share of 95 % intervals that hold the true effect, by number of seeds.
        repeated_coverage: share of checks in which the repeated intervals of all looks hold it.
        half_width: mean half width of the 95 % interval with all seeds.
    """

    verdicts: Mapping[str, float]
    seeds: float
    coverage: Mapping[int, float]
    repeated_coverage: float
    half_width: float


def simulate_checks(
    draw: Callable[[np.random.Generator], np.ndarray], effect: float, *, looks: Looks = DEFAULT_LOOKS,
    repeats: int = 200, min_effect: float = 0.02, builds: int = 1, seed: int = 0,
) -> Rates:  # fmt: skip
    """Play whole checks: looks, several baselines, Holm, verdict.

    Args:
        draw: scores[arm, seed, problem] of one check with all seeds of the last look; arm 0 is the method, the others
            are the claim's baselines.
        effect: true effect of the method on each baseline; 0 is an A/A test.
        looks: numbers of seeds.
        repeats: number of checks.
        min_effect: the smallest effect of interest.
        builds: number of builds that the seeds go through in turn.
        seed: of the simulation.
    """
    import numpy as np

    rng = np.random.default_rng(seed)
    played = [_play(draw(rng), effect, looks, min_effect, builds) for _ in range(repeats)]
    verdicts = Counter(one.decision.verdict for one in played)
    return Rates(
        {verdict: count / repeats for verdict, count in verdicts.most_common()},
        fmean(one.seeds for one in played),
        {s: fmean(one.holds[k] for one in played) for k, s in enumerate(looks.seeds)},
        fmean(one.always for one in played),
        fmean(one.half_width for one in played),
    )


class _Played(NamedTuple):
    """One simulated check: its decision and when it fell, and how the intervals against the first baseline fared."""

    decision: Decision
    seeds: int
    holds: list[bool]
    always: bool
    half_width: float


def _play(y: np.ndarray, effect: float, looks: Looks, min_effect: float, builds: int) -> _Played:
    """Look at rising numbers of seeds; intervals are judged at every look, whenever the check stopped."""
    decisions, holds, always = list[tuple[Decision, int]](), list[bool](), True
    low = high = 0.0
    for look, seeds in enumerate(looks.seeds):
        labels = [str(s % builds) for s in range(seeds)]
        found = [effect_of_differences(y[0, :seeds] - other[:seeds], builds=labels) for other in y[1:]]
        low, high = found[0].interval(looks.level(look))
        always = always and low <= effect <= high
        low, high = found[0].interval()
        holds.append(low <= effect <= high)
        legs = [Leg(str(k), one, min_effect=min_effect) for k, one in enumerate(found)]
        decisions.append((decide(legs, looks=looks, look=look), seeds))
    decision, seeds = next((decision, seeds) for decision, seeds in decisions if decision.stop)
    return _Played(decision, seeds, holds, always, (high - low) / 2)
