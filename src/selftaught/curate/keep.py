"""Keeping attempts by their verdict."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from selftaught.records import Attempt, Demo, Problem


def by_problem(attempts: Iterable[Attempt]) -> dict[str, list[Attempt]]:
    """Attempts grouped by problem id, both in order of first appearance."""
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.problem.id, []).append(attempt)
    return groups


def keep_right(attempts: Iterable[Attempt], *, per_problem: int | None = None) -> list[Demo]:
    """The attempts judged RIGHT as demonstrations, at most `per_problem` of each problem, the first ones.

    The prompt to learn is the problem's own, so that hints given when sampling are not learnt.
    """
    return _demos(attempts, lambda attempt: attempt.right, per_problem)


def keep(attempts: Iterable[Attempt], *, per_problem: int | None = None) -> list[Demo]:
    """As `keep_right`, whatever the verdict: the control that shows what a filter is worth."""
    return _demos(attempts, lambda _: True, per_problem)


def _demos(attempts: Iterable[Attempt], wanted: Callable[[Attempt], bool], per_problem: int | None) -> list[Demo]:
    return [
        Demo(attempt.problem.prompt, attempt.text, attempts=lineage(attempt))
        for group in by_problem(attempts).values()
        for attempt in [a for a in group if wanted(a)][:per_problem]
    ]


def unsolved(attempts: Iterable[Attempt]) -> list[Problem]:
    """The problems of which no attempt was judged RIGHT."""
    return [group[0].problem for group in by_problem(attempts).values() if not any(a.right for a in group)]


def lineage(attempt: Attempt) -> tuple[str, ...]:
    """The attempt and the one it builds on."""
    return (attempt.id, attempt.parent) if attempt.parent else (attempt.id,)
