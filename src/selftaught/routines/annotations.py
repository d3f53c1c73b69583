"""Expert data: who annotates, which train problems, and drafts with critiques and revisions by the annotator."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from selftaught.curate.keep import keep_right
from selftaught.models import Policy
from selftaught.models.served import resolve_teacher
from selftaught.records import Attempt, Demo, Problem
from selftaught.refine.turns import error_step, finds_no_error, revise
from selftaught.routines.critiques import (
    CritiqueExample,
    deduplicate,
    filter_verified,
    revision_demos,
    with_revisions,
)

if TYPE_CHECKING:
    from selftaught.run.run import Run
    from selftaught.tasks import Task


def choose_teacher(run: Run, base: Policy, task: Task, teacher: str) -> Policy | None:
    """The policy that annotates; None for the task's own annotator.

    Args:
        base: annotates where no teacher is named and the task has no annotator.
        teacher: what `models.resolve` takes, or an endpoint's http address; empty for none.

    Raises:
        BadInput: the teacher cannot be resolved.
    """
    if teacher:
        return resolve_teacher(teacher, run.console.print)
    return None if task.annotator else base


def hold_out(problems: Sequence[Problem], annotated: int, probe: int) -> tuple[list[Problem], list[Problem]]:
    """The problems that are annotated, from the first, and others to measure what was learned, from the last.

    Args:
        annotated: number of the first; 0 for all that are left.
        probe: number of the others, at most a quarter of all.
    """
    held_out = min(probe, len(problems) // 4)
    known = list(problems[: len(problems) - held_out])
    return known[: annotated or None], list(problems[len(problems) - held_out :])


def split_train(
    problems: Sequence[Problem], annotated: int, rounds: int, per_round: int
) -> tuple[list[Problem], list[list[Problem]]]:
    """The problems that are annotated, and for each round others, which no other round has.

    Args:
        annotated: number of the first, at most half of all.
        rounds: number of the parts of the rest.
        per_round: problems of a part, at most. Of fewer problems than rounds, each round gets all.
    """
    known = min(annotated, (len(problems) + 1) // 2)
    rest = list(problems[known:])
    if len(rest) < rounds:
        return list(problems[:known]), [rest or list(problems)] * rounds
    size = min(per_round, len(rest) // rounds)
    return list(problems[:known]), [rest[i * size : (i + 1) * size] for i in range(rounds)]


def annotate_drafts(
    run: Run, drafts: Sequence[Attempt], teacher: Policy | None, *, reviser: Policy | None = None,
    rollouts_per_critique: int = 0, temperature: float = 0.7,
) -> list[CritiqueExample]:  # fmt: skip
    """Have a teacher, or the task's annotator, critique drafts and revise those in which it finds mistakes.

    Where the teacher is a model, another policy may revise too, so that the share of its right revisions tells how
    useful a critique is (the Monte Carlo check of 2411.16579, section 3).

    Args:
        drafts: judged attempts at train problems.
        teacher: see `choose_teacher`.
        reviser: writes further revisions of a teacher's critiques.
        rollouts_per_critique: how many.
        temperature: of the teacher and the reviser.
    """
    drafts = deduplicate(drafts)
    how = {"temperature": temperature} if teacher else {}
    found = run.annotate(drafts, "critique", teacher=teacher, **how)
    critiques = [one for one in found if not one.failed]
    flawed = [one for one in critiques if not finds_no_error(one)]
    checked = bool(teacher and reviser and rollouts_per_critique)
    revisions = [] if checked and teacher == reviser else run.annotate(flawed, "revise", teacher=teacher, **how)
    if checked and reviser:
        rollouts = {"samples": rollouts_per_critique, "temperature": temperature}
        revisions = revisions + run.attempt(reviser, flawed, solver=revise, **rollouts)
    return with_revisions(drafts, critiques, revisions)


def known_error_steps(run: Run, task: Task, drafts: Sequence[Attempt]) -> dict[str, int]:
    """Draft id -> its first wrong step, from 1, as the task's annotator knows it; of others nothing is known."""
    if not task.annotator:
        return {}
    wrong = [one for one in drafts if not (one.right or one.failed)]
    found = [(a.parent or "", error_step(a)) for a in run.annotate(wrong, "critique") if not a.failed]
    return {draft: step for draft, step in found if step}


@dataclass(frozen=True, slots=True)
class ExpertData:
    """What an annotator wrote about some train problems, and drafts of others.

    Attributes:
        lessons: the starting model's drafts with critiques and revisions.
        solutions: judged solutions of the annotated problems.
        probes: judged drafts of problems that were not annotated.
        error_steps: id of a probe -> its first wrong step, where it is known.
    """

    lessons: Sequence[CritiqueExample]
    solutions: Sequence[Attempt]
    probes: Sequence[Attempt]
    error_steps: Mapping[str, int]

    def demos(self, *, revisions: bool = True) -> list[Demo]:
        """Right solutions under the question, and right revisions under question, draft and critique."""
        return keep_right(self.solutions) + (revision_demos(self.lessons) if revisions else [])


def collect_expert_data(
    run: Run, base: Policy, task: Task, teacher: str, *, annotated: int = 0, probe: int = 64, drafts: int = 4,
    rollouts_per_critique: int = 4, min_success_rate: float = 0.5, temperature: float = 0.7, solve: bool = True,
) -> ExpertData:  # fmt: skip
    """Have an annotator critique and revise the starting model's drafts, and solve the problems.

    Args:
        base: writes the drafts, and revises by the critiques of a teacher that is a model.
        teacher: see `choose_teacher`.
        annotated: see `hold_out`, as for `probe`. Two drafts are drawn of each problem that is held out.
        drafts: per annotated problem.
        rollouts_per_critique: see `annotate_drafts`.
        min_success_rate: see `filter_verified`.
        temperature: of drafts and revisions.
        solve: whether solutions are written too.
    """
    annotator = choose_teacher(run, base, task, teacher)
    known, held_out = hold_out(task.train, annotated, probe)
    drafted = run.attempt(base, known, samples=drafts, temperature=temperature)
    checked: dict[str, Any] = {"reviser": base, "rollouts_per_critique": rollouts_per_critique}
    found = annotate_drafts(run, drafted, annotator, **checked, temperature=temperature)
    lessons = filter_verified(found, min_success_rate=min_success_rate)
    solutions = run.annotate(known, "solve", teacher=annotator) if solve else []
    probes = run.attempt(base, held_out, samples=2, temperature=temperature)
    return ExpertData(lessons, solutions, probes, known_error_steps(run, task, probes))
