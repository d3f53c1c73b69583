"""The text the tiny model learns from: deliberately imperfect, so that it has something to gain.

A writer with patchy skills makes the mistakes. Plain steps are nearly always right; a step with a carry is
right more often than not; a heavy one is slipped more often than not, mostly in the same digit, so that the
model's first choice there is wrong although it also knows the right one. Judges overlook the commonest slips.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selftaught.records import Message, Prompt, Verdict, content_hash
from selftaught.worlds.tiny.families import FAMILIES, Checked, Family, Say, Written, exactly
from selftaught.worlds.tiny.language import NO_MISTAKES, PHRASES, RIGHT, WRONG

SKILLS = {"plain": (0.97, 0.01), "carry": (0.58, 0.20), "heavy": (0.36, 0.30)}
"""Skill -> how often a writer is right, and how often it makes the commonest slip."""

CARE = 0.85  # how often a reviser gets the step right that it mends

LEVELS = {1: 2, 2: 3, 3: 4, 4: 3}
"""Levels the text holds, and their weights; the level above is held out."""

FAMILY_WEIGHTS = {"chain": 6, "add": 3, "target": 4, "equation": 4, "program": 3, "choice": 3, "claim": 3}


@dataclass(frozen=True, slots=True)
class Case:
    """A problem with a draft of its solution, what its writer decided on the way, and the truth about it."""

    family: Family
    question: str
    problem: Any
    reference: Any
    draft: Written
    said: tuple[str, ...]
    truth: Checked

    @property
    def asked(self) -> Prompt:
        """The question, and the draft as the reply to it."""
        return (Message("user", self.question), Message("assistant", self.draft.text))

    @property
    def right(self) -> bool:
        """Whether the draft's answer is right."""
        return self.truth.answer is Verdict.RIGHT


def patchy(rng: random.Random) -> Say:
    """A `Say` with the skills of the table."""

    def say(skill: str, right: str, slips: Sequence[str]) -> str:
        well, usual = SKILLS[skill]
        luck = rng.random()
        if luck < well:
            return right
        return slips[0] if luck < well + usual else rng.choice(slips)

    return say


def reserved(question: str) -> bool:
    """Whether a question is kept out of the text: half of all are, and tasks are drawn from those alone."""
    return int(content_hash(question), 16) % 2 == 1


def draw(rng: random.Random, level: int | None = None, family: str | None = None) -> Case:
    """A case of the text: a question that no task may draw, with a patchy writer's draft."""
    kind = FAMILIES[family or rng.choices(list(FAMILY_WEIGHTS), list(FAMILY_WEIGHTS.values()))[0]]
    while True:
        question, reference = kind.question(level or rng.choices(list(LEVELS), list(LEVELS.values()))[0], rng)
        if not reserved(question):
            break
    problem = kind.read(question)
    said: list[str] = []
    usual = patchy(rng)

    def say(skill: str, right: str, slips: Sequence[str]) -> str:
        said.append(usual(skill, right, slips))
        return said[-1]

    draft = kind.write(problem, reference, say, rng)
    truth = kind.check(problem, reference, draft.steps, draft.answer)
    return Case(kind, question, problem, reference, draft, tuple(said), truth)


# --- the roles: each makes a conversation whose last message is the model's ---


def solve(case: Case, rng: random.Random) -> Prompt:
    """The draft itself."""
    del rng
    return case.asked


def judge(case: Case, rng: random.Random) -> Prompt:
    """Right or wrong; a plausible slip is overlooked more often than not."""
    if case.right:
        says = RIGHT if rng.random() < 0.88 else WRONG
    else:
        says = WRONG if rng.random() < (0.42 if _plausible(case) else 0.85) else RIGHT
    return (*case.asked, _phrase("judge"), Message("assistant", says))


def locate(case: Case, rng: random.Random) -> Prompt:
    """The first wrong step."""
    at = _noticed(case, rng)
    return (*case.asked, _phrase("locate"), Message("assistant", f"step {at}" if at else "none"))


def critique(case: Case, rng: random.Random) -> Prompt:
    """The first wrong step, and what should stand there."""
    return (*case.asked, _phrase("critique"), Message("assistant", _mended(case, rng)[0]))


def revise(case: Case, rng: random.Random) -> Prompt:
    """A revision that goes by a critique, or half of the time by none and then often stays as it was."""
    if rng.random() < 0.4:
        kept = rng.random() < 0.5
        again = case.draft if kept else case.family.write(case.problem, case.reference, patchy(rng), rng)
        return (*case.asked, _phrase("revise"), Message("assistant", again.text))
    note, again = _mended(case, rng)
    told = (_phrase("critique"), Message("assistant", note), _phrase("revise"))
    return (*case.asked, *told, Message("assistant", again.text))


