"""Split answers into steps."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import takewhile


@dataclass(frozen=True, slots=True)
class StepFormat:
    """The step format of a task's answers.

    A step ends at an end mark that follows a letter or digit: consecutive marks make no empty steps.

    Attributes:
        end: end mark of a step.
        last: pattern of a step that gives the final answer; it ends the answer; anything after it is ignored.
    """

    end: str = "\n"
    last: str = r"(?im)^\W*(?:the |final )*answer(?: is)?\s*:"

    def says(self, text: str) -> bool:
        """Whether a text has a letter or a digit."""
        return any(character.isalnum() for character in text)

    def finishes(self, step: str) -> bool:
        """Whether a step gives the final answer."""
        return re.search(self.last, step) is not None

    def split(self, text: str) -> list[str]:
        """The steps of an answer with their end marks; concatenated, they are the text."""
        steps: list[str] = []
        for piece in re.split(f"(?<={re.escape(self.end)})", text):
            if steps and (not self.says(steps[-1]) or not self.says(piece)):
                steps[-1] += piece
            elif piece:
                steps.append(piece)
        return steps

    def reasoning(self, text: str) -> str:
        """The whole steps of an answer before the one that gives the final answer; what was cut off is left out."""
        before = takewhile(lambda step: not self.finishes(step), self.split(text))
        return "".join(takewhile(lambda step: self.says(step) and step.endswith(self.end), before))


LINES = StepFormat()
"""Each line is a step; the line that begins with "Answer:" is the last."""
