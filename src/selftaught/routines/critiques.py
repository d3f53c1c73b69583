"""Lessons in criticising and revising: drafts with a critique of each, kept where what came of it proves it right."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.curate.keep import whole
from selftaught.models import Policy
from selftaught.records import Attempt, Demo
from selftaught.refine.turns import criticise, located, revise, satisfied

if TYPE_CHECKING:
    from selftaught.run.run import Run


@dataclass(frozen=True, slots=True)
class Lesson:
    """A draft, a critique of it, and what revising by that critique came to.

    Attributes:
        draft: the response.
        note: the critique.
        revised: revisions that went by it, judged; none where it found no mistakes.
    """

    draft: Attempt
    note: Attempt
    revised: tuple[Attempt, ...] = ()

    @property
    def mends(self) -> float:
        """Share of the revisions that are right."""
        return sum(attempt.right for attempt in self.revised) / max(1, len(self.revised))


def distinct(attempts: Iterable[Attempt]) -> list[Attempt]:
    """The first attempt of each text at a problem, in order; failed requests have none."""
    found: dict[tuple[str, str], Attempt] = {}
    for attempt in (a for a in attempts if not a.failed):
        found.setdefault((attempt.problem.id, attempt.text), attempt)
    return list(found.values())


def teach(
    run: Run, critic: Policy, reviser: Policy, drafts: Sequence[Attempt], *, notes: int = 1, checks: int = 1,
    temperature: float = 0.7,
) -> list[Lesson]:  # fmt: skip
    """Have drafts criticised and revised; a failed request is neither draft, critique nor revision.

    Args:
        critic: writes the critiques.
        reviser: goes by them.
        drafts: judged attempts.
        notes: critiques per draft.
        checks: revisions per critique: how often it leads to a right one is what it is worth (Monte Carlo).
        temperature: of critiques and revisions.
    """
    drafts = [draft for draft in drafts if not draft.failed]
    said = _done(run.attempt(critic, drafts, solver=criticise, samples=notes, temperature=temperature))
    open_ = [note for note in said if not satisfied(note)]
    revised: dict[str | None, list[Attempt]] = {}
    for attempt in _done(run.attempt(reviser, open_, solver=revise, samples=checks, temperature=temperature)):
        revised.setdefault(attempt.parent, []).append(attempt)
    by_id = {draft.id: draft for draft in drafts}
    return [Lesson(by_id[note.parent or ""], note, tuple(revised.get(note.id, ()))) for note in said]


def _done(attempts: Iterable[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if not attempt.failed]


def verified(lessons: Sequence[Lesson], *, least: float = 0.5, places: Mapping[str, int] | None = None) -> list[Lesson]:
    """The lessons whose critique is borne out: it mends a wrong draft, or finds no mistakes in a right one.

    Of the latter no more are kept than of the former (at least one), or a critic would learn to be content.

    Args:
        least: share of the revisions that must be right.
        places: draft id -> its first wrong step, from 1, where that is known: the critique must point at it.
    """
    places = places or {}
    mending = [
        one
        for one in lessons
        if one.revised and not one.draft.right and one.mends >= least and whole([one.note])
        and places.get(one.draft.id, located(one.note)) == located(one.note)
    ]  # fmt: skip
    content = [one for one in lessons if one.draft.right and satisfied(one.note) and whole([one.note])]
    return [*mending, *content[: max(1, len(mending))]]


def critiques(lessons: Iterable[Lesson]) -> list[Demo]:
    """Critiques to imitate: prompt and response -> feedback."""
    kept = [one for one in lessons if whole([one.note])]
    return [Demo(one.note.prompt, one.note.text, attempts=(one.note.id, one.draft.id)) for one in kept]


def right_revisions(lessons: Iterable[Lesson]) -> list[Attempt]:
    """The first right revision of each lesson that came to its own end, where there is one."""
    found = (next((a for a in one.revised if a.right and not a.truncated), None) for one in lessons)
    return [attempt for attempt in found if attempt]


def revisions(lessons: Iterable[Lesson]) -> list[Demo]:
    """Right revisions to imitate, one a lesson: prompt, response and feedback -> refined response."""
    return [
        Demo(a.prompt, a.text, attempts=(a.id, one.note.id, one.draft.id))
        for one in lessons
        for a in right_revisions([one])
    ]
