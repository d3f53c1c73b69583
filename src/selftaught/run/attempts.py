"""Attempts at problems, as methods draw them and as measurements repeat them."""

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
from selftaught.records import Attempt, Problem, content_hash
from selftaught.run.config import drop_config
from selftaught.run.context import RunContext
from selftaught.run.sampling import SolveBatch, SolverResult, Subject
from selftaught.run.settings import override, require_positive


def sample_new(
    context: RunContext, policy: Policy, subjects: Sequence[Subject], solver: Any, n: int, sampling: Mapping[str, Any]
) -> list[SolverResult]:
    """New samples; see `Run.attempt`."""
    context.check_budget()
    walls = context.access
    walls.check_not_test(context.method, subjects)
    how = override(context.settings.sampling, sampling)
    work = _named(context, policy, subjects, identify(solver).label, n, how)
    judged = context.uses_verdicts and walls.verdicts_allowed(context.method, subjects)
    may_see = judged and not any(map(walls.is_held_out, subjects))
    solved = solve(
        context,
        SolveBatch(context.progress_label("sampling"), policy, solver, how, judged, work, verdicts_visible=may_see),
    )
    tried = [one.attempt for one in solved]
    _count_cut(context, tried)
    if solver is None and tried:
        _note_sampling(context, tried, n, how, judged)
    return solved


def sample_fixed(
    context: RunContext, policy: Policy, problems: Sequence[Problem], split: str, how: Sampling, numbers: range, *,
    solver: Any, judged: bool = True, turns: bool = False,
) -> list[SolverResult]:  # fmt: skip
    """The same samples whenever asked for; see `Run.solve`.

    Args:
        numbers: of the samples of each problem.
    """
    require_positive("samples", len(numbers))
    who = identify(solver).label
    work: list[tuple[Subject, str]] = [(p, f"measure/{who}/{i}") for p in problems for i in numbers]
    return solve(context, SolveBatch(f"measuring on {split}", policy, solver, how, judged, work, turns))


def solve(context: RunContext, batch: SolveBatch) -> list[SolverResult]:
    """Solve a batch whose solver gets problems as it may see them.

    Raises:
        BadInput: too many verifications fail, or the solver changes itself.
    """
    before = public_state(batch.solver)
    batch.work = [(context.access.visible_to(context.method, one, batch.solver), name) for one, name in batch.work]
    try:
        solved = context.sampler.solve(batch)
    except BadInput as error:
        if error.where == "verifier":  # once it is mended, the samples are used
            drop_config(context.journal, "verifier")
        raise
    finally:
        context.record_time()
    check_unchanged(batch.solver, before)
    return solved


def nll(context: RunContext, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
    """See `Run.surprise`."""
    context.check_budget()
    context.access.check_not_test(context.method, attempts)
    return context.sampler.nll(policy, attempts)


def _named(
    context: RunContext, policy: Policy, subjects: Sequence[Subject], who: str, n: int, how: Sampling
) -> list[tuple[Subject, str]]:
    """`n` solvings of each subject, each under the next name of its kind."""
    require_positive("n", n)
    work: list[tuple[Subject, str]] = []
    for subject in subjects:
        start = content_hash(policy.version, subject.id, who, how)
        for _ in range(n):
            work.append((subject, f"attempt/{who}/{context.attempt_counts[start]}"))
            context.attempt_counts[start] += 1
    return work


def _count_cut(context: RunContext, tried: Sequence[Attempt]) -> None:
    """Count the answers that were cut off at `max_tokens`."""
    some = [attempt.finish_reason == "length" for attempt in tried if attempt.role != "judge"]
    for counts in (context.round_facts.setdefault("truncation", Counter()), context.truncation_counts):
        counts.update(truncated=sum(some), answers=len(some))


def _note_sampling(context: RunContext, tried: Sequence[Attempt], n: int, how: Sampling, judged: bool) -> None:
    groups = by_problem(tried)
    if judged and n > 1:
        context.round_facts["pass_at"] = pass_curve(groups)
    if not context.access.held_out.intersection(groups):
        context.monitor.sampled(content_hash(how, n, sorted(groups)), groups)
