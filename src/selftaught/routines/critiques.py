"""Collect critiques with the revisions they lead to, keep those that help, and turn them into training records."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import TYPE_CHECKING

from selftaught.curate.keep import finished, keep_right
from selftaught.models import Policy
from selftaught.records import Attempt, Demo
from selftaught.refine.turns import criticize, error_step, finds_no_error, revise

if TYPE_CHECKING:
    from selftaught.run.run import Run


@dataclass(frozen=True, slots=True)
class CritiqueExample:
    """A draft, a critique of it, and the revisions that followed the critique.

    Attributes:
        draft: the judged response.
        critique: the critique.
        revisions: judged revisions; empty where the critique found no mistakes.
    """

    draft: Attempt
    critique: Attempt
    revisions: tuple[Attempt, ...] = ()

    @property
    def fix_rate(self) -> float:
        """Share of the revisions that are right, 0..1."""
        return sum(attempt.right for attempt in self.revisions) / max(1, len(self.revisions))


def deduplicate(attempts: Iterable[Attempt]) -> list[Attempt]:
    """Keep the first attempt of each text at each problem, in order; drop failed requests."""
    found: dict[tuple[str, str], Attempt] = {}
    for attempt in (a for a in attempts if not a.failed):
        found.setdefault((attempt.problem.id, attempt.text), attempt)
    return list(found.values())


def collect_critiques(
    run: Run,
    critic: Policy,
    reviser: Policy,
    drafts: Sequence[Attempt],
    *,
    critiques: int = 1,
    rollouts_per_critique: int = 1,
    temperature: float = 0.7,
) -> list[CritiqueExample]:
    """Critique each draft, and revise it by each critique that found mistakes; drop failed requests.

    Args:
        critic: writes the critiques.
        reviser: writes the revisions.
        drafts: judged attempts.
        critiques: critiques per draft.
        rollouts_per_critique: revisions per critique; the share that is right estimates the critique's value
            (Monte Carlo).
        temperature: of critiques and revisions.
    """
    drafts = [draft for draft in drafts if not draft.failed]
    found = _answered(run.attempt(critic, drafts, solver=criticize, samples=critiques, temperature=temperature))
    flawed = [critique for critique in found if not finds_no_error(critique)]
    rollouts = run.attempt(reviser, flawed, solver=revise, samples=rollouts_per_critique, temperature=temperature)
    return with_revisions(drafts, found, rollouts)


def with_revisions(
    drafts: Iterable[Attempt], critiques: Iterable[Attempt], revisions: Iterable[Attempt]
) -> list[CritiqueExample]:
    """Each critique with its draft and the revisions that it led to, except failed requests."""
    by_draft = {draft.id: draft for draft in drafts}
    revised: dict[str | None, list[Attempt]] = {}
    for attempt in _answered(revisions):
        revised.setdefault(attempt.parent, []).append(attempt)
    return [CritiqueExample(by_draft[one.parent or ""], one, tuple(revised.get(one.id, ()))) for one in critiques]


def _answered(attempts: Iterable[Attempt]) -> list[Attempt]:
    return [attempt for attempt in attempts if not attempt.failed]


def filter_verified(
    examples: Sequence[CritiqueExample], *, min_success_rate: float = 0.5, error_steps: Mapping[str, int] | None = None
) -> list[CritiqueExample]:
    """Keep critiques that fix a wrong draft, and critiques that find no mistakes in a right one.

    The second kind is cut to the size of the first (at least one), so that a critic does not learn to approve.

    Args:
        min_success_rate: share of the revisions that must be right.
        error_steps: draft id -> its first wrong step, from 1, where known: the critique must point at it.
    """
    known = error_steps or {}
    untruncated = [one for one in examples if finished([one.critique])]
    fixing = [
        one
        for one in untruncated
        if one.revisions
        and not one.draft.right
        and one.fix_rate >= min_success_rate
        and known.get(one.draft.id, error_step(one.critique)) == error_step(one.critique)
    ]
    approving = [one for one in untruncated if one.draft.right and finds_no_error(one.critique)]
    return [*fixing, *approving[: max(1, len(fixing))]]


def critique_demos(examples: Iterable[CritiqueExample]) -> list[Demo]:
    """Critiques to imitate: prompt and response -> critique."""
    critiques = [(one.critique, one.draft) for one in examples if finished([one.critique])]
    return [Demo(one.prompt, one.text, attempts=(one.id, draft.id)) for one, draft in critiques]


def right_revisions(examples: Iterable[CritiqueExample]) -> list[Attempt]:
    """The first right and untruncated revision of each example that has one."""
    found = (next((a for a in one.revisions if a.right and not a.truncated), None) for one in examples)
    return [attempt for attempt in found if attempt]


def revision_demos(examples: Iterable[CritiqueExample]) -> list[Demo]:
    """Right revisions to imitate, one per example: prompt, response and critique -> revised response."""
    return [
        Demo(a.prompt, a.text, attempts=(a.id, one.critique.id, one.draft.id))
        for one in examples
        for a in right_revisions([one])
    ]


def answer_demos(examples: Iterable[CritiqueExample]) -> list[Demo]:
    """Right answers to imitate, one per example: the revision, or the draft in which the critique finds no mistakes."""
    found: list[Attempt] = []
    for one in examples:
        found += right_revisions([one]) or ([one.draft] if one.draft.right and finds_no_error(one.critique) else [])
    return keep_right(found)


def purity(
    before: Sequence[Attempt], after: Sequence[Attempt], kept: Sequence[Attempt], greedy: float
) -> dict[str, float]:
    """Shares of right attempts before refinement, after it, and after a filter, for `run.log_metrics`.

    Imitating what is kept can only help where its share of right answers exceeds the policy's greedy accuracy.

    Args:
        greedy: accuracy of the policy's greedy answers, 0..1.

    Returns:
        `answers`, `refined`, `kept`, `greedy`, `gained by filter` (kept - refined), `above greedy` (kept - greedy), and
        `of` (number kept).
    """
    shares = [fmean(a.right for a in some) if some else 0.0 for some in (before, after, kept)]
    found = dict(zip(("answers", "refined", "kept"), shares, strict=True)) | {"greedy": greedy}
    return found | {"gained by filter": shares[2] - shares[1], "above greedy": shares[2] - greedy, "of": len(kept)}