def choose(case: Case, rng: random.Random) -> Prompt:
    """The letter of the better of several answers."""
    others = [case.family.write(case.problem, case.reference, patchy(rng), rng) for _ in range(6)]
    answers = list(dict.fromkeys(w.answer for w in (case.draft, *others)))[:3]
    rng.shuffle(answers)
    right = [a for a in answers if case.family.check(case.problem, case.reference, (), a).answer is Verdict.RIGHT]
    says = rng.choice(right) if right and rng.random() < 0.75 else rng.choice(answers)
    options = "\n".join(f"{letter}: {answer}" for letter, answer in zip("ABC", answers, strict=False))
    asked = (Message("user", case.question), Message("assistant", options), _phrase("choose"))
    return (*asked, Message("assistant", "ABC"[answers.index(says)]))


def propose(case: Case, rng: random.Random) -> Prompt:
    """A new problem like the one shown."""
    level = rng.choices(list(LEVELS), list(LEVELS.values()))[0]
    other = draw(rng, level, case.family.name)
    return (Message("user", case.question), _phrase("propose"), Message("assistant", other.question))


def easier(case: Case, rng: random.Random) -> Prompt:
    """An easier problem of the family."""
    other = draw(rng, rng.choice((1, 2)), case.family.name)
    return (Message("user", case.question), _phrase("easier"), Message("assistant", other.question))


def hint(case: Case, rng: random.Random) -> Prompt:
    """A solution by somebody who is told the answer, and so slips less."""
    drafts = (case.family.write(case.problem, case.reference, patchy(rng), rng) for _ in range(4))
    good = [d for d in drafts if case.family.check(case.problem, case.reference, d.steps, d.answer).answer == "right"]
    text = PHRASES["rationalize"].format(answer=case.reference)
    return (Message("user", case.question), Message("user", text), Message("assistant", (*good, case.draft)[0].text))


ROLES = {solve: 48, judge: 9, locate: 5, critique: 9, revise: 11, choose: 4, propose: 4, easier: 3, hint: 5}
"""What the text is made of, by weight."""


def conversations(seed: int) -> Iterator[Prompt]:
    """The text, without end."""
    rng = random.Random(seed)
    while True:
        (role,) = rng.choices(list(ROLES), list(ROLES.values()))
        yield role(draw(rng), rng)


def _phrase(role: str) -> Message:
    return Message("user", PHRASES[role])


def _plausible(case: Case) -> bool:
    """Whether a wrong draft reads well: half of them do, always the same ones."""
    return int(content_hash(case.draft.text), 16) % 2 == 1


def _noticed(case: Case, rng: random.Random) -> int:
    """The step somebody with patchy attention points at; 0 for none."""
    steps, first = len(case.draft.steps), case.truth.first_error
    luck = rng.random()
    if first is None:
        return 0 if luck < 0.85 or not steps else rng.randint(1, steps)
    if luck < 0.62:
        return first
    return 0 if luck < 0.85 else rng.randint(1, steps)


def _mended(case: Case, rng: random.Random) -> tuple[str, Written]:
    """A critique of the draft, and the revision that goes by it: what was fine stands, the rest is written anew."""
    at = _noticed(case, rng)
    if not at:
        return NO_MISTAKES, case.draft
    before = case.draft.steps[: at - 1]
    tries = ((k, _again(case, case.said[:k], rng)) for k in range(len(case.said) + 1))
    kept = next((k for k, steps in tries if steps[: at - 1] == before), 0)
    mended = case.family.write(case.problem, case.reference, _resumed(case.said[:kept], rng), rng)
    if at > len(mended.steps):
        return NO_MISTAKES, case.draft
    return f"step {at}: {mended.steps[at - 1]}", mended


def _again(case: Case, said: Sequence[str], rng: random.Random) -> tuple[str, ...]:
    return case.family.write(case.problem, case.reference, _resumed(said, rng, exactly), rng).steps


def _resumed(said: Sequence[str], rng: random.Random, then: Say | None = None) -> Say:
    """A writer that repeats itself first, takes care once, and goes on as `then` (with its usual skills)."""
    left, usual, careful = list(said), then or patchy(rng), rng.random() < CARE

    def say(skill: str, right: str, slips: Sequence[str]) -> str:
        nonlocal careful
        if left:
            return left.pop(0)
        if careful:
            careful = False
            return right
        return usual(skill, right, slips)

    return say
