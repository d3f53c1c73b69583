"""The curriculum of the world's model: the mix of examples in each stage."""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from selftaught.records import Prompt
from selftaught.worlds.underfit.families import Written
from selftaught.worlds.underfit.text import (
    Case,
    choose_example,
    critique_example,
    draw_case,
    easier_example,
    hint_example,
    judge_example,
    locate_example,
    propose_example,
    remark_example,
    revise_example,
    solve_example,
    verify_example,
)

CRITICAL = (judge_example, verify_example, locate_example, critique_example, revise_example)


OWN_DRAFT_ROLES = (
    judge_example,
    verify_example,
    locate_example,
    remark_example,
)  # examples that do not need to know how a draft was written


HARDER = {2: 1, 3: 3, 4: 3}  # levels of drafts to criticize: easy ones have few errors


@dataclass(frozen=True)
class Curriculum:
    """A stage of the training text.

    Attributes:
        roles: kinds of examples and their weights.
        again: probability of redrawing a right draft that is to be criticized.
        corruption: probability of replacing a character in a draft that is to be criticized.
        drafts: whether to also train on the drafts, not only on the replies about them.
        own: whether drafts for `OWN_DRAFT_ROLES` are sampled from the model.
    """

    roles: Mapping[Callable[[Case, random.Random], Prompt], int]
    again: float = 0.0
    corruption: float = 0.0
    drafts: bool = True
    own: bool = False


SOLVING = Curriculum(
    {
        solve_example: 20,
        judge_example: 14,
        verify_example: 20,
        locate_example: 8,
        critique_example: 14,
        revise_example: 14,
        choose_example: 3,
        propose_example: 3,
        easier_example: 2,
        hint_example: 2,
    }
)


CRITICIZING = Curriculum(
    {
        solve_example: 13,
        judge_example: 22,
        verify_example: 20,
        locate_example: 11,
        critique_example: 15,
        revise_example: 12,
        choose_example: 3,
        propose_example: 2,
        easier_example: 1,
        hint_example: 1,
    },
    again=0.7,
    corruption=0.25,
    drafts=False,
)


REVIEWING = replace(
    CRITICIZING,
    roles={
        solve_example: 16,
        judge_example: 26,
        verify_example: 16,
        locate_example: 12,
        remark_example: 12,
        revise_example: 10,
        choose_example: 3,
        propose_example: 3,
        easier_example: 2,
    },
    own=True,
)


CURRICULA = (SOLVING, CRITICIZING, REVIEWING)
"""The stages in order: judging needs arithmetic, and the model's own errors differ from those of the text."""


def conversations(seed: int, lesson: Curriculum = SOLVING, own: Sequence[Case] = ()) -> Iterator[Prompt]:
    """The infinite text of a stage.

    Args:
        own: the model's own drafts, for a stage on them; if there are none, those of the text are used.
    """
    rng = random.Random(seed)
    # Right and wrong drafts equally often: otherwise judges learn the base rate.
    coin = [some for some in ([c for c in own if c.right], [c for c in own if not c.right]) if some]
    while True:
        (role,) = rng.choices(list(lesson.roles), list(lesson.roles.values()))
        if lesson.own and coin and role in OWN_DRAFT_ROLES:
            yield role(rng.choice(rng.choice(coin)), rng)
            continue
        critical = role in CRITICAL
        level = rng.choices(list(HARDER), list(HARDER.values()))[0] if critical else None
        case = draw_case(rng, level)
        if critical and lesson.again:
            case = _worse(case, level, lesson, rng)
        yield role(case, rng)


def _worse(case: Case, level: int | None, lesson: Curriculum, rng: random.Random) -> Case:
    """A case that is more likely to have errors."""
    while case.right and rng.random() < lesson.again:
        case = draw_case(rng, level)
    return corrupt(case, rng) if rng.random() < lesson.corruption else case


def corrupt(case: Case, rng: random.Random) -> Case:
    """The case with one digit or letter of a step replaced by another."""
    steps = list(case.draft.steps)
    at = rng.randrange(len(steps))
    places = [i for i, character in enumerate(steps[at]) if character.isalnum()]
    place = rng.choice(places)
    old = steps[at][place]
    kind = string.digits if old.isdigit() else string.ascii_lowercase[:8] if old.islower() else "RFLSD"
    new = rng.choice([character for character in kind if character != old])
    steps[at] = steps[at][:place] + new + steps[at][place + 1 :]
    truth = case.family.check(case.problem, case.reference, steps, case.draft.answer)
    return replace(case, draft=Written(tuple(steps), case.draft.answer), truth=truth, overlooked=False)
