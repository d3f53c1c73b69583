"""Annotators: a task's own expert, who writes right critiques, revisions and solutions."""

from __future__ import annotations

from typing import Any, Protocol

from selftaught.errors import BadInput
from selftaught.records import Problem, Prompt

ANNOTATIONS = {"critique": "critique", "revise": "revision", "solve": "solution"}
"""Role of a text -> the annotator's function that writes it."""


class Annotator(Protocol):
    """Writes right texts about a task's problems, in the words that its model reads; pure, in process, thread-safe.

    It stands for the strong annotator of papers that begin with expert data. Methods reach it only through
    `run.annotate`, on train problems.

    Attributes:
        version: name and version, part of the keys of what it wrote.
    """

    version: str

    def critique(self, problem: Problem, text: str) -> str:
        """The right critique of a draft: its first wrong step and a right one, or that nothing is wrong.

        `refine.error_step` and `refine.finds_no_error` read it. Empty where the draft cannot be criticized.
        """
        ...

    def revision(self, problem: Problem, text: str) -> str:
        """The draft with its mistakes mended, its right steps kept; a right draft unchanged. Empty if impossible."""
        ...

    def solution(self, problem: Problem) -> str:
        """A right solution with its steps. Empty if it knows none."""
        ...


def check_annotator(annotator: Any, where: str) -> None:
    """Refuse an object that lacks a part of an annotator.

    Raises:
        BadInput: it does; the message names the first one.
    """
    parts = ANNOTATIONS.values()
    lacking = next((part for part in parts if not callable(getattr(annotator, part, None))), None)
    if lacking is None and not isinstance(getattr(annotator, "version", None), str):
        lacking = "version"
    if lacking:
        fix = "see selftaught.tasks.annotator.Annotator"
        raise BadInput(f"its annotator has no {lacking}", where=where, fix=fix)


def written(annotator: Any, problem: Problem, role: str, prompt: Prompt) -> str:
    """What an annotator writes in reply to a prompt: a critique of the last draft in it, or the draft's revision.

    A revision is of the draft before the critique that ends the model's turns.
    """
    turns = [message.content for message in prompt if message.role == "assistant"]
    drafts = {"critique": turns[-1:], "revise": turns[-2:-1]}.get(role, [])
    return getattr(annotator, ANNOTATIONS[role])(problem, *drafts)
