"""Solutions with a known first mistake, and self-talk: a mistake, its critique and the revision as one text."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from selftaught.records import Attempt, Demo, Verdict
from selftaught.refine.turns import first_step_number
from selftaught.run.ask import Ask

if TYPE_CHECKING:
    from selftaught.tasks import Task


async def perturb(ask: Ask, attempt: Attempt) -> Attempt:
    """Resample the tail of a solution; at a high temperature a correct solution often goes wrong from there.

    The line at which the tail starts is drawn from the attempt's id. The result's text is the whole solution, its
    tokens are those of the new tail.
    """
    lines = attempt.text.splitlines()
    kept = int(attempt.id, 16) % max(1, len(lines) - 1)  # the last line, the answer, is always new
    prefix = "".join(line + "\n" for line in lines[:kept])
    rest = await ask(attempt.problem.prompt, prefix=prefix, parent=attempt)
    return replace(rest, text=prefix + rest.text)


def first_error(verdicts: Iterable[Verdict]) -> int | None:
    """The number, from 1, of the first step that is not right; None where all are."""
    return next((number for number, verdict in enumerate(verdicts, 1) if verdict is not Verdict.RIGHT), None)


def first_error_steps(task: Task, flawed: Iterable[Attempt], sources: Iterable[Attempt]) -> dict[str, int]:
    """Map attempt id -> number of its first wrong step, from 1; attempts without a known one are left out.

    Exact where the task gives verdicts on steps. Otherwise the first line in which a perturbed attempt differs from the
    right attempt it was made from.

    Args:
        flawed: wrong attempts.
        sources: attempts that `perturb` was applied to.
    """
    right = {one.id: one.text.splitlines() for one in sources if one.right}
    found: dict[str, int | None] = {}
    for one in flawed:
        steps = task.step_verdicts(one.problem, one.text)
        if steps is not None:
            found[one.id] = first_error(steps)
        elif one.parent in right:
            pairs = zip(one.text.splitlines(), right[one.parent], strict=False)
            found[one.id] = next((i for i, (a, b) in enumerate(pairs, 1) if a != b), None)
    return {attempt: number for attempt, number in found.items() if number}


def self_talk(revised: Attempt) -> Demo:
    """Join the draft up to its mistake, the critique and the revision into one demonstration of self-correction.

    Source: Xi et al., 2411.16579, section 6 (self-talk).

    Args:
        revised: a revision made by `revise`, whose prompt holds the draft and the critique.
    """
    draft, critique = revised.prompt[-4].content.splitlines(), revised.prompt[-2].content
    number = first_step_number(critique)
    kept = draft[:number] if number else draft[:-1]
    ids = (revised.id, revised.parent) if revised.parent else (revised.id,)
    text = "\n".join([*kept, critique, revised.text])
    return Demo(revised.problem.prompt, text, attempts=ids, ends=not revised.truncated)
