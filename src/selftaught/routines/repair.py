"""A critic at work in training: what it learns from, and the failures that it repairs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from selftaught.curate.keep import by_problem
from selftaught.models import Policy
from selftaught.records import Attempt, Verdict
from selftaught.refine.flaws import derail, places
from selftaught.refine.turns import criticise, revise, satisfied
from selftaught.routines.critiques import Lesson, distinct, teach, verified

if TYPE_CHECKING:
    from selftaught.run.run import Run
    from selftaught.tasks import Task

HOT = 1.2  # temperature at which a right solution is derailed


def critic_lessons(
    run: Run, base: Policy, annotator: Policy, task: Task, *, drafts: int = 4, notes: int = 1, checks: int = 4,
    least: float = 0.5, temperature: float = 0.7,
) -> list[Lesson]:  # fmt: skip
    """Critiques of flawed solutions that lead to right revisions, and of as many sound ones that find no mistakes.

    Solutions to the train problems are flawed where they are wrong, or derailed from right ones. Source: Xi et al.,
    2411.16579, section 3.

    Args:
        base: writes the solutions, and revises them.
        annotator: writes the critiques.
        drafts: solutions per problem.
        notes: critiques per solution.
        checks: revisions per critique.
        least: share of them that must be right.
        temperature: of solutions, critiques and revisions.
    """
    tried = distinct(run.attempt(base, task.train, samples=drafts, temperature=temperature))
    sound = [a for a in tried if a.right]
    derailed = run.attempt(base, sound, solver=derail, temperature=HOT)
    flawed = [a for a in distinct([*tried, *derailed]) if a.verdict is Verdict.WRONG]
    known = places(task, flawed, sound)
    drafts_ = [*flawed, *sound[: len(flawed)]]
    lessons = teach(run, annotator, base, drafts_, notes=notes, checks=checks, temperature=temperature)
    return verified(lessons, least=least, places=known)


def repair(
    run: Run, critic: Policy, actor: Policy, tried: Sequence[Attempt], most: int, temperature: float
) -> list[Attempt]:
    """Failures revised by the critic's comments, the more of them the harder a problem is.

    Args:
        tried: judged attempts.
        most: critiques, each with a revision, at a problem all of whose attempts failed; of others, that times the
            share that failed.
        temperature: of critiques and revisions.
    """
    again: list[Attempt] = []
    for group in by_problem(tried).values():
        failed = [a for a in group if not (a.right or a.failed) and a.text]
        again += islice(cycle(distinct(failed)), math.ceil(most * len(failed) / len(group)))
    notes = run.attempt(critic, again, solver=criticise, temperature=temperature)
    open_ = [note for note in notes if not (note.failed or satisfied(note))]
    return run.attempt(actor, open_, solver=revise, temperature=temperature)
