"""The training text of a world's model: conversations with the exact distribution of every decision.

A lesson's target in the place of a token is the writer's distribution given everything before it, so drafts may be
chosen freely (wrong ones more often, rare ways more often): a model trained on KL(writer || model) converges to the
writer all the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from selftaught.records import Message, Prompt
from selftaught.worlds.kit.conversation import parse_critique
from selftaught.worlds.kit.family import Drilled, Family, Steps, split_reply
from selftaught.worlds.kit.language import (
    NEWLINE,
    NO_MISTAKES,
    PHRASES,
    SOUND,
    STEP,
    TURNS,
    UNSOUND,
    WAIT,
    of_place,
    place,
    tokenize,
    vocabulary,
)  # fmt: skip
from selftaught.worlds.kit.process import END, Choice, Pick, draw, read, write
from selftaught.worlds.kit.writer import Writer, is_held_out


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


@dataclass(frozen=True)
class Mix:
    """What the lessons are made of.

    Attributes:
        roles: role -> weight.
        levels: level -> weight.
        drafted: level -> weight of problems whose drafts are criticized.
        hinted: level -> weight of problems whose answer is given away.
        family_weights: family -> weight; all alike if empty.
        rare: share of decisions in a solution that are drawn evenly among the ways or results.
        flawed: share of drafts to criticize in which one result is drawn evenly.
        demonstrated: share of solutions after demonstrations.
        waits: share of solutions into which `wait` is put.
        cut: share of those where it breaks a line off.
        wordings, asides, ways: share of questions in other words, with an aside, and asking for a way.
    """

    roles: tuple[tuple[str, float], ...] = (
        ("solve", 0.2), ("judge", 0.09), ("verify", 0.08), ("evaluate", 0.04), ("locate", 0.04), ("critique", 0.15),
        ("revise", 0.16), ("choose", 0.05), ("propose", 0.015), ("easier", 0.015), ("rationalize", 0.06),
        ("direct", 0.01), ("facts", 0.06), ("lines", 0.03), ("again", 0.03),
    )  # fmt: skip
    levels: tuple[tuple[int, float], ...] = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (6, 2), (7, 1), (8, 1))
    drafted: tuple[tuple[int, float], ...] = ((1, 3), (2, 4), (3, 4), (4, 3), (5, 2), (6, 2), (7, 1), (8, 1))
    hinted: tuple[tuple[int, float], ...] = ((1, 3), (2, 3), (3, 3), (4, 3), (5, 2), (6, 1), (7, 0.5), (8, 0.5))
    family_weights: tuple[tuple[str, float], ...] = ()
    rare: float = 0.25
    flawed: float = 0.5
    demonstrated: float = 0.3
    waits: float = 0.15
    cut: float = 0.3
    wordings: float = 0.15
    asides: float = 0.2
    ways: float = 0.12


MIX = Mix()


def lessons(writer: Writer, seed: int = 0, mix: Mix = MIX) -> Iterator[Lesson]:
    """Endless lessons. Their questions are never held out."""
    maker = LessonMaker(writer, random.Random(f"lessons/{seed}"), mix)
    while True:
        yield maker.lesson()


class LessonMaker:
    """Makes lessons of all roles.

    Args:
        writer: whose text it is.
        rng: source of all chance.
        mix: shares.
    """

    def __init__(self, writer: Writer, rng: random.Random, mix: Mix = MIX) -> None:
        self._writer, self._rng, self._mix = writer, rng, mix
        self._drilled = [family for family in writer.families if isinstance(family, Drilled)]
        drills = ("facts", "lines", "again")
        self._roles = [(role, share) for role, share in mix.roles if self._drilled or role not in drills]

    def lesson(self, role: str | None = None) -> Lesson:
        """A lesson of a role, or of one drawn from the mix."""
        chosen: str = role or _pick(self._roles, self._rng)
        draft = Draft(self._writer)
        _MAKERS.get(chosen, _about_draft)(self, draft, chosen)
        return draft.lesson(chosen)

    def question(self, levels: tuple[tuple[int, float], ...]) -> tuple[Family, str]:
        """A question that is not held out, in any wording."""
        rng, mix = self._rng, self._mix
        weights = mix.family_weights or tuple((family.name, 1.0) for family in self._writer.families)
        name = _pick(weights, rng)
        family = next(family for family in self._writer.families if family.name == name)
        while True:
            question, _ = family.question(_pick([(x, w) for x, w in levels if x in family.levels], rng), rng)
            shares = {"wording": mix.wordings, "aside": mix.asides, "way": mix.ways}
            if not is_held_out(question):
                return family, family.reworded(question, rng, **shares)

    @property
    def roughly(self) -> Pick:
        """Draw as the writer does, or evenly."""
        rng, rare = self._rng, self._mix.rare

        def pick(choice: Choice) -> str:
            options = choice.distribution()
            return rng.choice(list(options)) if choice.skill == "way" and rng.random() < rare else draw(options, rng)

        return pick

    def flawed(self) -> Pick:
        """Draw as the writer does, and perhaps one result evenly."""
        rng = self._rng
        left = rng.randrange(4) if rng.random() < self._mix.flawed else -1

        def pick(choice: Choice) -> str:
            nonlocal left
            options = choice.distribution()
            if choice.skill.startswith("result"):
                left -= 1
                if left == -1:
                    return rng.choice(list(options))
            return draw(options, rng)

        return pick

    def solve(self, draft: Draft, role: str) -> None:
        """A solution: plain, after demonstrations, or with `wait` put in."""
        del role
        rng, mix = self._rng, self._mix
        family, question = self.question(mix.levels)
        if rng.random() < mix.demonstrated:
            for shown in family.demonstrations(question, rng):
                if is_held_out(family.plain(shown)):
                    continue
                draft.ask(shown)
                draft.write(self.roughly)
        draft.ask(question)
        draft.write(self.roughly, self._interrupted(draft) if rng.random() < mix.waits else "")

    def _interrupted(self, draft: Draft) -> str:
        """The beginning of a solution, and `wait`."""
        rng = self._rng
        text = write(self._writer.reply(tuple(draft.messages)), self.flawed()).text  # type: ignore[arg-type]
        lines = text.split(NEWLINE)
        kept = lines[: rng.randint(1, len(lines))]
        if rng.random() < self._mix.cut:
            tokens = tokenize(kept[-1])
            kept[-1] = "".join(tokens[: rng.randint(1, max(1, len(tokens) - 1))])
        return NEWLINE.join([*kept, WAIT, ""])

    def draft(self, draft: Draft) -> tuple[Family, Any, str]:
        """A question and a draft to criticize."""
        family, question = self.question(self._mix.drafted)
        draft.ask(question)
        return family, family.read(question), draft.write(self.flawed())

    def revise(self, draft: Draft, role: str) -> None:
        """A revision: by a right critique, by the writer's own, or by none."""
        family, problem, text = self.draft(draft)
        luck = self._rng.random()
        if luck < 0.7:
            draft.ask(PHRASES["critique"])
            if luck < 0.35:
                draft.say(right_critique(family, problem, None, text))
            else:
                draft.write(self.roughly)
        draft.ask(PHRASES[role])
        draft.write(self.roughly)

    def choose(self, draft: Draft, role: str) -> None:
        """A choice between two solutions."""
        _, question = self.question(self._mix.drafted)
        draft.ask(question)
        prompt = tuple(draft.messages)
        pair = [write(self._writer.reply(prompt), self.flawed()).text for _ in range(2)]  # type: ignore[arg-type]
        draft.quote(f"A: {pair[0]}\nB: {pair[1]}")
        draft.ask(PHRASES[role])
        draft.write(self.roughly)

    def hinted(self, draft: Draft, role: str) -> None:
        """A solution with the answer given away."""
        family, question = self.question(self._mix.hinted)
        draft.ask(question)
        draft.ask(PHRASES[role].format(answer=family.answer(family.read(question))))
        draft.write(self.roughly)

    def drill(self, draft: Draft, role: str) -> None:
        """Facts one by one with what the critic thinks of them, or lines with what a judge thinks of their ways."""
        family = self._rng.choice(self._drilled)
        draft.ask(role)
        draft.quote(*(family.drill if role == "facts" else family.line_drill)(self._rng))

    def again(self, draft: Draft, role: str) -> None:
        """Lines to copy: a small model learns to look back in its context from nothing else as soon."""
        text = self._rng.choice(self._drilled).nonsense(self._rng)
        draft.ask(f"{role}{NEWLINE}{text}")
        draft.quote(text, [*tokenize(text), END])

    def asked(self, draft: Draft, role: str) -> None:
        """A reply to a request about a question."""
        draft.ask(self.question(self._mix.levels)[1])
        draft.ask(PHRASES[role])
        draft.write(self.roughly)


