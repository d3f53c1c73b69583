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
from selftaught.run.champions import MAIN, check_name, decide, note
from selftaught.run.context import RunContext
from selftaught.run.settings import override, require_positive
from selftaught.run.solver import SolverResult


def measure_ensemble(
    context: RunContext, policies: Sequence[Policy], samples: int, temperature: float, champion: str
) -> Measurement:
    """See `Run.measure_ensemble`."""
    context.check_budget()
    require_positive("samples", samples)
    if check_name(champion) == MAIN:
        raise BadInput('"main" is a single policy', where="measure_ensemble", fix="give the ensemble another name")
    if not policies:
        raise BadInput("an ensemble needs a policy", where="measure_ensemble", fix="pass at least one")
    members = tuple(policies)
    found = _vote(context, members, samples, temperature)
    under = content_hash("vote", samples, float(temperature))
    note(context, champion, {"policy": found.policy, "measurement": found, "under": under})
    reigning = context.ensembles.get(champion, (context.base,) * len(members))
    if members != reigning:
        held = _vote(context, reigning, samples, temperature)
        more = {"members": [one.version for one in members]}
        decision = decide(context, champion, held, found, more)
        note(context, champion, {"decision": decision})
        if decision.promoted:
            context.ensembles[champion] = members
    return replace(found, scores={}) if context.method else found


def _vote(context: RunContext, members: tuple[Policy, ...], samples: int, temperature: float) -> Measurement:
    """The accuracy on dev of the vote of all members; one that is several times among them samples as often."""
    task = context.task
    if not task.dev:
        raise BadInput("the task has no dev problems to measure on", where=task.name, fix="ask for some (--dev 128)")
    how = override(context.settings.sampling, {"temperature": temperature})
    solved: list[SolverResult] = []
    for policy in dict.fromkeys(members):
        numbers = range(samples * members.count(policy))
        solved += sample_fixed(context, policy, task.dev, "dev", how, numbers, solver=None)
    groups = by_problem(one.attempt for one in solved)
    versions = sorted(one.version for one in members)
    name = f"ensemble-{content_hash(versions)}"
    return measure_majority(name, "dev", groups, sum(one.tokens for one in solved))
