"""Check 20: the statistics of claims on a system against itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from selftaught.worlds.kit.calibration.base_model import Samples, samples_of
from selftaught.worlds.kit.calibration.figures import Figure, Scores, effect_of, share_of
from selftaught.worlds.kit.calibration.lab import Lab
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS

CLAIM_SEEDS = 6  # seeds of a claim, at its first look


def no_method_beats_itself(lab: Lab) -> dict[str, Figure]:
    """Check 20: on the twin, one comparison over several seeds each; without one, on the model's own samples."""
    return control_figures([reproduced(new, old) for new, old in _comparisons(lab)])


def control_figures(called: Sequence[bool]) -> dict[str, Figure]:
    """The share of comparisons of a system with itself that are called reproduced."""
    return {"share of A/A comparisons called reproduced": share_of(called)}


def reproduced(new: Sequence[Scores], old: Sequence[Scores]) -> bool:
    """Whether a claim that `new` beats `old` would be called reproduced: the interval lies above zero.

    Args:
        new: for each seed, problem -> score.
        old: the same seeds and problems.
    """
    return effect_of(new, old).ci95.low > 0


def _comparisons(lab: Lab) -> Iterator[tuple[list[Scores], list[Scores]]]:
    rng = random.Random(CALIBRATION_SEEDS[0])
    for number in range(lab.sizes.repeats):
        if lab.plan.twin is None:
            new, old = two_draws(samples_of(lab), rng)
            yield [new], [old]
        else:
            places = (number * CLAIM_SEEDS + i for i in range(CLAIM_SEEDS))
            sides = [lab.plan.twin(CALIBRATION_SEEDS[place % len(CALIBRATION_SEEDS)]) for place in places]
            yield [one for one, _ in sides], [other for _, other in sides]


def two_draws(found: Samples, rng: random.Random) -> tuple[Scores, Scores]:
    """Scores of one sample of each problem, twice, of different samples."""
    picked = {name: rng.sample(range(len(group)), 2) for name, group in found.groups.items()}
    sides = [{name: float(found.groups[name][two[i]].right) for name, two in picked.items()} for i in (0, 1)]
    return sides[0], sides[1]
