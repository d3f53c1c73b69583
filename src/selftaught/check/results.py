"""Results of a check: effects with intervals, a verdict, and their JSON form."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from selftaught.measure import Interval, paired_bootstrap
from selftaught.worlds.world import DEFAULT_WORLD

ClaimVerdict = Literal["reproduced", "not reproduced", "inconclusive"]
Scores = Mapping[str, float]

# Two-sided 97.5 % points of Student's t by degrees of freedom; beyond the table the next smaller entry is
# used, which is on the safe side.
T_975 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228, 12: 2.179,
    15: 2.131, 20: 2.086, 30: 2.042, 60: 2.000, 120: 1.980,
}  # fmt: skip


def clustered_effect(mine: Sequence[Scores], theirs: Sequence[Scores]) -> tuple[float, Interval]:
    """Mean over seeds of the mean paired difference mine - theirs, and its 95 % interval.

    The seed is the cluster: its problems share the training data, the trained policy and the sampler's luck. With as
    few clusters as a check has, a bootstrap over them is too narrow, so the interval is Student's t over the seeds'
    means with (seeds - 1) degrees of freedom (Cameron & Miller 2015, A Practitioner's Guide to Cluster-Robust
    Inference, section VI; Miller 2024, Adding Error Bars to Evals, 2411.00640, section 2.2). Problems are new in each
    seed, so their sampling error is in the spread of the means too. Where all seeds have the same mean, the
    interval is a paired bootstrap over the pooled problems.

    Args:
        mine: for each seed, problem id -> score.
        theirs: the same seeds and problems.

    Raises:
        ValueError: fewer than two seeds, or different problems.
    """
    if len(mine) != len(theirs) or len(mine) < 2:
        raise ValueError(f"expected the same two or more seeds, got {len(mine)} and {len(theirs)}")
    if any(a.keys() != b.keys() or not a for a, b in zip(mine, theirs, strict=True)):
        raise ValueError("only scores on the same problems can be compared")
    means = [math.fsum(a[i] - b[i] for i in a) / len(a) for a, b in zip(mine, theirs, strict=True)]
    effect = math.fsum(means) / len(means)
    spread = math.sqrt(math.fsum((m - effect) ** 2 for m in means) / (len(means) - 1))
    if spread > 1e-12:
        half = _t975(len(means) - 1) * spread / math.sqrt(len(means))
        return effect, Interval(effect - half, effect + half)
    return effect, _spreadless(mine, theirs, effect)


def _spreadless(mine: Sequence[Scores], theirs: Sequence[Scores], effect: float) -> Interval:
    """The pooled paired bootstrap of scores in 0..1; of any others the effect itself."""
    old = [b[i] for a, b in zip(mine, theirs, strict=True) for i in a]
    new = [a[i] for a in mine for i in a]
    if all(0 <= value <= 1 for value in (*old, *new)):
        return paired_bootstrap(old, new)
    return Interval(effect, effect)


def _t975(freedom: int) -> float:
    return T_975[max(known for known in T_975 if known <= freedom)]


@dataclass(frozen=True)
class BaselineComparison:
    """The method compared with one baseline or ablation.

    Attributes:
        name: name of the baseline or ablation.
        score: its mean metric over seeds and problems.
        effect: the method's mean metric minus its.
        ci95: 95 % interval of the effect.
        tokens: tokens it spent, over all seeds.
        in_claim: whether the claim names it; others are shown for comparison and do not affect the verdict.
    """

    name: str
    score: float
    effect: float
    ci95: Interval
    tokens: int
    in_claim: bool = True


def decide_verdict(
    baselines: Sequence[BaselineComparison], *, sign: int, min_effect: float
) -> tuple[ClaimVerdict, BaselineComparison]:
    """Return the verdict on the claim that the metric beats every baseline, and the baseline that decides it.

    Reproduced: all intervals lie above zero in the claimed direction, an intersection-union test, which needs no
    correction for the number of baselines (Berger 1982, Multiparameter Hypothesis Testing and Acceptance Sampling).
    Not reproduced: one that does not lie above zero ends below the smallest effect of interest, or below zero.

    Args:
        baselines: those that the claim names.
        sign: 1 where higher is claimed, -1 where lower.
        min_effect: the smallest effect of interest.
    """
    claimed = [(c, *_turned(c.ci95, sign)) for c in baselines if c.in_claim]
    weakest = min(claimed, key=lambda row: row[1])
    if weakest[1] > 0:
        return "reproduced", weakest[0]
    unbeaten = [row for row in claimed if row[1] <= 0]
    least = min(unbeaten, key=lambda row: row[2])
    return ("not reproduced", least[0]) if least[2] < min_effect else ("inconclusive", weakest[0])


def _turned(interval: Interval, sign: int) -> tuple[float, float]:
    low, high = sorted((sign * interval.low, sign * interval.high))
    return low, high


@dataclass(frozen=True)
class Result:
    """The result of checking one method's claim.

    Attributes:
        id: id of the method.
        model: name of the world.
        task: what was learned and, where it differs, tested on.
        claim: in a sentence.
        verdict: "reproduced", "not reproduced" or "inconclusive".
        score: the method's mean metric over seeds and problems.
        baselines: each compared.
        ablations: the method under other options, each compared.
        against: the claimed baseline that decides; its effect and interval are the result's.
        options: options the method ran with.
        min_effect: the smallest effect of interest.
        seeds: number of seeds.
        problems: scored problems, over all seeds.
        tokens: generated, judge and trained tokens of the method and its baselines, over all seeds.
        method_tokens: the method's share of them.
        seconds: that the method and its baselines took, earlier sessions of a resumed check included, but not those
            that found all of it done; answers that a check before it in the same process had got already took none.
            Of seeds played side by side those of the process that took longest.
        ablation_seconds: that the ablations took, likewise.
        jobs: seeds played at a time.
        versions: of what took part.
        extra_metrics: the claim's further metrics of the method, means over seeds.
    """

    id: str
    model: str
    task: str
    claim: str
    verdict: ClaimVerdict
    score: float
    baselines: tuple[BaselineComparison, ...]
    ablations: tuple[BaselineComparison, ...]
    against: BaselineComparison
    options: Mapping[str, Any]
    min_effect: float
    seeds: int
    problems: int
    tokens: int
    method_tokens: int
    seconds: float
    ablation_seconds: float
    jobs: int
    versions: Mapping[str, str]
    extra_metrics: Mapping[str, float] = field(default_factory=dict)

    def to_json(self, command: str) -> dict[str, Any]:
        """The content of `results/METHOD.json`."""
        return {
            "id": self.id,
            "verdict": self.verdict,
            "claim": self.claim,
            "effect": round(self.against.effect, 4),
            "ci95": [round(x, 4) for x in self.against.ci95],
            "against": self.against.name,
            "min_effect": self.min_effect,
            "score": round(self.score, 4),
            "method_tokens": self.method_tokens,
            "baselines": [_row(c) for c in self.baselines],
            "ablations": [_row(c) for c in self.ablations],
            **(
                {"extra_metrics": {name: round(value, 4) for name, value in self.extra_metrics.items()}}
                if self.extra_metrics
                else {}
            ),
            "model": self.model,
            "task": self.task,
            "options": dict(self.options),
            "seeds": self.seeds,
            "problems": self.problems,
            "tokens": self.tokens,
            "seconds": round(self.seconds, 1),
            **({"ablation_seconds": round(self.ablation_seconds, 1)} if self.ablations else {}),
            "jobs": self.jobs,
            "command": command,
            "versions": dict(self.versions),
        }


def _row(compared: BaselineComparison) -> dict[str, Any]:
    row = asdict(compared)
    row = {k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}
    return row | {"ci95": [round(x, 4) for x in compared.ci95]}


def write_result(result: Result, folder: Path, command: str) -> Path:
    """Write a result into `folder` atomically."""
    path = result_path(folder, result.id, result.model)
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(result.to_json(command), indent=1) + "\n", "utf-8")
    draft.replace(path)
    return path


def result_path(folder: Path, method: str, model: str = DEFAULT_WORLD) -> Path:
    """Path of a method's result: `METHOD.json` on the default world, `METHOD.WORLD.json` on others."""
    return folder / (f"{method}.json" if model == DEFAULT_WORLD else f"{method}.{model}.json")


COLUMNS = ("verdict", "effect", "over")


def result_cells(result: Mapping[str, Any]) -> tuple[str, str, str]:
    """A result (from `Result.to_json`) as cells for `COLUMNS`: verdict, effect with its 95 % interval, baseline."""
    low, high = result["ci95"]
    return result["verdict"], f"{result['effect']:+.3f} [{low:+.3f}, {high:+.3f}]", result["against"]
