"""Annotations of train problems: critiques, revisions and solutions by a teacher, or by the task's own annotator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, get_args

from selftaught.errors import BadInput, suggest
from selftaught.models import Policy
from selftaught.models.policy import ANNOTATOR
from selftaught.models.served import resolve_teacher
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.run.attempts import sample_new
from selftaught.run.checks import SUBJECTS, require_all
from selftaught.run.context import RunContext
from selftaught.run.solver import Solver, Subject, problem_of
from selftaught.run.teachers import admit

AnnotationRole = Literal["critique", "revise", "solve"]
"""What an annotation is: a critique of a draft, a revision by a critique, or a solution of a problem."""


def annotate(
    context: RunContext, subjects: Sequence[Subject], role: AnnotationRole, teacher: str | Policy | None,
    sampling: Mapping[str, Any],
) -> list[Attempt]:  # fmt: skip
    """See `Run.annotate`."""
    require_all(SUBJECTS, subjects, "run.annotate")
    _check_access(context, subjects)
    policy = admit(context, resolve_teacher(teacher, context.console.print)) if teacher else exact_policy(context)
    return [one.attempt for one in sample_new(context, policy, subjects, _solver(role), 1, sampling)]


def exact_policy(context: RunContext) -> Policy:
    """The name under which the task's annotator writes.

    Raises:
        BadInput: the task has none.
    """
    annotator = context.task.annotator
    if annotator is None:
        fix = "name a teacher (--teacher MODEL), or give the task an annotator (Task(annotator=...))"
        raise BadInput("the task has no annotator", where=context.task.name, fix=fix)
    return Policy(f"{ANNOTATOR}{annotator.version}", Path("annotator"), annotator=True)


def _check_access(context: RunContext, subjects: Sequence[Subject]) -> None:
    """Refuse methods that do not declare a teacher, and problems that are not of the train split.

    Raises:
        BadInput: either.
    """
    method, access = context.method, context.access
    where = method.id if method else "run.annotate"
    if method and "teacher" not in method.needs:
        fix = 'declare needs=("teacher",)'
        raise BadInput("it asks for annotations without declaring that need", where=where, fix=fix)
    if not all(access.is_train(problem_of(one).prompt) for one in subjects):
        raise BadInput("it asks for annotations of other than train problems", where=where, fix="use task.train")


def _solver(role: AnnotationRole) -> Solver:
    from selftaught.refine.turns import criticize, revise

    known: dict[str, Solver] = {"critique": criticize, "revise": revise, "solve": solve_with_steps}
    if role not in known:
        raise BadInput(f"unknown {role!r}", where="role", fix=suggest(str(role), get_args(AnnotationRole)))
    return known[role]


async def solve_with_steps(ask: Ask, problem: Problem) -> Attempt:
    """One solution of a problem."""
    return await ask(problem.prompt)
