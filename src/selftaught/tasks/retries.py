"""Any verified task as an environment: it says when an answer is not right, and the model tries again."""

from __future__ import annotations

from typing import Any

from selftaught.errors import BadInput
from selftaught.records import Problem, as_json, as_prompt
from selftaught.tasks.environment import Turn
from selftaught.tasks.task import Task

TRY_AGAIN = "That is not right. Try again."


class Retries:
    """Answers "try again" until the task's verifier says right: reward 1, and the episode ends.

    Source: unary feedback as observation (Liu et al., 2507.14295). What the verifier cannot decide is not right.

    Args:
        task: whose verifier judges.
        max_turns: answers to one problem, at most.

    Attributes:
        version: of the verifier, with the limit.
        max_turns: see above.
    """

    def __init__(self, task: Task, max_turns: int) -> None:
        self._task, self.max_turns = task, max_turns
        self._text = task.phrases.get("revise", TRY_AGAIN)
        self.version = f"retries-1 {max_turns} {task.verifier.version}"

    def start(self, problem: Problem) -> dict[str, Any]:
        """The problem by its id; a new one whole."""
        return {"problem": problem.id if self._task.holds(problem) else as_json(problem)}

    def act(self, state: dict[str, Any], text: str) -> Turn:
        """Judge an answer."""
        held = state["problem"]
        problem = self._task.find_problem(held) if isinstance(held, str) else _posed(held)
        right = self._task.verify(problem, text).verdict == "right"
        return Turn("" if right else self._text, float(right), right, state)

    def close(self) -> None:
        """Stop the verifier's worker processes."""
        self._task.close()


def _posed(row: dict[str, Any]) -> Problem:
    return Problem(row["id"], as_prompt(row["prompt"]), row["reference"], row["meta"])


def with_retries(task: Task, max_turns: int = 3) -> Task:
    """The same problems as a task with an environment, which lets the model answer until it is right.

    The verdict on an episode is RIGHT if one of its answers is.

    Args:
        task: without an environment.
        max_turns: answers to one problem, at most.

    Raises:
        BadInput: the task has an environment, or problems without the reference that its verifier needs.
    """
    if task.environment is not None:
        raise BadInput("the task has an environment already", where=task.name, fix="use it as it is")
    task.require(reference=task.verifier.needs_reference)
    return Task(
        f"{task.name}, {max_turns} tries", task.train, task.dev, task.test, kind=task.kind,
        instruction=task.instruction, notes=task.notes, phrases=task.phrases, inline=task.inline, steps=task.steps,
        kinds=task.kinds, environment=Retries(task, max_turns), shown=task.shown, annotator=task.annotator,
    )  # fmt: skip
