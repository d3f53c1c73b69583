"""Measuring on the dev split, and the gate that a policy must pass to become the champion."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from selftaught.control import GateDecision
from selftaught.curate import by_problem
from selftaught.errors import BadInput
from selftaught.identity import identify, known, solver_name
from selftaught.measure import Measurement, compare, measure_attempts
from selftaught.measure.flips import TurnVerdicts, turn_verdicts
from selftaught.models import Policy
from selftaught.records import content_hash
from selftaught.run.attempts import repeat
from selftaught.run.context import RunContext
from selftaught.run.sampling import Solved
from selftaught.run.settings import changed

Figures = Callable[[Sequence[TurnVerdicts]], Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Measuring:
    """How a policy is measured: two measurements can be compared where all of it is the same.

    Attributes:
        solver: None asks each problem's own prompt once.
        samples: of each problem.
    """

    solver: Any
    samples: int
    temperature: float

    @property
    def greedy(self) -> bool:
        """Whether it is the policy's own one best answer that counts."""
        return self.solver is None and self.samples == 1 and self.temperature == 0.0

    @property
    def key(self) -> str:
        """Hash of what two measurements must share to be compared."""
        return content_hash(identify(self.solver).key, self.samples, float(self.temperature))


def measure(context: RunContext, policy: Policy, how: Measuring, gated: bool, figures: Figures | None) -> Measurement:
    """See `Run.measure`."""
    context.check_budget()
    gated = gated or how.greedy
    if gated:
        known(how.solver, "the gate")
    found, solved = _measure(context, policy, how, gated, turns=figures is not None)
    if figures is not None:
        context.tell(solver_name(how.solver), figures(sorted(map(turn_verdicts, solved))))
    if gated:
        context.facts |= {"policy": policy.version, "measurement": found, "under": how.key}
        _gate(context, policy, found, how)
    return replace(found, scores={}) if context.method else found


def summarise(policy: Policy, split: str, solver: str, solved: Sequence[Solved]) -> Measurement:
    """The measurement made from a list of solvings."""
    groups = by_problem(one.attempt for one in solved)
    return measure_attempts(policy.version, split, solver, groups, sum(one.tokens for one in solved))


def _measure(
    context: RunContext, policy: Policy, how: Measuring, gated: bool, *, turns: bool = False
) -> tuple[Measurement, Sequence[Solved]]:
    task = context.task
    if not task.dev:
        raise BadInput("it has no dev problems to measure on", where=task.name, fix="ask for some (--dev 128)")
    sampling = changed(context.settings.sampling, {"temperature": how.temperature})
    solved = repeat(context, policy, task.dev, "dev", sampling, range(how.samples), solver=how.solver, turns=turns)
    if gated:
        context.watch.observe_measurement(policy.version, by_problem(one.attempt for one in solved))
    return summarise(policy, "dev", solver_name(how.solver), solved), solved


def _gate(context: RunContext, policy: Policy, found: Measurement, how: Measuring) -> None:
    """Decide between `policy` and the champion, which is measured now where it was not in the same way."""
    champion = context.champion
    if policy.version == champion.version:
        return
    held = context.measured.get(champion.version)
    if held is None or context.under[champion.version] != how.key:
        held = context.measured[champion.version] = _measure(context, champion, how, True)[0]
        context.under[champion.version] = how.key
    decision: GateDecision = context.settings.gate.decide(compare(held, found))
    payload = {"champion": champion.version, "policy": policy.version, "round": context.round, **asdict(decision)}
    context.note(content_hash("gate", champion.version, policy.version, context.round), "gate", payload)
    context.gates.append(payload)
    context.facts["decision"] = decision
    if decision.promoted:
        context.champion = policy
        context.measured[policy.version], context.under[policy.version] = found, how.key
