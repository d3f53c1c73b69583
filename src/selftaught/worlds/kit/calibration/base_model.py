"""Checks of the model as it is: the vote, the ladder of decoding, temperature, difficulty and confidence."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise

from selftaught.curate import vote
from selftaught.feedback.equality import equality_key
from selftaught.measure import Interval, expected_calibration_error, majority_at_k, pass_at_k
from selftaught.method import find
from selftaught.records import Attempt
from selftaught.worlds.kit.calibration.figures import Figure, Scores, difference_of, share_of, statistic_of
from selftaught.worlds.kit.calibration.lab import Lab, greedy, sampled

TEMPERATURES = (0.3, 0.5, 0.7, 1.0, 1.2)
LADDER_SAMPLES = 8  # per problem and temperature


@dataclass(frozen=True)
class Samples:
    """Judged samples of the starting model at each problem, and its greedy answers.

    Attributes:
        groups: problem -> its attempts.
        greedy: problem -> whether the greedy answer is right, as 0 or 1; empty if it was not asked for.
    """

    groups: Mapping[str, Sequence[Attempt]]
    greedy: Scores

    def majority(self, k: int) -> dict[str, float]:
        """The expected accuracy of the vote of `k` samples, by problem."""
        return {
            name: majority_at_k([a.answer and equality_key(a.answer) for a in group], [a.right for a in group], k)
            for name, group in self.groups.items()
        }

    def passed(self, k: int) -> dict[str, float]:
        """The unbiased pass@k, by problem."""
        return {name: pass_at_k(len(g), sum(a.right for a in g), k) for name, g in self.groups.items()}

    def distinct(self, k: int) -> dict[str, float]:
        """The share of distinct answers among the first `k` samples, by problem; no answer counts as one more."""
        return {name: len({a.answer for a in group[:k]}) / k for name, group in self.groups.items()}

    @property
    def votes(self) -> int:
        """Samples per problem."""
        return min(map(len, self.groups.values()))


def samples_of(lab: Lab) -> Samples:
    """The samples that checks 2, 3, 5 and 6 share, and those of training compare with; drawn once."""
    if "samples" not in lab.shared:
        with lab.run("samples", lab.measured(lab.sizes.problems)) as run:
            groups = sampled(run, run.base, run.task.test, lab.sizes.votes)
            lab.shared["samples"] = Samples(groups, greedy(run, run.base, run.task.test))
    return lab.shared["samples"]


def vote_over_greedy(lab: Lab) -> dict[str, Figure]:
    """Check 2."""
    found = samples_of(lab)
    return {"majority@16 - greedy": difference_of(found.majority(found.votes), found.greedy)}


def decoding_ladder(lab: Lab) -> dict[str, Figure]:
    """Check 3."""
    return ladder_figures(samples_of(lab))


def ladder_figures(found: Samples) -> dict[str, Figure]:
    """The gaps between pass@k, majority@k, greedy and a sample, for all samples of each problem."""
    voted = found.majority(found.votes)
    return {
        "pass@16 - majority@16": difference_of(found.passed(found.votes), voted),
        "majority@16 - greedy": difference_of(voted, found.greedy),
        "greedy - sample": difference_of(found.greedy, found.passed(1)),
    }


def temperatures(lab: Lab) -> dict[str, Figure]:
    """Check 4."""
    with lab.run("temperatures", lab.measured(lab.sizes.problems)) as run:
        by_temperature = [
            Samples(sampled(run, run.base, run.task.test, LADDER_SAMPLES, temperature=t), {}) for t in TEMPERATURES
        ]
    return temperature_figures(by_temperature)


def temperature_figures(found: Sequence[Samples]) -> dict[str, Figure]:
    """What the temperature does, from samples at rising temperatures, as many at each."""
    k = found[0].votes
    once, some = [one.passed(1) for one in found], [one.passed(k) for one in found]
    voted = [one.majority(k) for one in found]
    falls = [difference_of(a, b) for a, b in pairwise(once)] + [difference_of(b, a) for a, b in pairwise(some)]
    worst = min(falls, key=lambda figure: figure.value)
    inner, ends = max(voted[1:-1], key=_mean), max((voted[0], voted[-1]), key=_mean)
    return {
        "pass@8 at the highest - at the lowest": difference_of(some[-1], some[0]),
        "pass@1 at the lowest - at the highest": difference_of(once[0], once[-1]),
        "largest step against the trend": Figure(-worst.value, Interval(-worst.ci95.high, -worst.ci95.low)),
        "inner temperatures' best majority@8 - better end's": difference_of(inner, ends),
    }


def difficulty(lab: Lab) -> dict[str, Figure]:
    """Check 5."""
    return difficulty_figures(samples_of(lab))


def difficulty_figures(found: Samples) -> dict[str, Figure]:
    """How p(right) spreads over problems; the SD is that of p itself, without the noise of estimating it."""
    shares = [sum(a.right for a in group) / len(group) for group in found.groups.values()]
    return {
        "SD of p(right)": statistic_of(lambda some: spread(some, found.votes), [[share] for share in shares]),
        "share below 0.1": share_of([share < 0.1 for share in shares]),
        "share above 0.9": share_of([share > 0.9 for share in shares]),
    }


def spread(shares: Sequence[float], samples: int) -> float:
    """The standard deviation over problems of the chance of a right sample.

    The variance of the observed shares less the binomial part, mean(s (1 - s) / (samples - 1)), which is unbiased.

    Args:
        shares: for each problem the share of its samples that is right.
        samples: of each problem, at least 2.
    """
    mean, n = math.fsum(shares) / len(shares), len(shares)
    observed = math.fsum((share - mean) ** 2 for share in shares) / max(1, n - 1)
    noise = math.fsum(s * (1 - s) for s in shares) / (n * (samples - 1))
    return math.sqrt(max(0.0, observed - noise))


def confidence(lab: Lab) -> dict[str, Figure]:
    """Check 6: the share of the vote's winner, and the study `p-true-p-ik`."""
    known = p_true(lab)
    return {
        "ECE of the vote share": vote_calibration(samples_of(lab)),
        "ECE of P(True)": _of_row(known, "ece"),
        "AUROC of P(True)": _of_row(known, "auroc"),
    }


def p_true(lab: Lab) -> Mapping[str, float | int | str]:
    """The study's row on P(True)."""
    drawn = lab.measured(lab.sizes.some // 2)
    with lab.run("confidence", drawn.with_splits((), drawn.test, ())) as run:
        how = {"samples": 8, "temperature": 0.7, "epochs": 0}
        rows = {row["confidence"]: row for row in find("p-true-p-ik")(run, run.base, run.task, **how).rows}
    return rows["P(True)"]


def vote_calibration(found: Samples) -> Figure:
    """The expected calibration error of the winner's share as the probability that it is right (10 even bins)."""
    winners = [won for group in found.groups.values() if (won := vote(group))]
    pairs = [[(won.share, won.voters[0].right)] for won in winners]
    return statistic_of(lambda some: expected_calibration_error(*zip(*some, strict=True)), pairs)


def _of_row(row: Mapping[str, float | int | str], name: str) -> Figure:
    return Figure(float(row[name]), Interval(float(row[f"{name}_low"]), float(row[f"{name}_high"])))


def _mean(scores: Scores) -> float:
    return math.fsum(scores.values()) / len(scores)
