"""What a check can see: the smallest effects that it finds, from the variance components of a difference.

Components are standard deviations by source as in `CrossedEffect.components`: "build", "seed", "problem" (what a
method changes on the same problems in all seeds) and "residual". Of 0/1 scores problem² + residual² is about the
discordance, the share of problems that one of the two systems solves and the other does not.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from statistics import NormalDist

from selftaught.measure.estimate import t_quantile


def effect_variance(components: Mapping[str, float], *, seeds: int, problems: int, builds: int = 1) -> float:
    """Return the variance of a mean difference: build² / B + seed² / (B S) + problem² / n + residual² / (B S n).

    Args:
        components: standard deviations by source; those missing are 0.
        seeds: S, per build.
        problems: n, the same for all seeds.
        builds: B.
    """
    of = {name: components.get(name, 0.0) ** 2 for name in ("build", "seed", "problem", "residual")}
    runs = builds * seeds
    return of["build"] / builds + of["seed"] / runs + of["problem"] / problems + of["residual"] / (runs * problems)


def minimum_detectable_effect(
    components: Mapping[str, float], *, seeds: int, problems: int, builds: int = 1, power: float = 0.8,
    alpha: float = 0.05,
) -> float:  # fmt: skip
    """Return the effect that a two-sided t-test finds with chance `power`.

    (t_{1 - alpha/2} + t_power) * standard error, the usual approximation (Bloom 1995, Minimum Detectable Effects). Degrees of freedom are B (S - 1), or B - 1 with a
    build component. A claim of k baselines needs power^(1/k) against each where they are independent: 0.93 of
    three for 0.8 in all.

    Args:
        components: standard deviations by source; those missing are 0.
        seeds: per build.
        problems: test problems, the same for all seeds.
        builds: of the base model.
        power: chance to find it.
        alpha: two-sided error.

    Raises:
        ValueError: no degrees of freedom are left.
    """
    df = builds - 1 if components.get("build", 0.0) > 0 else builds * (seeds - 1)
    if df < 1:
        raise ValueError(f"{seeds} seeds of {builds} builds leave no degrees of freedom")
    error = math.sqrt(effect_variance(components, seeds=seeds, problems=problems, builds=builds))
    return (t_quantile(1 - alpha / 2, df) + t_quantile(power, df)) * error


def problems_needed(effect: float, *, discordance: float = 0.18, power: float = 0.8, alpha: float = 0.05) -> int:
    """Return how many problems a paired comparison of two solvers needs to find an effect.

    n = discordance * ((z_{1 - alpha/2} + z_power) / effect)², the normal approximation of McNemar's test (Miller 2024,
    Adding Error Bars to Evals, 2411.00640, section 5).

    Args:
        effect: difference of two accuracies.
        discordance: share of problems that one of the solvers solves and the other does not.
        power: chance to find it.
        alpha: two-sided error.
    """
    z = NormalDist().inv_cdf(1 - alpha / 2) + NormalDist().inv_cdf(power)
    return math.ceil(discordance * (z / effect) ** 2)
