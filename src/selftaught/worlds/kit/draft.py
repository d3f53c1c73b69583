"""A conversation whose replies have known distributions, as it is made and as token ids."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

from selftaught.records import Message, Prompt
from selftaught.worlds.kit.family import Steps
from selftaught.worlds.kit.language import TURNS, tokenize, vocabulary
from selftaught.worlds.kit.process import END, Choice, Pick, read, write
from selftaught.worlds.kit.writer import Writer


class Target(NamedTuple):
    """What stands in the place of one token: a distribution.

    Attributes:
        position: index in `Encoded.ids`; predict it from the ids before.
        ids: token ids.
        probs: their probabilities.
        skill: of the decision; "" where the token is certain.
        right: id of the right token; -1 where none or several are.
    """

    position: int
    ids: tuple[int, ...]
    probs: tuple[float, ...]
    skill: str
    right: int = -1


class Encoded(NamedTuple):
    """A lesson as token ids.

    Attributes:
        ids: the whole conversation, with the end token.
        start: index of the first token of the last reply.
        targets: one for each token of all replies, and for the end of each. The end of an earlier reply stands in the
            place of the turn that follows it.
    """

    ids: list[int]
    start: int
    targets: list[Target]


@dataclass(frozen=True, slots=True)
class Lesson:
    """A conversation whose replies have known distributions.

    Attributes:
        role: of the last reply.
        messages: the whole conversation.
        steps: for each message, what the writer had for each token and the end, None for what is not learned; empty
            for a user's.
    """

    role: str
    messages: Prompt
    steps: tuple[tuple[Choice | str | None, ...], ...]

    @property
    def prompt(self) -> Prompt:
        """The messages before the last reply."""
        return self.messages[:-1]

    @property
    def reply(self) -> str:
        """The last reply."""
        return self.messages[-1].content

    def encoded(self) -> Encoded:
        """The lesson as token ids, with a target for each token of each reply."""
        vocab = vocabulary()
        ids: list[int] = []
        targets: list[Target] = []
        start = 0
        for message, steps in zip(self.messages, self.steps, strict=True):
            ids.append(vocab[TURNS[message.role]])
            start = len(ids)
            targets += [_target(start + i, step, vocab) for i, step in enumerate(steps) if step is not None]
            ids += [vocab[token] for token in tokenize(message.content)]
        return Encoded([*ids, vocab[END]], start, targets)


def _target(position: int, step: Choice | str, vocab: Mapping[str, int]) -> Target:
    if isinstance(step, str):
        return Target(position, (vocab[step],), (1.0,), "")
    options = step.distribution()
    right = -1 if step.right is None else vocab[step.right]
    return Target(position, tuple(vocab[token] for token in options), tuple(options.values()), step.skill, right)


class Draft:
    """A conversation under construction."""

    def __init__(self, writer: Writer) -> None:
        self._writer = writer
        self.messages: list[Message] = []
        self._steps: list[tuple[Choice | str | None, ...]] = []

    def ask(self, text: str) -> None:
        """Add a user's message."""
        self.messages.append(Message("user", text))
        self._steps.append(())

    def write(self, pick: Pick, prefix: str = "") -> str:
        """Let the writer reply."""
        written = write(self._reply(), pick, tokenize(prefix))
        self._add(written.text, tuple(written.steps))
        return written.text

    def say(self, text: str) -> None:
        """Add a given reply; its targets are still the writer's."""
        self._add(text, tuple(read(self._reply(), tokenize(text))))

    def quote(self, text: str, steps: Steps = ()) -> None:
        """Add a reply with the targets that it has, if any."""
        self._add(text, tuple(steps))

    def lesson(self, role: str) -> Lesson:
        """The conversation so far."""
        return Lesson(role, tuple(self.messages), tuple(self._steps))

    def _reply(self) -> Any:
        return self._writer.reply(tuple(self.messages))

    def _add(self, text: str, steps: tuple[Choice | str | None, ...]) -> None:
        self.messages.append(Message("assistant", text))
        self._steps.append(steps)
