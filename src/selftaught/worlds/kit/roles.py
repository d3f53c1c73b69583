"""The exact writers of all roles but solving: judge, verify, locate, critique, revise, choose, propose."""

from __future__ import annotations

import math
from collections.abc import Callable, Generator, Mapping
from dataclasses import replace
from typing import Protocol

from selftaught.records import Verdict
from selftaught.worlds.kit.conversation import Asked
from selftaught.worlds.kit.family import Belief, Checked, Context, split_reply
from selftaught.worlds.kit.language import (
    ANSWER,
    NEWLINE,
    NO_MISTAKES,
    NO_STEP,
    RIGHT,
    SOUND,
    STEP,
    UNSOUND,
    WAIT,
    WRONG,
    of_place,
    place,
    tokenize,
)  # fmt: skip
from selftaught.worlds.kit.process import END, Choice, Part, View, Writing, mixture, other_than, single


class RoleSkills(Protocol):
    """The rates that roles need of a world's skills."""

    @property
    def keeps(self) -> float:
        """Probability that a reviser without a critique keeps the answer."""
        ...

    @property
    def keeps_approved(self) -> float:
        """The same after a critique without mistakes."""
        ...

    @property
    def nags(self) -> float:
        """Probability that a critic finds fault with a step that provokes it."""
        ...

    @property
    def judges_broken(self) -> float:
        """Probability that a judge accepts a reply that is not in the language."""
        ...

    @property
    def position_bias(self) -> float:
        """Log-odds of the first of two answers that are alike to a judge."""
        ...


def acceptance(asked: Asked, text: str, skills: RoleSkills, view: View) -> float:
    """A judge's probability that a reply is right: that every line is, at a glance, and that the answer is theirs."""
    lines, answer = split_reply(text)
    beliefs = asked.family.beliefs(asked.problem, lines, view)
    standing = [beliefs[i - 1].glance for i in standing_lines(asked, text)]
    whole = bool(standing) and asked.family.concludes(asked.problem, lines, answer)
    return max(skills.judges_broken, asked.family.overall(standing) if whole else 0.0)


def checked(asked: Asked, text: str) -> Checked:
    """The true verdicts on a reply, without its reference."""
    return asked.family.check(asked.problem, None, *split_reply(text))


