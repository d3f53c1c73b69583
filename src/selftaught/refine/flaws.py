"""Flawed solutions whose first mistake is known, and talk about mistakes as a single text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from selftaught.records import Attempt, Demo, Verdict
from selftaught.refine.turns import step_in
from selftaught.run.ask import Ask

if TYPE_CHECKING:
    from selftaught.tasks import Task


async def derail(ask: Ask, attempt: Attempt) -> Attempt:
    """A solution that begins as the attempt does and goes on anew; sampled hot, it often goes wrong from there.

    Where it leaves the attempt is drawn from the attempt's id. Its text is the whole of it, its tokens are those added.
    """
    lines = attempt.text.splitlines()
    kept = int(attempt.id, 16) % max(1, len(lines) - 1)  # the last line, the answer, is always new
    begun = "".join(line + "\n" for line in lines[:kept])
    rest = await ask(attempt.problem.prompt, prefix=begun, parent=attempt)
    return replace(rest, text=begun + rest.text)


def places(task: Task, flawed: Iterable[Attempt], sources: Iterable[Attempt]) -> dict[str, int]:
    """Attempt id -> number of its first wrong step, from 1, of those flawed attempts of which it is known.

    Exact where the task has verdicts on steps. Otherwise, of one that was derailed from a right attempt, the first line
    in which the two differ.

    Args:
        sources: attempts that others were derailed from.
    """
    right = {one.id: one.text.splitlines() for one in sources if one.right}
    found: dict[str, int | None] = {}
    for one in flawed:
        steps = task.step_verdicts(one.problem, one.text)
        if steps is not None:
            found[one.id] = next((i for i, step in enumerate(steps, 1) if step is not Verdict.RIGHT), None)
        elif one.parent in right:
            pairs = zip(one.text.splitlines(), right[one.parent], strict=False)
            found[one.id] = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), None)
    return {attempt: place for attempt, place in found.items() if place}


def self_talk(revised: Attempt) -> Demo:
    """Thought up to the mistake, its critique, and the revision as one text, to be said without being asked.

    Source: Xi et al., 2411.16579, section 6 (self-talk).

    Args:
        revised: a revision, as `turns.revise` asks for it: its prompt holds the draft and the critique.
    """
    draft, note = revised.prompt[-4].content.splitlines(), revised.prompt[-2].content
    place = step_in(note)
    thought = draft[:place] if place else draft[:-1]
    ids = (revised.id, revised.parent) if revised.parent else (revised.id,)
    text = "\n".join([*thought, note, revised.text])
    return Demo(revised.problem.prompt, text, attempts=ids, ends=not revised.truncated)