def _about_draft(maker: LessonMaker, draft: Draft, role: str) -> None:
    """A reply about a draft."""
    maker.draft(draft)
    draft.ask(PHRASES[role])
    draft.write(maker.roughly)


_MAKERS: Mapping[str, Callable[[LessonMaker, Draft, str], None]] = {
    "solve": LessonMaker.solve,
    "revise": LessonMaker.revise,
    "choose": LessonMaker.choose,
    "rationalize": LessonMaker.hinted,
    "propose": LessonMaker.asked,
    "easier": LessonMaker.asked,
    "direct": LessonMaker.asked,
    "facts": LessonMaker.drill,
    "lines": LessonMaker.drill,
    "again": LessonMaker.again,
}


def right_critique(family: Family, problem: Any, reference: Any, text: str) -> str:
    """The right critique of a reply, in the words of the world's critics."""
    found, lines = family.locate(problem, reference, text), split_reply(text)[0]
    restated = family.restated(problem, lines)
    if found is None:
        return f"{_marks(restated, len(lines))}{NEWLINE}{NO_MISTAKES}"
    marks = _marks(restated[: found.step], found.step - 1)
    critique = f"{marks}{NEWLINE}{STEP}{of_place(found.step)}{found.given}{found.result}"
    assert parse_critique(critique) == found
    return critique


def _marks(restated: Sequence[str], right: int) -> str:
    """Marks of lines, of which so many are right."""
    return "".join(f"{place(i)}{token}{SOUND if i <= right else UNSOUND}" for i, token in enumerate(restated, 1))


def _pick(weights: Any, rng: random.Random) -> Any:
    names, shares = zip(*weights, strict=True)
    return rng.choices(names, shares)[0]
