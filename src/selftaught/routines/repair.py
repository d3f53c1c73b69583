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
from selftaught.refine.turns import criticize, finds_no_error, revise
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

    Args:
        tried: judged attempts.
        max_repairs: critiques, each with a revision, at a problem all of whose attempts failed; at other problems,
            this times the share that failed.
        temperature: of critiques and revisions.
    """
    chosen: list[Attempt] = []
    for group in by_problem(tried).values():
        failed = [a for a in group if not (a.right or a.failed) and a.text]
        chosen += islice(cycle(deduplicate(failed)), math.ceil(max_repairs * len(failed) / len(group)))
    critiques = run.attempt(critic, chosen, solver=criticize, temperature=temperature)
    flawed = [one for one in critiques if not (one.failed or finds_no_error(one))]
    return run.attempt(actor, flawed, solver=revise, temperature=temperature)
