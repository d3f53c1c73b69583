"""Attempts at problems, as methods draw them and as measurements repeat them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.curate import by_problem
from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import check_unchanged, identify, memory
from selftaught.measure import pass_curve
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, content_hash
from selftaught.run.config import forget
from selftaught.run.context import RunContext
from selftaught.run.sampling import Batch, Solved, Subject
from selftaught.run.settings import at_least_one, changed


def draw(
    context: RunContext, policy: Policy, subjects: Sequence[Subject], solver: Any, n: int, sampling: Mapping[str, Any]
) -> list[Solved]:
    """New samples; see `Run.attempt`."""
    context.check_budget()
    walls = context.walls
    walls.check_open(context.method, subjects)
    how = changed(context.settings.sampling, sampling)
    work = _named(context, policy, subjects, identify(solver).label, n, how)
    judged = context.by_verdict and walls.show(context.method, subjects)
    may_see = judged and not any(map(walls.hold_out, subjects))
    solved = solve(context, Batch(context.doing("sampling"), policy, solver, how, judged, work, shown=may_see))
    tried = [one.attempt for one in solved]
    _count_cut(context, tried)
    if solver is None and tried:
        _note_sampling(context, tried, n, how, judged)
    return solved


def repeat(
    context: RunContext, policy: Policy, problems: Sequence[Problem], split: str, how: Sampling, numbers: range, *,
    solver: Any, judged: bool = True, turns: bool = False,
) -> list[Solved]:  # fmt: skip
    """The same samples whenever asked for; see `Run.solve`.

    Args:
        numbers: of the samples of each problem.
    """
    at_least_one("samples", len(numbers))
    who = identify(solver).label
    work: list[tuple[Subject, str]] = [(p, f"measure/{who}/{i}") for p in problems for i in numbers]
    return solve(context, Batch(f"measuring on {split}", policy, solver, how, judged, work, turns))


def solve(context: RunContext, batch: Batch) -> list[Solved]:
    """Solve a batch whose solver gets problems as it may see them.

    Raises:
        BadInput: too many verifications fail, or the solver changes itself.
    """
    before = memory(batch.solver)
    batch.work = [(context.walls.handed(context.method, one, batch.solver), name) for one, name in batch.work]
    try:
        solved = context.solving.solve(batch)
    except BadInput as error:
        if error.where == "verifier":  # once it is mended, the samples are used
            forget(context.journal, "verifier")
        raise
    finally:
        context.clock()
    check_unchanged(batch.solver, before)
    return solved


def surprise(context: RunContext, policy: Policy, attempts: Sequence[Attempt]) -> list[float]:
    """See `Run.surprise`."""
    context.check_budget()
    context.walls.check_open(context.method, attempts)
    return context.solving.surprise(policy, attempts)


def _named(
    context: RunContext, policy: Policy, subjects: Sequence[Subject], who: str, n: int, how: Sampling
) -> list[tuple[Subject, str]]:
    """`n` solvings of each subject, each under the next name of its kind."""
    at_least_one("n", n)
    work: list[tuple[Subject, str]] = []
    for subject in subjects:
        start = content_hash(policy.version, subject.id, who, how)
        for _ in range(n):
            work.append((subject, f"attempt/{who}/{context.started[start]}"))
            context.started[start] += 1
    return work


def _count_cut(context: RunContext, tried: Sequence[Attempt]) -> None:
    """Count the answers that were cut off at `max_tokens`."""
    some = [attempt.finish_reason == "length" for attempt in tried if attempt.role != "judge"]
    for counts in (context.facts.setdefault("cut", Counter()), context.cut):
        counts.update(truncated=sum(some), answers=len(some))


def _note_sampling(context: RunContext, tried: Sequence[Attempt], n: int, how: Sampling, judged: bool) -> None:
    groups = by_problem(tried)
    if judged and n > 1:
        context.facts["pass_at"] = pass_curve(groups)
    if not context.walls.held_out.intersection(groups):
        context.watch.observe_samples(content_hash(how, n, sorted(groups)), groups)
