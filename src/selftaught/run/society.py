"""Ensembles: several policies measured by their vote, and the gate that decides on the whole set."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from selftaught.curate import by_problem
from selftaught.errors import BadInput
from selftaught.measure import Measurement, measure_majority
from selftaught.models import Policy
from selftaught.records import content_hash
from selftaught.run.attempts import sample_fixed
from selftaught.run.champions import MAIN, claim_name, decide, note
from selftaught.run.checks import require_all
from selftaught.run.context import RunContext
from selftaught.run.noting import published
from selftaught.run.settings import override, require_positive
from selftaught.run.solver import SolverResult

GREEDY = {"samples": 1, "temperature": 0.0}
"""How members are sampled unless it is said otherwise."""


def measure_ensemble(
    context: RunContext, policies: Sequence[Policy], samples: int, temperature: float, champion: str
) -> Measurement:
    """See `Run.measure_ensemble`."""
    context.check_budget()
    require_positive("samples", samples)
    require_all(Policy, policies, "run.measure_ensemble")
    if champion == MAIN:
        raise BadInput('"main" is a single policy', where="measure_ensemble", fix="give the ensemble another name")
    claim_name(context, champion, "an ensemble")
    if not policies:
        raise BadInput("an ensemble needs a policy", where="measure_ensemble", fix="pass at least one")
    members = tuple(policies)
    found = _vote(context, members, samples, temperature)
    how = {"samples": samples, "temperature": float(temperature)}
    under = content_hash("vote", *how.values())
    note(context, champion, {"policy": found.policy, "measurement": found, "under": under})
    reigning = context.ensembles.get(champion, (context.base,) * len(members))
    if [one.version for one in members] != [one.version for one in reigning]:
        held = _vote(context, reigning, samples, temperature)
        more = {"members": [one.version for one in members]}
        decision = decide(context, champion, held, found, {} if how == GREEDY else how, more)
        note(context, champion, {"decision": decision})
        if decision.promoted:
            context.ensembles[champion] = tuple(published(context, one) for one in members)
    return replace(found, scores={}) if context.method else found


def _vote(context: RunContext, members: tuple[Policy, ...], samples: int, temperature: float) -> Measurement:
    """The accuracy on dev of the vote of all members; one that is several times among them samples as often."""
    task = context.task
    if not task.dev:
        raise BadInput("the task has no dev problems to measure on", where=task.name, fix="ask for some (--dev 128)")
    how = override(context.settings.sampling, {"temperature": temperature})
    solved: list[SolverResult] = []
    versions = [one.version for one in members]
    for policy in {one.version: one for one in members}.values():
        numbers = range(samples * versions.count(policy.version))
        solved += sample_fixed(context, policy, task.dev, "dev", how, numbers, solver=None)
    groups = by_problem(one.attempt for one in solved)
    name = f"ensemble-{content_hash(sorted(versions))}"
    return measure_majority(name, "dev", groups, sum(one.tokens for one in solved))
