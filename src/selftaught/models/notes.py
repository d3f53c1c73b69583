"""Notes: the text that a policy reads before every prompt, beside its weights."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from selftaught.errors import BadInput
from selftaught.records import Attempt, Message, Prompt, as_json, as_prompt, content_hash
from selftaught.samples import well_formed

HEADING = "Notes:"
PARTS = ("system", "demonstrations", "insights")


@dataclass(frozen=True, slots=True)
class Demonstration:
    """A worked example: a prompt and its answer, shown as earlier turns of the conversation.

    Attributes:
        prompt: chat messages, or the text of a user message; system messages in it are not shown.
        answer: the assistant's turn that follows.

    Raises:
        BadInput: the prompt has no user message, or the answer is no text.
    """

    prompt: Prompt
    answer: str

    def __post_init__(self) -> None:
        shown = tuple(Message(m.role, well_formed(m.content)) for m in as_prompt(self.prompt) if m.role != "system")
        if not any(message.role == "user" for message in shown) or not isinstance(self.answer, str):
            what = "a demonstration must have a user message and an answer"
            raise BadInput(what, where="notes", fix='write Demonstration("What is 1 + 1?", "2")')
        object.__setattr__(self, "prompt", shown)
        object.__setattr__(self, "answer", well_formed(self.answer))

    @classmethod
    def of(cls, attempt: Attempt) -> Demonstration:
        """The prompt of an attempt, with its text as the answer."""
        return cls(attempt.prompt, attempt.text)


@dataclass(frozen=True)
class Notes:
    """What a policy reads before every prompt: instructions, insights and worked examples. Immutable.

    `policy.with_notes(notes)` is a policy of the same weights and another version.

    Attributes:
        system: instructions, at the beginning of the system message.
        demonstrations: worked examples, as turns before the prompt; pairs of a prompt and an answer are taken too.
        insights: lines of a list at the end of the instructions.

    Raises:
        BadInput: a part is of another type.
    """

    system: str = ""
    demonstrations: tuple[Demonstration, ...] = ()
    insights: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        lines: Any = self.insights
        given: Any = self.demonstrations
        if not isinstance(self.system, str) or isinstance(lines, str) or not all(isinstance(x, str) for x in lines):
            what = "system must be a text, and insights a tuple of texts"
            raise BadInput(what, where="notes", fix="write Notes(system='...', insights=('...',))")
        shown = (one if isinstance(one, Demonstration) else Demonstration(*one) for one in given)
        object.__setattr__(self, "system", well_formed(self.system))
        object.__setattr__(self, "insights", tuple(map(well_formed, self.insights)))
        object.__setattr__(self, "demonstrations", tuple(shown))

    def __bool__(self) -> bool:
        return bool(self.system or self.demonstrations or self.insights)

    @cached_property
    def version(self) -> str:
        """Content hash."""
        return content_hash("notes", self.to_json())

    @property
    def instructions(self) -> str:
        """The system text and the list of insights; empty if there are none."""
        lines = "\n".join([HEADING, *(f"- {line}" for line in self.insights)]) if self.insights else ""
        return "\n\n".join(filter(None, (self.system, lines)))

    @property
    def summary(self) -> str:
        """What they hold, in a few words: "8 demonstrations, 1 insight, instructions"."""
        counts = {"demonstration": len(self.demonstrations), "insight": len(self.insights)}
        parts = [f"{count} {what}{'' if count == 1 else 's'}" for what, count in counts.items() if count]
        return ", ".join([*parts, *(["instructions"] if self.system else [])])

    def apply(self, prompt: Prompt, *, system_role: bool = True) -> Prompt:
        """The messages that the model reads in place of `prompt`.

        The instructions become the system message, before the text of the prompt's own one if it begins with one; the
        demonstrations follow as turns of the user and the assistant, then the rest of the prompt.

        Args:
            system_role: whether the chat template supports system messages; otherwise the instructions are put before
                the text of the first user message.
        """
        own = prompt[0].content if prompt and prompt[0].role == "system" else ""
        text = "\n\n".join(filter(None, (self.instructions, own)))
        shown = tuple(m for one in self.demonstrations for m in (*one.prompt, Message("assistant", one.answer)))
        turns = shown + (prompt[1:] if own else prompt)
        if not text:
            return turns
        first = next((place for place, message in enumerate(turns) if message.role == "user"), None)
        if system_role or first is None:
            return (Message("system" if system_role else "user", text), *turns)
        merged = Message("user", f"{text}\n\n{turns[first].content}")
        return (*turns[:first], merged, *turns[first + 1 :])

    def to_json(self) -> dict[str, Any]:
        """The parts that are not empty, as plain data."""
        return {name: as_json(part) for name in PARTS if (part := getattr(self, name))}

    @classmethod
    def from_json(cls, data: Any, where: str = "notes") -> Notes:
        """Read what `to_json` wrote.

        Args:
            where: where it was found, for the message.

        Raises:
            BadInput: it is something else.
        """
        try:
            if not isinstance(data, Mapping) or data.keys() - set(PARTS):
                raise ValueError(f"expected an object with {', '.join(PARTS)}")
            shown = [Demonstration(one["prompt"], one["answer"]) for one in data.get("demonstrations", ())]
            return cls(data.get("system", ""), tuple(shown), data.get("insights", ()))
        except (ValueError, KeyError, TypeError, AttributeError, BadInput) as error:
            raise BadInput(f"cannot read notes ({error})", where=where, fix="write them with Notes.save") from None

    @classmethod
    def load(cls, path: str | Path) -> Notes:
        """Read notes from a JSON file.

        Raises:
            BadInput: there is no such file, or it holds something else.
        """
        try:
            data = json.loads(Path(path).read_text("utf-8"))
        except (OSError, ValueError, RecursionError) as error:
            raise BadInput(f"cannot read notes ({error})", where=str(path), fix="write them with Notes.save") from None
        return cls.from_json(data, str(path))

    def save(self, path: str | Path) -> None:
        """Write the notes as a JSON file; equal notes give equal files."""
        Path(path).write_text(json.dumps(self.to_json(), indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
