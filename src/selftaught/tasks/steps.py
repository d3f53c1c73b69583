"""How the steps of an answer are told apart."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class StepFormat:
    """The form in which a task's answers go step by step.

    A step goes on until its end mark has come behind something that says anything: marks in a row make no steps.

    Attributes:
        end: what ends a step.
        last: pattern of a step that gives the final answer; with it the answer ends, whatever the model adds.
    """

    end: str = "\n"
    last: str = r"(?im)^\W*(?:the |final )*answer(?: is)?\s*:"

    def says(self, text: str) -> bool:
        """Whether a text says anything: it has a letter or a digit."""
        return any(character.isalnum() for character in text)

    def finishes(self, step: str) -> bool:
        """Whether a step gives the final answer."""
        return re.search(self.last, step) is not None

    def split(self, text: str) -> list[str]:
        """The steps of an answer, with what ends them; together they are the text."""
        steps: list[str] = []
        for piece in re.split(f"(?<={re.escape(self.end)})", text):
            if steps and (not self.says(steps[-1]) or not self.says(piece)):
                steps[-1] += piece
            elif piece:
                steps.append(piece)
        return steps


LINES = StepFormat()
"""A line is a step, and the one that begins with "Answer:" the last."""
