"""Results of a check: a verdict on each contrast with what it rests on, and their JSON form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from selftaught.check.legs import Contrast, Precondition
from selftaught.measure import ClaimVerdict, Interval
from selftaught.worlds.world import DEFAULT_WORLD

KEYS: dict[Contrast, str] = {"as published": "as_published", "equal compute": "equal_compute"}
"""Contrast -> its key in the JSON form."""


@dataclass(frozen=True)
class BaselineComparison:
    """The method compared with one baseline or ablation.

    Attributes:
        name: name of the baseline or ablation.
        contrast: how it was matched with the method.
        score: its mean metric over seeds and problems.
        effect: the method's mean metric minus its.
        ci95: 95 % interval of the effect.
        tokens: tokens it spent, over all seeds.
        compute: compute it spent, likewise; what is matched at equal compute.
        in_claim: whether a leg names it; others are shown for comparison and do not affect the verdict.
    """

    name: str
    contrast: Contrast
    score: float
    effect: float
    ci95: Interval
    tokens: int
    compute: int = 0
    in_claim: bool = True


@dataclass(frozen=True)
class LegResult:
    """What was found of a leg in a contrast.

    Attributes:
        contrast: how the baselines were matched with the method.
        kind: "beats", "no worse", "ordered", "statistic" or "alarm".
        name: of the leg.
        against: the baseline, if it is compared with one.
        value: the effect or the statistic.
        ci95: its interval, which holds at all looks together with 95 %.
        outcome: "holds", "contradicted", "no effect" or "inconclusive".
        p_value: one-sided, of the null that the leg is to refute.
    """

    contrast: Contrast
    kind: str
    name: str
    against: str
    value: float
    ci95: Interval
    outcome: str
    p_value: float


@dataclass(frozen=True)
class ContrastResult:
    """The verdict on a contrast.

    Attributes:
        verdict: see `measure.decide`.
        deciding: the leg that decides it.
        p_value: one-sided, of the whole claim in this contrast.
        seeds: after which it was decided.
        left_out: baselines of the claim that are not compared in this contrast, by name, and why.
        failed: what makes it untestable: preconditions, and baselines that are left out though the claim asks for them.
    """

    verdict: ClaimVerdict
    deciding: LegResult
    p_value: float
    seeds: int
    left_out: Mapping[str, str] = field(default_factory=dict)
    failed: tuple[str, ...] = ()


@dataclass(frozen=True)
class Condition:
    """A precondition, its value (None where it could not be measured), and whether it holds."""

    of: Precondition
    value: float | None

    @property
    def holds(self) -> bool:
        """Whether the value is within the bounds."""
        return self.of.holds(self.value)


@dataclass(frozen=True)
class Result:
    """The result of checking one method's claim.

    Attributes:
        id: id of the method.
        also: other names of it.
        world: name of the world.
        world_version: of a world that passed its calibration; empty for others.
        task: what was learned and, where it differs, tested on.
        claim: in a sentence.
        ability: where the ability that it rests on comes from.
        contrasts: the verdict on each contrast that the claim has.
        legs: of all contrasts.
        conditions: the claim's preconditions.
        score: the method's mean metric over seeds and problems.
        baselines: each compared, in each contrast.
        ablations: the method under other options, each compared.
        options: options the method ran with.
        champion: which policy answered: "last", or the best on "dev"; empty where nothing is trained.
        direction: whether higher or lower is claimed.
        min_effect: the smallest effect of interest.
        seeds: number of seeds.
        builds: number of builds of the starting model.
        train: train problems of a seed; 0 where nothing is trained.
        problems: distinct test problems, over all seeds.
        tokens: generated, judge and trained tokens of the method and its baselines, over all seeds.
        compute: of the method and its baselines: prompt tokens not cached + sampled + 3 times trained.
        method_tokens: the method's share of the tokens.
        method_compute: its share of the compute.
        seconds: that the method and its baselines took, earlier sessions of a resumed check included; answers that
            another check had got already took none. Of seeds played side by side those of the slowest process.
        ablation_seconds: that the ablations took, likewise.
        jobs: seeds played at a time.
        quick: whether it was checked with the world's quick sizes.
        versions: of what took part.
        extra_metrics: the claim's further metrics of the method, means over seeds.
    """

    id: str
    also: tuple[str, ...]
    world: str
    world_version: str
    task: str
    claim: str
    ability: str
    contrasts: Mapping[Contrast, ContrastResult]
    legs: tuple[LegResult, ...]
    conditions: tuple[Condition, ...]
    score: float
    baselines: tuple[BaselineComparison, ...]
    ablations: tuple[BaselineComparison, ...]
    options: Mapping[str, Any]
    champion: str
    direction: str
    min_effect: float
    seeds: int
    builds: int
    train: int
    problems: int
    tokens: int
    compute: int
    method_tokens: int
    method_compute: int
    seconds: float
    ablation_seconds: float
    jobs: int
    quick: bool
    versions: Mapping[str, str]
    extra_metrics: Mapping[str, float] = field(default_factory=dict)

    @property
    def headline(self) -> ContrastResult:
        """The contrast as published, or at equal compute where the claim has no other."""
        return self.contrasts.get("as published") or self.contrasts["equal compute"]

    def to_json(self, command: str) -> dict[str, Any]:
        """The content of `results/METHOD.json`."""
        more: dict[str, Any] = {}
        if self.extra_metrics:
            more["extra_metrics"] = {name: _round(value) for name, value in self.extra_metrics.items()}
        if self.ablations:
            more["ablation_seconds"] = round(self.ablation_seconds, 1)
        return {
            "id": self.id,
            "also": list(self.also),
            "claim": self.claim,
            "world": self.world,
            "world_version": self.world_version,
            "ability": self.ability,
            "contrasts": {KEYS[name]: _contrast(found) for name, found in self.contrasts.items()},
            "legs": [_leg(one) for one in self.legs],
            "preconditions": [_condition(one) for one in self.conditions],
            "direction": self.direction,
            "min_effect": self.min_effect,
            "score": _round(self.score),
            "baselines": [_row(one) for one in self.baselines],
            "ablations": [_row(one) for one in self.ablations],
            "task": self.task,
            "options": dict(self.options),
            "champion": self.champion,
            "seeds": self.seeds,
            "builds": self.builds,
            "train": self.train,
            "problems": self.problems,
            "tokens": self.tokens,
            "compute": self.compute,
            "method_tokens": self.method_tokens,
            "method_compute": self.method_compute,
            "seconds": round(self.seconds, 1),
            "jobs": self.jobs,
            "quick": self.quick,
            "command": command,
            "versions": dict(self.versions),
            **more,
        }


def _round(value: float | None) -> float | None:
    return None if value is None or value != value else round(value, 4)


def _interval(interval: Interval) -> list[float | None]:
    return [_round(end) for end in interval]


def _p(value: float) -> float:
    return float(f"{value:.3g}")


def _contrast(found: ContrastResult) -> dict[str, Any]:
    leg = found.deciding
    return {
        "verdict": found.verdict,
        "effect": _round(leg.value),
        "ci95": _interval(leg.ci95),
        "against": leg.against or leg.name,
        "kind": leg.kind,
        "leg": leg.name,
        "p_value": _p(found.p_value),
        "seeds": found.seeds,
        "left_out": dict(found.left_out),
        "failed": list(found.failed),
    }


def _leg(leg: LegResult) -> dict[str, Any]:
    return {
        "contrast": KEYS[leg.contrast],
        "kind": leg.kind,
        "name": leg.name,
        "against": leg.against,
        "value": _round(leg.value),
        "ci95": _interval(leg.ci95),
        "outcome": leg.outcome,
        "p_value": _p(leg.p_value),
    }


def _condition(one: Condition) -> dict[str, Any]:
    found = {"name": one.of.name, "holds": one.holds, "value": _round(one.value)}
    bounds = {"at_least": one.of.at_least, "at_most": one.of.at_most}
    return found | {name: bound for name, bound in bounds.items() if bound is not None}


def _row(one: BaselineComparison) -> dict[str, Any]:
    return {
        "name": one.name,
        "contrast": KEYS[one.contrast],
        "score": _round(one.score),
        "effect": _round(one.effect),
        "ci95": _interval(one.ci95),
        "tokens": one.tokens,
        "compute": one.compute,
        "in_claim": one.in_claim,
    }


def write_result(result: Result, folder: Path, command: str) -> Path:
    """Write a result into `folder` atomically."""
    path = result_path(folder, result.id, result.world)
    folder.mkdir(parents=True, exist_ok=True)
    draft = path.with_name(path.name + ".draft")
    draft.write_text(json.dumps(result.to_json(command), indent=1) + "\n", "utf-8")
    draft.replace(path)
    return path


def result_path(folder: Path, method: str, world: str = DEFAULT_WORLD) -> Path:
    """Path of a method's result: `METHOD.json` on the default world, `METHOD.WORLD.json` on others."""
    return folder / (f"{method}.json" if world == DEFAULT_WORLD else f"{method}.{world}.json")
