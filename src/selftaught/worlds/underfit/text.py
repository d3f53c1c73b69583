"""The training text of the underfit model: deliberately imperfect, so that the model can improve.

The solutions are by a writer with uneven skills. Most steps are nearly always right; a heavy one is wrong more
often than right, mostly in the same digit, so that the model's most likely continuation is wrong although it also
knows the right one. Sums and products are sometimes written in the other order, which may be easier: this is why
votes help. Judges and critics overlook the most frequent error, a dropped carry, more often than any other.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from selftaught.records import Message, Prompt, Verdict, content_hash
from selftaught.worlds.underfit.families import FAMILIES, Checked, Family, WriteStep, Written, exactly, split_reply
from selftaught.worlds.underfit.language import NO_MISTAKES, PHRASES, RIGHT, SOUND, UNSOUND, WRONG, family_of

SKILLS = {
    "plain": (0.99, 0.005), "carry": (0.93, 0.04), "heavy": (0.32, 0.32), "search": (0.6, 0.4), "way": (0.65, 0.35)
}  # fmt: skip
"""Skill -> probability that a writer is right, and that it makes the most frequent error."""

OVERLOOKED = 0.35  # probability that judges and critics overlook a dropped carry
CARE = 0.85  # probability that a reviser corrects a step rightly

LEVEL_WEIGHTS = {1: 2, 2: 3, 3: 4, 4: 3}
"""Levels in the text, and their weights; the level above is held out."""

FAMILY_WEIGHTS = {"chain": 4, "add": 3, "target": 3, "equation": 5, "program": 5, "choice": 4, "claim": 3}


WriterChoice = tuple[bool, str]
"""Whether it was a choice between right alternatives, and the text chosen."""


@dataclass(frozen=True, slots=True)
class Case:
    """A problem with a draft of its solution, its writer's choices, and its true verdicts.

    `overlooked`: whether the first error is a dropped carry, which is easily missed.
    """

    family: Family
    question: str
    problem: Any
    reference: Any
    draft: Written
    said: tuple[WriterChoice, ...]
    truth: Checked
    overlooked: bool

    @property
    def asked(self) -> Prompt:
        """The question, and the draft as its reply."""
        return (Message("user", self.question), Message("assistant", self.draft.text))

    @property
    def right(self) -> bool:
        """Whether the draft's answer is right."""
        return self.truth.answer is Verdict.RIGHT


def case_of_draft(question: str, reference: Any, text: str) -> Case | None:
    """The case of a given draft; None if it has no steps or no answer."""
    family = FAMILIES[family_of(question) or ""]
    problem, (steps, answer) = family.read(question), split_reply(text)
    if not steps or answer is None:
        return None
    truth = family.check(problem, reference, steps, answer)
    return Case(family, question, problem, reference, Written(steps, answer), (), truth, False)


def imperfect_writer(rng: random.Random) -> WriteStep:
    """A `WriteStep` with the skills in `SKILLS`."""

    def say(skill: str, right: str, slips: Sequence[str]) -> str:
        well, usual = SKILLS[skill]
        luck = rng.random()
        if luck < well:
            return right
        return slips[0] if luck < well + usual else rng.choice(slips)

    return say


def is_held_out(question: str) -> bool:
    """Whether a question is held out of the text: half of all are, and tasks use only those."""
    return int(content_hash(question), 16) % 2 == 1


def questions(rng: random.Random, level: int | None = None, family: str | None = None) -> Iterator[tuple[str, Any]]:
    """Infinite questions of the text with their references, none of them held out."""
    while True:
        kind = FAMILIES[family or rng.choices(list(FAMILY_WEIGHTS), list(FAMILY_WEIGHTS.values()))[0]]
        question, reference = kind.question(
            level or rng.choices(list(LEVEL_WEIGHTS), list(LEVEL_WEIGHTS.values()))[0], rng
        )
        while is_held_out(question):
            question, reference = kind.question(
                level or rng.choices(list(LEVEL_WEIGHTS), list(LEVEL_WEIGHTS.values()))[0], rng
            )
        yield question, reference


def draw_case(rng: random.Random, level: int | None = None, family: str | None = None) -> Case:
    """A case of the text: a question that is not held out, with an imperfect writer's draft."""
    question, reference = next(questions(rng, level, family))
    kind = FAMILIES[family_of(question) or ""]
    problem = kind.read(question)
    said: list[WriterChoice] = []
    mistakes: list[bool] = []
    usual = imperfect_writer(rng)

    def say(skill: str, right: str, slips: Sequence[str]) -> str:
        says = usual(skill, right, slips)
        said.append((skill == "way", says))
        if says != right and skill != "way":
            mistakes.append(skill == "heavy" and int(right) - int(says) == 10)
        return says

    draft = kind.write(problem, reference, say, rng)
    truth = kind.check(problem, reference, draft.steps, draft.answer)
    return Case(kind, question, problem, reference, draft, tuple(said), truth, mistakes[:1] == [True])


# --- roles: each makes a conversation that ends in the model's message ---


def solve_example(case: Case, rng: random.Random) -> Prompt:
    """The draft itself."""
    del rng
    return case.asked


def judge_example(case: Case, rng: random.Random) -> Prompt:
    """Right or wrong."""
    wrong = rng.random() < (0.04 if case.right else 1 - OVERLOOKED if case.overlooked else 0.95)
    says = WRONG if wrong else RIGHT
    return (*case.asked, _phrase("judge"), Message("assistant", says))


