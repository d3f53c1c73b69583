"""Sampling attempts: new ones for methods, fixed ones for measurements."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.curate import by_problem
from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import check_unchanged, identify, public_state
from selftaught.measure import pass_curve
from selftaught.models import Policy
from selftaught.models.policy import require_lasting
from selftaught.records import Attempt, Problem, content_hash
from selftaught.run.checks import SUBJECTS, require_all
from selftaught.run.config import drop_config
from selftaught.run.context import RunContext
from selftaught.run.environment import ENVIRONMENT_RAISED
from selftaught.run.settings import override, require_positive
from selftaught.run.solver import SolveBatch, Solver, SolverResult, Subject, check_solver


def sample_new(
    context: RunContext, policy: Policy, subjects: Sequence[Subject], solver: Solver | None, samples: int,
    sampling: Mapping[str, Any], top_logprobs: int | None = None,
) -> list[SolverResult]:  # fmt: skip
    """New samples; see `Run.attempt`."""
    context.check_budget()
    access = context.access
    require_all(SUBJECTS, subjects, "run.attempt")
    access.check_not_test(context.method, subjects)
    require_lasting("attempt", policy)
    subjects = context.cut.problems(subjects)
    how = override(context.settings.sampling, sampling)
    work = _new_work(context, policy, subjects, identify(solver).label, samples, how)
    verify = context.uses_verdicts and access.verdicts_allowed(context.method, subjects)
    visible = verify and not any(map(access.is_held_out, subjects))
    label = context.progress_label("sampling")
    batch = SolveBatch(label, policy, solver, how, verify, work, verdicts_visible=visible, top_logprobs=top_logprobs)
    results = solve(context, batch)
    attempts = [one.attempt for one in results]
    _count_truncated(context, attempts)
    if solver is None and attempts:
        _note_sampling(context, attempts, samples, how, verify)
    return results


def sample_fixed(
    context: RunContext, policy: Policy, problems: Sequence[Problem], split: str, how: Sampling, numbers: range, *,
    solver: Solver | None, verify: bool = True, keep_turns: bool = False,
) -> list[SolverResult]:  # fmt: skip
    """The same samples each time; see `Run.solve`.

    Args:
        numbers: of the samples of each problem.
    """
    require_positive("samples", len(numbers))
    require_lasting("measure", policy)
    who = identify(solver).label
    work: list[tuple[Subject, str]] = [(p, f"measure/{who}/{i}") for p in problems for i in numbers]
    return solve(context, SolveBatch(f"measuring on {split}", policy, solver, how, verify, work, keep_turns))


def solve(context: RunContext, batch: SolveBatch) -> list[SolverResult]:
    """Run a batch whose solver gets problems as it is allowed to see them.

    Raises:
        BadInput: too many verifications fail, or the solver changes itself.
    """
    check_solver(batch.solver)
    before = public_state(batch.solver)
    batch.work = [(context.access.visible_to(context.method, one, batch.solver), name) for one, name in batch.work]
    try:
        results = context.sampler.solve(batch)
    except BadInput as error:
        if error.where in ("verifier", "shown"):  # once it is repaired, the samples are used
            drop_config(context.journal, error.where)
        if ENVIRONMENT_RAISED in error.what or error.where.startswith("environment "):
            drop_config(context.journal, "environment", "environment.source")
        raise
    finally:
        context.record_time()
    check_unchanged(batch.solver, before)
    return results


def nll(context: RunContext, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
    """See `Run.nll`."""
    context.check_budget()
    require_all(Attempt, attempts, "run.nll")
    context.access.check_not_test(context.method, attempts)
    require_lasting("nll", policy)
    return context.sampler.nll(policy, attempts)


def _new_work(
    context: RunContext, policy: Policy, subjects: Sequence[Subject], who: str, samples: int, how: Sampling
) -> list[tuple[Subject, str]]:
    """`samples` solver calls for each subject, each under the next number of its kind."""
    require_positive("samples", samples)
    work: list[tuple[Subject, str]] = []
    for subject in subjects:
        start = content_hash(policy.version, subject.id, who, how)
        for _ in range(samples):
            work.append((subject, f"attempt/{who}/{context.attempt_counts[start]}"))
            context.attempt_counts[start] += 1
    return work


def _count_truncated(context: RunContext, attempts: Sequence[Attempt]) -> None:
    """Count the answers that were cut off at `max_tokens`."""
    cut_off = [attempt.finish_reason == "length" for attempt in attempts if attempt.role != "judge"]
    for counts in (context.round_facts.setdefault("truncation", Counter()), context.truncation_counts):
        counts.update(truncated=sum(cut_off), answers=len(cut_off))


def _note_sampling(
    context: RunContext, attempts: Sequence[Attempt], samples: int, how: Sampling, verified: bool
) -> None:
    groups = by_problem(attempts)
    if verified and samples > 1:
        context.round_facts["pass_at"] = pass_curve(groups)
    if not context.access.held_out.intersection(groups):
        context.monitor.observe_samples(content_hash(how, samples, sorted(groups)), groups)
