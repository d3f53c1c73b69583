"""New problems: decontaminated, journaled, and known to the verifier."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from selftaught.curate.decontaminate import decontaminate, question_of
from selftaught.errors import BadInput
from selftaught.records import HIDDEN, Problem, content_hash, make_problem
from selftaught.run.checks import require_list
from selftaught.run.context import RunContext
from selftaught.tasks import Task


def new_problems(context: RunContext, candidates: Sequence[Problem]) -> list[Problem]:
    """See `Run.new_problems`."""
    require_list(candidates, "Problem", "new_problems")
    for one in candidates:
        if not isinstance(one, Problem) or one.reference is HIDDEN:
            raise BadInput(f"expected a new Problem, got {one!r:.60}", where="new_problems", fix="make it by task.pose")
        _check_id(context.task, one)
    task = context.task
    known = (*task.train, *context.posed.values())
    kept, dropped = decontaminate(candidates, context.access.decontaminator, known=known, instruction=task.instruction)
    dropped += [(one, "the task cannot read it") for one in kept if not task.reads(one)]
    kept = [one for one in kept if task.reads(one)]
    context.posed |= {one.id: one for one in kept}
    _journal(context, kept, dropped)
    return kept


def _check_id(task: Task, problem: Problem) -> None:
    """Refuse a problem under the id of another, which would be judged in place of it.

    Raises:
        BadInput: the id is not the hash of its prompt, or belongs to another problem of the task.
    """
    true = make_problem(problem.prompt).id
    if problem.id != true or make_problem(task.known(problem).prompt).id != true:
        what = f"problem {problem.question[:40]!r} has the id of another ({problem.id})"
        raise BadInput(what, where="new_problems", fix="make it by task.pose")


def _journal(context: RunContext, kept: Sequence[Problem], dropped: Sequence[tuple[Problem, str]]) -> None:
    def row(problem: Problem) -> dict[str, Any]:
        question, attempts = question_of(problem, context.task.instruction), problem.meta.get("attempts", ())
        return {"problem": problem.id, "question": question, "attempts": list(attempts)}

    payload = {"kept": [row(one) for one in kept], "dropped": [row(one) | {"reason": why} for one, why in dropped]}
    context.journal.put_new(content_hash("problems", context.round, payload), "problems", payload)
    counts = context.round_facts.setdefault("metrics", {}).setdefault("new problems", {"kept": 0, "dropped": 0})
    counts["kept"] += len(kept)
    counts["dropped"] += len(dropped)
    if dropped:
        why = ", ".join(f"{n} {reason}" for reason, n in Counter(reason for _, reason in dropped).items())
        context.console.print(f"  {len(kept)} of {len(kept) + len(dropped)} new problems kept; dropped: {why}")