def verify_example(case: Case, rng: random.Random) -> Prompt:
    """A mark for each step, given those before it."""
    at, truth = _noticed(case, rng), case.truth
    seen = [verdict is Verdict.RIGHT for verdict in truth.steps]
    if at != (truth.first_error or 0):
        seen = [True] * len(seen) if not at else [i != at for i in range(1, len(seen) + 1)]
    marks = "".join(SOUND if sound else UNSOUND for sound in seen)
    return (*case.asked, _phrase("verify"), Message("assistant", marks))


def locate_example(case: Case, rng: random.Random) -> Prompt:
    """The first wrong step."""
    at = _noticed(case, rng)
    return (*case.asked, _phrase("locate"), Message("assistant", f"step {at}" if at else "none"))


def critique_example(case: Case, rng: random.Random) -> Prompt:
    """The first wrong step, with its correction."""
    return (*case.asked, _phrase("critique"), Message("assistant", _mended(case, rng)[0]))


def revise_example(case: Case, rng: random.Random) -> Prompt:
    """A revision after a critique, or sometimes without one, then often unchanged."""
    if rng.random() < 0.4:
        kept = rng.random() < 0.5
        again = case.draft if kept else case.family.write(case.problem, case.reference, imperfect_writer(rng), rng)
        return (*case.asked, _phrase("revise"), Message("assistant", again.text))
    note, again = _mended(case, rng)
    told = (_phrase("critique"), Message("assistant", note), _phrase("revise"))
    return (*case.asked, *told, Message("assistant", again.text))


def choose_example(case: Case, rng: random.Random) -> Prompt:
    """The letter of the better of several answers."""
    others = [case.family.write(case.problem, case.reference, imperfect_writer(rng), rng) for _ in range(6)]
    answers = list(dict.fromkeys(w.answer for w in (case.draft, *others)))[:3]
    rng.shuffle(answers)
    right = [a for a in answers if case.family.check(case.problem, case.reference, (), a).answer is Verdict.RIGHT]
    says = rng.choice(right) if right and rng.random() < 0.75 else rng.choice(answers)
    options = "\n".join(f"{letter}: {answer}" for letter, answer in zip("ABC", answers, strict=False))
    asked = (Message("user", case.question), Message("assistant", options), _phrase("choose"))
    return (*asked, Message("assistant", "ABC"[answers.index(says)]))


def propose_example(case: Case, rng: random.Random) -> Prompt:
    """A new problem like the one shown."""
    level = rng.choices(list(LEVEL_WEIGHTS), list(LEVEL_WEIGHTS.values()))[0]
    other = draw_case(rng, level, case.family.name)
    return (Message("user", case.question), _phrase("propose"), Message("assistant", other.question))


def easier_example(case: Case, rng: random.Random) -> Prompt:
    """An easier problem of the family."""
    other = draw_case(rng, rng.choice((1, 2)), case.family.name)
    return (Message("user", case.question), _phrase("easier"), Message("assistant", other.question))


def hint_example(case: Case, rng: random.Random) -> Prompt:
    """A solution written with the answer as a hint, with fewer errors."""
    drafts = (case.family.write(case.problem, case.reference, imperfect_writer(rng), rng) for _ in range(4))
    good = [d for d in drafts if case.family.check(case.problem, case.reference, d.steps, d.answer).answer == "right"]
    text = PHRASES["rationalize"].format(answer=case.reference)
    return (Message("user", case.question), Message("user", text), Message("assistant", (*good, case.draft)[0].text))


def remark_example(case: Case, rng: random.Random) -> Prompt:
    """A critique of any writer's draft: the first wrong step, with a right one."""
    at = _noticed(case, rng)
    better = case.family.proceed(case.problem, case.reference, case.draft.steps[: at - 1]) if at else None
    return (*case.asked, _phrase("critique"), Message("assistant", f"step {at}: {better}" if better else NO_MISTAKES))


def _phrase(role: str) -> Message:
    return Message("user", PHRASES[role])


def _noticed(case: Case, rng: random.Random) -> int:
    """The step named by an imperfect critic; 0 for none."""
    steps, first = len(case.draft.steps), case.truth.first_error
    luck = rng.random()
    if first is None:
        return 0 if luck < 0.96 or not steps else rng.randint(1, steps)
    if luck < (1 - OVERLOOKED if case.overlooked else 0.9):
        return first
    return 0 if luck < 0.96 else rng.randint(1, steps)


def _mended(case: Case, rng: random.Random) -> tuple[str, Written]:
    """A critique of the draft, and its revision: right steps are kept, the rest is rewritten."""
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


def _again(case: Case, said: Sequence[WriterChoice], rng: random.Random) -> tuple[str, ...]:
    return case.family.write(case.problem, case.reference, _resumed(said, rng, exactly), rng).steps


def _resumed(said: Sequence[WriterChoice], rng: random.Random, then: WriteStep | None = None) -> WriteStep:
    """A writer that first repeats itself, takes care once, and continues as `then` (with its usual skills)."""
    left, usual, careful = list(said), then or imperfect_writer(rng), rng.random() < CARE

    def say(skill: str, right: str, slips: Sequence[str]) -> str:
        nonlocal careful
        if left and left[0][0] == (skill == "way"):
            return left.pop(0)[1]
        left.clear()  # on a different path, earlier choices do not apply
        if careful and skill != "way":
            careful = False
            return right
        return usual(skill, right, slips)

    return say
