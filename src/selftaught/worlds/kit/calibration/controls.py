"""Check 20: the statistics of claims on a system against itself."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence

from selftaught.measure import Leg, crossed_effect, decide, paired_effect
from selftaught.worlds.kit.calibration.base_model import Samples, samples_of
from selftaught.worlds.kit.calibration.figures import Figure, Scores, share_of
from selftaught.worlds.kit.calibration.lab import Lab
from selftaught.worlds.kit.calibration.plan import CALIBRATION_SEEDS

CLAIM_SEEDS = 6  # seeds of a claim, at its first look
TWIN_RUNS = 24  # runs on the twin, of which comparisons draw two times so many
MIN_EFFECT = 0.02  # smallest effect of interest of a claim


def no_method_beats_itself(lab: Lab) -> dict[str, Figure]:
    """Check 20: on the twin, one comparison over several seeds each; without one, on the model's own samples."""
    return control_figures([reproduced(new, old) for new, old in _comparisons(lab)])


def control_figures(called: Sequence[bool]) -> dict[str, Figure]:
    """The share of comparisons of a system with itself that are called reproduced."""
    return {"share of A/A comparisons called reproduced": share_of(called)}


def reproduced(new: Sequence[Scores], old: Sequence[Scores]) -> bool:
    """Whether a claim that `new` beats `old` would be called reproduced.

    Args:
        new: for each seed, problem -> score; one for solvers.
        old: the same seeds and problems.
    """
    effect = paired_effect(new, old, interval="t") if len(new) == 1 else crossed_effect(new, old)
    return decide([Leg("against itself", effect, min_effect=MIN_EFFECT)]).verdict == "reproduced"


def _comparisons(lab: Lab) -> Iterator[tuple[list[Scores], list[Scores]]]:
    rng = random.Random(CALIBRATION_SEEDS[0])
    runs = [lab.plan.twin(seed) for seed in CALIBRATION_SEEDS[:TWIN_RUNS]] if lab.plan.twin else []
    for _ in range(lab.sizes.repeats):
        if runs:
            picked = rng.sample(runs, 2 * CLAIM_SEEDS)
            yield picked[:CLAIM_SEEDS], picked[CLAIM_SEEDS:]
        else:
            new, old = two_draws(samples_of(lab), rng)
            yield [new], [old]


def two_draws(found: Samples, rng: random.Random) -> tuple[Scores, Scores]:
    """Scores of one sample of each problem, twice, of different samples."""
    picked = {name: rng.sample(range(len(group)), 2) for name, group in found.groups.items()}
    sides = [{name: float(found.groups[name][two[i]].right) for name, two in picked.items()} for i in (0, 1)]
    return sides[0], sides[1]
