"""The small language: what the world's model is asked in, and how its replies to each request are read."""

from __future__ import annotations

import re
from collections.abc import Mapping

from selftaught.worlds.tiny.families import FAMILIES

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
"""Role -> what the last user message says, in place of the English that a method brings along."""

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
    """The step that a reply to "locate" or "critique" points at, from 1; None for none."""
    m = _LOCATED.match(text)
    return int(m[1]) if m else None


def parse_step_marks(text: str) -> list[bool] | None:
    """For each step, whether a reply to "verify" takes it to be right; None for anything else."""
    return [mark == SOUND for mark in text] if _MARKS.fullmatch(text) else None


def parse_critique(text: str) -> tuple[int, str] | None:
    """The step that a critique points at, and what it says should stand there; None for no mistakes."""
    m = _CRITIQUE.fullmatch(text)
    return (int(m[1]), m[2]) if m else None


def family_of(question: str) -> str | None:
    """The family a question belongs to; None where it is not well-formed or has no answer."""
    return next((name for name, family in FAMILIES.items() if family.read(question) is not None), None)
