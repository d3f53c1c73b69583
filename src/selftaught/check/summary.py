"""Sum up all seeds and the decisions on them as a `Result`."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from selftaught.check.changed import parts_hash
from selftaught.check.claim import accuracy
from selftaught.check.legs import CONTRASTS, Contrast, Metric, name_of
from selftaught.check.outcome import Outcome, SeedResult, mean_score
from selftaught.check.results import BaselineComparison, Condition, ContrastResult, LegResult, Result
from selftaught.check.setup import Check
from selftaught.check.verdicts import LegTest, condition_values, effect_of, left_out, systems
from selftaught.measure import Decision

VERSIONED_PACKAGES = ("selftaught", "torch", "transformers")


@dataclass(frozen=True)
class Decided:
    """The decision on a contrast, the legs that it rests on, and the number of seeds at which it fell."""

    decision: Decision
    tests: Sequence[LegTest]
    seeds: int


def summarize(
    what: Check, trials: Sequence[SeedResult], decided: Mapping[Contrast, Decided], *, jobs: int, quick: bool
) -> Result:
    """The result of a check.

    Args:
        jobs: seeds played at a time.
    """
    claim, world = what.claim, what.world
    legs = {contrast: _legs(contrast, one) for contrast, one in decided.items()}
    return Result(
        id=what.method.id,
        also=tuple(what.method.also),
        world=world.name,
        world_version=world.version,
        task=trials[0].task,
        claim=claim.text,
        ability="real" if world.real else claim.ability or ("planted" if what.by_problem else "learnt"),
        contrasts={
            contrast: _contrast(one, legs[contrast], left_out(what, trials, contrast))
            for contrast, one in decided.items()
        },
        legs=tuple(leg for found in legs.values() for leg in found),
        conditions=tuple(map(Condition, claim.preconditions, condition_values(what, trials))),
        score=mean_score([t.method for t in trials], claim.metric),
        baselines=tuple(_baselines(what, trials)),
        ablations=tuple(_ablations(what, trials)),
        options=what.options,
        champion="" if what.by_problem or what.method.shape == "study" else what.champion,
        direction=claim.direction,
        min_effect=claim.min_effect,
        seeds=len(trials),
        builds=len({t.build for t in trials}),
        train=0 if what.by_problem else min(t.train for t in trials),
        problems=len({problem for t in trials for problem in t.method.scores[claim.metric]}),
        tokens=sum(t.tokens for t in trials),
        compute=sum(t.compute for t in trials),
        method_tokens=sum(t.method.tokens for t in trials),
        method_compute=sum(t.method.compute for t in trials),
        seconds=max(sum(t.seconds for t in trials[i::jobs]) for i in range(jobs)),
        ablation_seconds=max(sum(t.ablation_seconds for t in trials[i::jobs]) for i in range(jobs)),
        jobs=jobs,
        quick=quick,
        versions=_versions(what, trials),
        extra_metrics={
            name: sum(t.extra_metrics[name] for t in trials) / len(trials) for name in trials[0].extra_metrics
        },
    )


def _legs(contrast: Contrast, one: Decided) -> list[LegResult]:
    """The legs of a contrast as measured."""
    rows: list[LegResult] = []
    for test, found in zip(one.tests, one.decision.legs, strict=True):
        value, interval = test.raw(found.value, found.interval)
        rows.append(
            LegResult(contrast, test.kind, found.name, test.against, value, interval, found.outcome, found.p_value)
        )
    return rows


def _contrast(one: Decided, legs: Sequence[LegResult], left: Mapping[str, str]) -> ContrastResult:
    decision = one.decision
    deciding = legs[decision.legs.index(decision.deciding)]
    return ContrastResult(decision.verdict, deciding, decision.p_value, one.seeds, left, decision.failed)


def _baselines(what: Check, trials: Sequence[SeedResult]) -> list[BaselineComparison]:
    """Every baseline in every contrast it was run in, then what is shown beside."""
    claimed = what.claim.leg_baselines
    rows: list[BaselineComparison] = []
    for contrast in CONTRASTS:
        for name in map(name_of, what.claim.all_baselines.values()):
            if all(name in systems(trial, contrast) for trial in trials):
                found = [systems(trial, contrast)[name] for trial in trials]
                rows.append(_compared(what, trials, name, contrast, found, what.claim.metric, name in claimed))
    for name in trials[0].shown:
        found = [trial.shown[name] for trial in trials]
        rows.append(_compared(what, trials, name, "as published", found, accuracy, False))
    return rows


def _ablations(what: Check, trials: Sequence[SeedResult]) -> list[BaselineComparison]:
    metric = what.claim.metric
    return [
        _compared(what, trials, name, "as published", [trial.ablations[name] for trial in trials], metric, False)
        for name in trials[0].ablations
    ]


def _compared(
    what: Check, trials: Sequence[SeedResult], name: str, contrast: Contrast, theirs: Sequence[Outcome], metric: Metric,
    claimed: bool,
) -> BaselineComparison:  # fmt: skip
    """Compare the method with one system over all seeds."""
    ours, other = [t.method.scores[what.claim.metric] for t in trials], [one.scores[metric] for one in theirs]
    effect = effect_of(what, ours, other, [t.build for t in trials])
    tokens, compute = sum(one.tokens for one in theirs), sum(one.compute for one in theirs)
    score = mean_score(theirs, metric)
    return BaselineComparison(name, contrast, score, effect.value, effect.interval(), tokens, compute, claimed)


def _versions(what: Check, trials: Sequence[SeedResult]) -> dict[str, str]:
    """Versions of Python, the packages involved, the builds that seeds started from, and the method's code with its
    parts'."""
    found = {"python": sys.version.split()[0], "model": ", ".join(dict.fromkeys(t.build for t in trials))}
    for name in VERSIONED_PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:  # a checkout on the path
            found[name] = "unknown"
    return found | {"code": parts_hash(what.method)}
