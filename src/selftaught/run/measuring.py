"""Measuring on the dev split, and the gate that decides on a new champion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from selftaught.curate import by_problem
from selftaught.errors import BadInput
from selftaught.identity import identify, require_identity, solver_name
from selftaught.measure import Measurement, measure_attempts
from selftaught.measure.flips import TurnVerdicts, turn_verdicts
from selftaught.models import Policy
from selftaught.records import content_hash
from selftaught.run.attempts import sample_fixed
from selftaught.run.champions import MAIN, claim_name, decide, note
from selftaught.run.context import RunContext
from selftaught.run.noting import published
from selftaught.run.settings import override
from selftaught.run.solver import Solver, SolverResult

MetricsFn = Callable[[Sequence[TurnVerdicts]], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class MeasureConfig:
    """How a policy is measured; only measurements with the same settings are compared.

    Attributes:
        solver: None samples each problem's own prompt.
        samples: per problem.
        temperature: of sampling.
    """

    solver: Solver | None
    samples: int
    temperature: float

    @property
    def greedy(self) -> bool:
        """Whether it is the policy's own greedy answer that counts."""
        return self.solver is None and self.samples == 1 and self.temperature == 0.0

    @property
    def key(self) -> str:
        """Hash of the settings that two comparable measurements share."""
        return content_hash(identify(self.solver).key, self.samples, float(self.temperature))

    def to_json(self) -> dict[str, Any]:
        """What sets it apart from the measurement of greedy answers, as plain data; nothing for those."""
        found = {"solver": solver_name(self.solver), "samples": self.samples, "temperature": float(self.temperature)}
        return {} if self.greedy else {**found, "key": self.key}


def measure(
    context: RunContext, policy: Policy, how: MeasureConfig, gated: bool, metrics: MetricsFn | None, learner: str = MAIN
) -> Measurement:
    """See `Run.measure`."""
    context.check_budget()
    claim_name(context, learner, "a learner")
    gated = gated or how.greedy
    if gated:
        require_identity(how.solver, "the gate")
    found, solved = _measure(context, policy, how, gated, turns=metrics is not None)
    if metrics is not None:
        context.log_metrics(solver_name(how.solver), metrics(sorted(map(turn_verdicts, solved))))
    if gated:
        note(context, learner, {"policy": policy.version, "measurement": found, "under": how.key})
        _gate(context, policy, found, how, learner)
    return replace(found, scores={}) if context.method else found


def measurement_of(policy: Policy, split: str, solver: str, solved: Sequence[SolverResult]) -> Measurement:
    """The measurement made of solver results."""
    groups = by_problem(one.attempt for one in solved)
    return measure_attempts(policy.version, split, solver, groups, sum(one.tokens for one in solved))


def _measure(
    context: RunContext, policy: Policy, how: MeasureConfig, gated: bool, *, turns: bool = False
) -> tuple[Measurement, Sequence[SolverResult]]:
    task = context.task
    if not task.dev:
        raise BadInput("the task has no dev problems to measure on", where=task.name, fix="ask for some (--dev 128)")
    sampling = override(context.settings.sampling, {"temperature": how.temperature})
    with context.cut.fixed_cost():
        solved = sample_fixed(
            context, policy, task.dev, "dev", sampling, range(how.samples), solver=how.solver, keep_turns=turns
        )
    if gated:
        context.monitor.observe_measurement(policy.version, by_problem(one.attempt for one in solved))
    return measurement_of(policy, "dev", solver_name(how.solver), solved), solved


def _gate(context: RunContext, policy: Policy, found: Measurement, how: MeasureConfig, learner: str) -> None:
    """Decide between `policy` and the champion, which is measured first if it was not yet under these settings."""
    champion = context.champions[learner]
    if policy.version == champion.version:
        return
    held = context.measurements.get(champion.version)
    if held is None or context.measured_with[champion.version] != how.key:
        held = context.measurements[champion.version] = _measure(context, champion, how, True)[0]
        context.measured_with[champion.version] = how.key
    decision = decide(context, learner, held, found, how.to_json())
    note(context, learner, {"decision": decision})
    if decision.promoted:
        context.champions[learner] = published(context, policy)
        context.measurements[policy.version], context.measured_with[policy.version] = found, how.key
