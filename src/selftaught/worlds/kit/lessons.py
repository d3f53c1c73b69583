"""The training text of a world's model: conversations with the exact distribution of every decision.

A lesson's target in the place of a token is the writer's distribution given everything before it, so drafts may be
chosen freely (wrong ones more often, rare ways more often): a model trained on KL(writer || model) converges to the
writer all the same.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from selftaught.worlds.kit.annotator import right_critique
from selftaught.worlds.kit.draft import Draft, Lesson
from selftaught.worlds.kit.family import Drilled, Family
from selftaught.worlds.kit.language import NEWLINE, PHRASES, WAIT, tokenize
from selftaught.worlds.kit.process import END, Choice, Pick, draw, write
from selftaught.worlds.kit.writer import Writer, is_held_out


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
    waits: float = 0.2
    cut: float = 0.3
    wordings: float = 0.15
    asides: float = 0.45
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


def _pick(weights: Any, rng: random.Random) -> Any:
    names, shares = zip(*weights, strict=True)
    return rng.choices(names, shares)[0]
