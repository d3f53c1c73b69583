"""Collect data to train a critic, and use the critic to repair failed attempts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import cycle, islice
from typing import TYPE_CHECKING

from selftaught.curate.keep import by_problem
from selftaught.models import Policy
from selftaught.records import Attempt, Verdict
from selftaught.refine.perturbations import first_error_steps, perturb
from selftaught.refine.turns import criticize, finds_no_error, keeps_steps, revise
from selftaught.routines.critiques import CritiqueExample, collect_critiques, deduplicate, filter_verified

if TYPE_CHECKING:
    from selftaught.run.run import Run
    from selftaught.tasks import Task

PERTURB_TEMPERATURE = 1.2
"""Temperature at which the end of a right solution is sampled again, to make it go wrong."""


def collect_critic_data(
    run: Run,
    base: Policy,
    annotator: Policy,
    task: Task,
    *,
    drafts: int = 4,
    critiques: int = 1,
    rollouts_per_critique: int = 4,
    min_success_rate: float = 0.5,
    temperature: float = 0.7,
) -> list[CritiqueExample]:
    """Critiques of wrong solutions that lead to right revisions, and as many of right ones that find no mistakes.

    Wrong solutions are sampled on the train problems, or made from right ones by sampling their end again at a high
    temperature. Source: Xi et al., 2411.16579, section 3.

    Args:
        base: writes the solutions, and revises them.
        annotator: writes the critiques.
        drafts: solutions per problem.
        critiques: critiques per solution.
        rollouts_per_critique: revisions per critique.
        min_success_rate: share of the revisions that must be right.
        temperature: of solutions, critiques and revisions.
    """
    tried = deduplicate(run.attempt(base, task.train, samples=drafts, temperature=temperature))
    right = [a for a in tried if a.right]
    perturbed = run.attempt(base, right, solver=perturb, temperature=PERTURB_TEMPERATURE)
    wrong = [a for a in deduplicate([*tried, *perturbed]) if a.verdict is Verdict.WRONG]
    error_steps = first_error_steps(task, wrong, right)
    examples = collect_critiques(
        run,
        annotator,
        base,
        [*wrong, *right[: len(wrong)]],
        critiques=critiques,
        rollouts_per_critique=rollouts_per_critique,
        temperature=temperature,
    )
    return filter_verified(examples, min_success_rate=min_success_rate, error_steps=error_steps)


def repair_failures(
    run: Run, critic: Policy, actor: Policy, tried: Sequence[Attempt], max_repairs: int, temperature: float
) -> list[Attempt]:
    """Critique and revise failed attempts, more of them the harder the problem.

    Each distinct failed attempt is critiqued once, greedily, and revised as often as its turn comes, as in the authors'
    code of 2411.16579 (`critic.py`, `inference.py`).

    Args:
        tried: judged attempts.
        max_repairs: revisions at a problem all of whose attempts failed; at other problems, this times the share that
            failed. As many as attempts per problem: each failure is revised once.
        temperature: of revisions.

    Returns:
        The revisions that keep their steps (`refine.keeps_steps`).
    """
    chosen: list[Attempt] = []
    for group in by_problem(tried).values():
        failed = [a for a in group if not (a.right or a.failed) and a.text]
        turns = [*deduplicate(failed), *repeated(failed)]
        chosen += islice(cycle(turns), math.ceil(max_repairs * len(failed) / len(group)))
    distinct = deduplicate(chosen)
    critiques = run.attempt(critic, distinct, solver=criticize, temperature=0.0)
    flawed = {_text(a): c for a, c in zip(distinct, critiques, strict=True) if not (c.failed or finds_no_error(c))}
    subjects = [(one, flawed[_text(one)]) for one in chosen if _text(one) in flawed]
    revised = run.attempt(actor, [critique for _, critique in subjects], solver=revise, temperature=temperature)
    return [one for (draft, _), one in zip(subjects, revised, strict=True) if keeps_steps(draft.text, one.text)]


def repeated(attempts: Sequence[Attempt]) -> list[Attempt]:
    """The attempts whose text an earlier one at the same problem has."""
    first = {id(one) for one in deduplicate(attempts)}
    return [one for one in attempts if id(one) not in first]


def _text(attempt: Attempt) -> tuple[str, str]:
    return attempt.problem.id, attempt.text
