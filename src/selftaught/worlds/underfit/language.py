"""The world's language: the wording of requests to its model, and parsers of its replies."""

from __future__ import annotations

import re
from collections.abc import Mapping

from selftaught.worlds.underfit.families import FAMILIES

PHRASES: Mapping[str, str] = {
    "judge": "judge",
    "verify": "verify",
    "evaluate": "verify",
    "locate": "locate",
    "critique": "critique",
    "revise": "revise",
    "reflect": "revise",
    "choose": "choose",
    "easier": "easier",
    "propose": "propose",
    "rationalize": "hint {answer}",
    "direct": "answer only",
}
"""Role -> wording of the last user message, in place of a method's English."""

RIGHT, WRONG = "right", "wrong"
SOUND, UNSOUND = "+", "-"
NO_MISTAKES = "no mistakes"
_LOCATED = re.compile(r"step (\d)")
_MARKS = re.compile(r"[+-]*")
_CRITIQUE = re.compile(r"step (\d): (.{1,40})")

TEMPLATE = "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}{% endfor %}{{ '<|assistant|>' }}"
"""Chat template; an assistant's turn ends where the next one begins, the last one with the end token."""

TURN_MARKERS = ("<|user|>", "<|assistant|>", "<|system|>")
END = "<|end|>"


def parse_error_step(text: str) -> int | None:
    """The step that a reply to "locate" or "critique" names, from 1; None if none."""
    m = _LOCATED.match(text)
    return int(m[1]) if m else None


def parse_step_marks(text: str) -> list[bool] | None:
    """For each step, whether a reply to "verify" marks it as right; None if malformed."""
    return [mark == SOUND for mark in text] if _MARKS.fullmatch(text) else None


def parse_critique(text: str) -> tuple[int, str] | None:
    """The step that a critique names, and its correction; None for no mistakes."""
    m = _CRITIQUE.fullmatch(text)
    return (int(m[1]), m[2]) if m else None


def family_of(question: str) -> str | None:
    """The family of a question; None if it is malformed or has no answer."""
    return next((name for name, family in FAMILIES.items() if family.read(question) is not None), None)
