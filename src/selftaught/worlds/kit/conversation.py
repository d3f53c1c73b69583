"""Read a prompt: which role is asked for, about which question, draft and critique."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from selftaught.records import Prompt
from selftaught.worlds.kit.family import Correction, Family
from selftaught.worlds.kit.language import NO_MISTAKES, PHRASES

SOLVE = "solve"
_ITEM = r"(?:\d{1,3}|[-+*]\d)"  # of an answer: a number, or an operation
_HINT = re.compile(re.escape(PHRASES["rationalize"]).replace(re.escape("{answer}"), rf"({_ITEM}(?: {_ITEM})*)"))
_ROLES = {text: role for role, text in PHRASES.items() if role != "rationalize"}
_CRITIQUE = re.compile(r"(?:\d{1,2}\) (?: \d+ [-+*]\d)?(?: [\d?]+)?[-+])*\n?step (\d{1,2})\)(.*?)( \S+)")
_DRAFTED = ("judge", "verify", "evaluate", "locate", "critique", "revise")  # roles about a draft


@dataclass(frozen=True)
class Asked:
    """What the last message of a prompt asks for.

    Attributes:
        role: "solve", or a key of `PHRASES`.
        family: of the question.
        problem: the problem.
        demonstrations: solved problems before it: (problem, reply).
        draft: the reply that it is about, if any.
        critique: what a critic said about the draft, if anything.
        hint: the answer given away, as tokens.
        options: the two answers to choose from.
    """

    role: str
    family: Family
    problem: Any
    demonstrations: tuple[tuple[Any, str], ...] = ()
    draft: str | None = None
    critique: str | None = None
    hint: str | None = None
    options: tuple[str, ...] = ()

    @property
    def correction(self) -> Correction | None:
        """The step that the critique names, with its result."""
        return parse_critique(self.critique or "")

    @property
    def approved(self) -> bool:
        """Whether the critique finds no mistakes."""
        return NO_MISTAKES in (self.critique or "")


@dataclass
class _Reading:
    """The conversation as far as it has been read."""

    families: Sequence[Family]
    family: Family | None = None
    problem: Any = None
    solved: list[tuple[Any, str]] = field(default_factory=list)
    draft: str | None = None
    critique: str | None = None
    hint: str | None = None
    role: str = ""

    def user(self, text: str) -> bool:
        """Read a user's message; returns whether it belongs to the language."""
        hint = _HINT.fullmatch(text)
        if hint:
            self.hint, self.role = f" {hint[1]}", "rationalize"
            return self.family is not None and alike(hint[1], self.family.answer(self.problem))
        if text in _ROLES:
            self.role = _ROLES[text]
        else:
            return self._question(text)
        return self.problem is not None

    def _question(self, text: str) -> bool:
        for family in self.families:
            problem = family.read(text)
            if problem is not None:
                if self.problem is not None and self.draft is not None:
                    self.solved.append((self.problem, self.draft))
                self.family, self.problem, self.role = family, problem, SOLVE
                self.draft = self.critique = self.hint = None
                return True
        return False

    def assistant(self, text: str) -> None:
        """Read a reply."""
        if self.role in (SOLVE, "revise", "rationalize", "direct"):
            self.draft, self.critique = text, None
        elif self.role == "critique":
            self.critique = text


def alike(hint: str, answer: str) -> bool:
    """Whether a hint has the form of an answer: as many numbers, or operations."""
    given, wanted = ([item.isdigit() for item in text.split()] for text in (hint, answer))
    return given[0] == wanted[0] and (not given[0] or len(given) == len(wanted))


def read_prompt(prompt: Prompt, families: Sequence[Family]) -> Asked | None:
    """What a prompt asks for; None if it is not in the language of these families. System messages are skipped."""
    reading = _Reading(families)
    for message in prompt:
        if message.role == "assistant":
            reading.assistant(message.content)
        elif message.role == "user" and not reading.user(message.content):
            return None
    role, family = reading.role, reading.family
    if not prompt or prompt[-1].role != "user" or family is None:
        return None
    if role in _DRAFTED and reading.draft is None:
        return None
    options = parse_options(reading.draft or "") if role == "choose" else ()
    if role == "choose" and not options:
        return None
    about = (reading.draft, reading.critique, reading.hint)
    return Asked(role, family, reading.problem, tuple(reading.solved), *about, options)


def parse_critique(text: str) -> Correction | None:
    """The step that a critique names, and its right result as a token; None if it names none."""
    found = _CRITIQUE.fullmatch(text.strip())
    return Correction(int(found[1]), found[3], found[2]) if found else None


def parse_options(text: str) -> tuple[str, ...]:
    """The two answers in `A: ...` and `B: ...`; none if it is something else."""
    found = re.fullmatch(r"A: (.*)\nB: (.*)", text, re.DOTALL)
    return (found[1], found[2]) if found else ()