def judge(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """One word: right or wrong, with a calibrated probability."""
    p = acceptance(asked, asked.draft or "", skills, view)
    truly = RIGHT if checked(asked, asked.draft or "").answer is Verdict.RIGHT else WRONG
    yield single("judge", {RIGHT: p, WRONG: 1 - p}, ("judge", round(5 * p)), view)._replace(right=truly)
    yield END


def verify(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """A mark for each line, given those before it."""
    del skills
    for i, belief in enumerate(_beliefs(asked, view), 1):
        yield place(i)
        yield from _restated(belief)
        yield _mark(belief)
    yield END


def evaluate(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """A mark for the last line, given those before it."""
    del skills
    belief = (_beliefs(asked, view) or [Belief(0.0)])[-1]
    yield from _restated(belief)
    yield _mark(belief)
    yield END


def locate(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """Marks at a glance up to the first wrong line, then its number; or none."""
    del skills
    wrong = yield from _glance_over(asked, asked.draft or "", view)
    yield from _certain(STEP, of_place(wrong), END) if wrong else _certain(NO_STEP, END)


def _glance_over(asked: Asked, text: str, view: View) -> Generator[Choice | str, str, int]:
    """Quote and mark lines at a glance up to the first wrong one; returns its number, or 0."""
    withdrawn, lines = checked(asked, text).withdrawn, split_reply(text)[0]
    for i, belief in enumerate(asked.family.beliefs(asked.problem, lines, view), 1):
        yield from _certain(place(i), *_begun(lines[i - 1]))
        if (yield SOUND if i in withdrawn else _glanced(belief)) == UNSOUND:
            return i
    return 0


def _begun(line: str) -> list[str]:
    """What is quoted of a line that is marked: what it is done to and how; nothing where it is no step."""
    numbered, *rest = tokenize(line) or [""]
    return rest[:2] if numbered.endswith(") ") and len(rest) == 3 else []


def _glanced(belief: Belief) -> Choice | str:
    if belief.key is None:
        return _mark(belief)
    options = {SOUND: belief.glance, UNSOUND: 1 - belief.glance}
    return single("locate", options)._replace(right=SOUND if belief.truly else UNSOUND)


def critique(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """Marks up to the first wrong line, then its number and what should stand there."""
    lines = split_reply(asked.draft or "")[0]
    withdrawn = checked(asked, asked.draft or "").withdrawn
    for i, belief in enumerate(_beliefs(asked, view), 1):
        yield place(i)
        yield from _restated(belief)
        if (yield SOUND if i in withdrawn else _found(belief, skills, view)) == UNSOUND:
            given, options = asked.family.correction(asked.problem, lines, i, view)
            yield from _certain(NEWLINE, STEP, of_place(i), *tokenize(given))
            found = asked.family.locate(asked.problem, None, asked.draft or "")
            right = found.result if found is not None and found.step == i else None
            yield single("critique:result", other_than(tokenize(lines[i - 1])[-1], options))._replace(right=right)
            yield END
            return
    yield from _certain(NEWLINE, NO_MISTAKES, END)


def _found(belief: Belief, skills: RoleSkills, view: View) -> Choice | str:
    """A mark in a critique: a step that provokes the critic may be found fault with, whatever it believes."""
    mark = _mark(belief)
    if isinstance(mark, str) or not belief.provoked:
        return mark
    nag = Part(skills.nags, {UNSOUND: 1.0}, name="nag")
    own = mark.parts[0]._replace(weight=1 - skills.nags, name="own")
    return mixture("critique:mark", [nag, own], ("nag",), view)._replace(right=mark.right)


def revise(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """Answer again: by the critique, or else the same again or afresh.

    Without a critique the same again is the answer alone.
    """
    text, correction = asked.draft or "", asked.correction
    standing, (lines, answer) = standing_lines(asked, text), split_reply(text)
    context = Context(asked.demonstrations, view=view)
    if correction is not None and 1 <= correction.step <= len(lines) + 1:
        kept = tuple(line for i, line in standing.items() if i < correction.step)
        correction = correction._replace(step=len(kept) + 1)
        return asked.family.solve(asked.problem, replace(context, correction=correction, kept=kept))
    draft = f"{ANSWER} {answer}" if answer else ""
    if asked.approved:
        draft = NEWLINE.join([*standing.values(), draft])
    share = (skills.keeps_approved if asked.approved else skills.keeps) if answer else 0.0
    gate = ("keep", asked.approved, round(5 * acceptance(asked, text, skills, view)))
    return keeping(asked.family.solve(asked.problem, context), draft, share, gate, view)


def standing_lines(asked: Asked, text: str) -> dict[int, str]:
    """The lines of a reply that no later one replaces, by their number from 1."""
    withdrawn = checked(asked, text).withdrawn
    return {i: line for i, line in enumerate(split_reply(text)[0], 1) if i not in withdrawn and line != WAIT}


def keeping(writing: Writing, draft: str, share: float, gate: tuple[object, ...] | None, view: View) -> Writing:
    """A writing that copies a draft instead where its first decision falls as the draft's did.

    With probability `share` it is made to; a reply that begins in another way is a new one. So what goes on shows from
    the beginning, and a reader of the reply needs to weigh nothing up.
    """
    weight: float = view(gate, {"copy": share, "new": 1 - share})["copy"] if share else 0.0
    step: Choice | str | None = next(writing)
    for expected in (*tokenize(draft), END):
        if weight <= 0 or (step is None and weight < 1):
            break
        if step is None or weight >= 1 or _is_certain(step, expected):
            token = yield expected if step is None or _is_certain(step, expected) else copied(expected)
            weight = weight if token == expected else 0.0
        else:
            token = yield _copy_or_new(step, expected, weight, gate)
            weight = float(token == expected)
        if token == END:
            return
        step = _next(writing, step, token)
    while step is not None:
        token = yield step
        if token == END:
            return
        step = _next(writing, step, token)


def copied(token: str) -> Choice:
    """A token that is copied, where a new reply would have had a choice: it counts like one."""
    return single("revise:copy", {token: 1.0})


def _is_certain(step: Choice | str, expected: str) -> bool:
    return step == expected if isinstance(step, str) else dict(step.distribution()) == {expected: 1.0}


def _next(writing: Writing, step: Choice | str | None, token: str) -> Choice | str | None:
    """What comes after a token; None where the writing has come to its end."""
    try:
        return None if step is None else writing.send(token)
    except StopIteration:
        return None


def _copy_or_new(step: Choice | str, expected: str, weight: float, gate: object) -> Choice:
    """The next token of the draft, or one of the new reply."""
    new = (Part(1.0, {step: 1.0}),) if isinstance(step, str) else step.parts
    skill = "revise" if isinstance(step, str) else f"revise:{step.skill}"
    parts = [Part(weight, {expected: 1.0}, name="copy")]
    parts += [part._replace(weight=part.weight * (1 - weight), name="new") for part in new]
    return mixture(skill, parts, gate)  # type: ignore[arg-type]


def choose(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """Marks of both answers at a glance, then the letter of the one that stands, or of either.

    An answer that its steps do not lead to does not stand.
    """
    stands: list[bool] = []
    for letter, text in zip("AB", asked.options, strict=True):
        yield letter
        lines, answer = split_reply(text)
        if lines and asked.family.concludes(asked.problem, lines, answer):
            stands.append(not (yield from _glance_over(asked, text, view)))
        else:
            yield UNSOUND
            stands.append(False)
        yield NEWLINE
    first = 1 / (1 + math.exp(-skills.position_bias)) if stands[0] == stands[1] else float(stands[0])
    yield from _certain("[", "[")
    yield single("choose", {"A": first, "B": 1 - first}, ("choose", *stands), view)
    yield from _certain("]", "]", END)


def easier(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """An easier question."""
    del skills
    return asked.family.propose(asked.problem, True, view)


def propose(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """Another question like the one shown."""
    del skills
    return asked.family.propose(asked.problem, False, view)


def direct(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """The answer without steps."""
    del skills
    return asked.family.direct(asked.problem, view)


def solve(asked: Asked, skills: RoleSkills, view: View) -> Writing:
    """A solution; with a hint, one that is led by it."""
    del skills
    return asked.family.solve(asked.problem, Context(asked.demonstrations, asked.hint, view=view))


RoleWriter = Callable[[Asked, RoleSkills, View], Writing]

WRITERS: Mapping[str, RoleWriter] = {
    "solve": solve,
    "rationalize": solve,
    "judge": judge,
    "verify": verify,
    "evaluate": evaluate,
    "locate": locate,
    "critique": critique,
    "revise": revise,
    "choose": choose,
    "easier": easier,
    "propose": propose,
    "direct": direct,
}
"""Role -> its writer."""


def _beliefs(asked: Asked, view: View) -> list[Belief]:
    return asked.family.beliefs(asked.problem, split_reply(asked.draft or "")[0], view)


def _restated(belief: Belief) -> Writing:
    """What the critic writes before its mark."""
    return _certain(*tokenize(belief.restated))


def _certain(*tokens: str) -> Writing:
    """Tokens that are no decisions; unlike a tuple it takes what is sent."""
    for token in tokens:  # noqa: UP028
        yield token


def _mark(belief: Belief) -> Choice | str:
    if belief.key is None:
        return SOUND if belief.right else UNSOUND
    options = {SOUND: belief.right, UNSOUND: 1 - belief.right}
    return Choice("mark", (Part(1.0, options, belief.key),), right=SOUND if belief.truly else UNSOUND)
