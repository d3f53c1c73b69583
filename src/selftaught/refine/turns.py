"""Turns of a conversation about an attempt: criticise it, revise it, judge it, mark its steps; and their replies, read.

Each turn is a solver that goes on from an attempt: `run.attempt(critic, attempts, solver=criticise)`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

from selftaught.models import Policy
from selftaught.records import Attempt, Message, Problem, Prompt
from selftaught.run.ask import Ask

CRITIQUE = (
    "Check the answer above step by step. If something is wrong, name the first wrong step by its number and say what"
    " should stand there, as in: step 2: 65 - 5 = 60. If nothing is wrong, write only: no mistakes."
)
REVISE = "Now answer the question again, mending what the feedback says. Keep the form the question asks for."
AGAIN = (
    "There may be a mistake in the answer above. Look through it, mend what is wrong, and answer the question again in"
    " full. Keep the form the question asks for."
)
JUDGE = "Is the answer above right? Reply with one word: right or wrong."
VERIFY = (
    "Check each step of the answer above in turn. Reply with one mark for each step and nothing else: + where the step"
    " is right, - where it is wrong, as in: ++-"
)

_STEP = re.compile(r"\bstep (\d{1,3})\b", re.IGNORECASE)
_MARKS = re.compile(r"[-+]+")


async def criticise(ask: Ask, attempt: Attempt, critic: Policy | None = None, **sampling: Any) -> Attempt:
    """What is wrong with an attempt, and where; a critique.

    Args:
        critic: who writes it, by default the policy that solves.
        sampling: fields of `Sampling` to change; as in the other turns.
    """
    request = ask.with_turn(asked(attempt), "critique", CRITIQUE)
    return await ask(request, role="critique", parent=attempt, policy=critic, **sampling)


async def revise(ask: Ask, note: Attempt, **sampling: Any) -> Attempt:
    """The answer again, going by a critique of it. The critique's prompt holds the question and the answer."""
    return await ask(ask.with_turn(said(note), "revise", REVISE), role="revise", parent=note, **sampling)


async def mend(ask: Ask, attempt: Attempt, turns: int = 1, critic: Policy | None = None, **sampling: Any) -> Attempt:
    """The attempt, criticised and revised up to `turns` times, until the critic is satisfied.

    Each turn sees the question, the latest answer and its critique alone. A turn whose request failed comes back in
    place of an answer.
    """
    for _ in range(turns):
        note = await criticise(ask, attempt, critic, **sampling)
        if note.failed:  # without its critique the solving has no answer: the draft is no revision
            return note
        if satisfied(note) or not note.text:
            break
        attempt = await revise(ask, note, **sampling)
    return attempt


async def again(ask: Ask, attempt: Attempt, **sampling: Any) -> Attempt:
    """A second answer, unasked for by any critique: told only that there may be a mistake (SCoRe, 2409.12917)."""
    return await ask(doubted(ask.with_turn, attempt), role="revise", parent=attempt, **sampling)


async def two_turns(ask: Ask, problem: Problem) -> Attempt:
    """An answer, and `again`."""
    return await again(ask, await ask(problem.prompt))


def doubted(turn: Callable[..., Prompt], attempt: Attempt) -> Prompt:
    """What asks for a second answer. `turn` is the task's (`Task.turn`, `Ask.turn`)."""
    return turn(asked(attempt), "revise", AGAIN)


async def judge(ask: Ask, attempt: Attempt) -> Attempt:
    """Whether an attempt is right, in a word."""
    return await ask(ask.with_turn(asked(attempt), "judge", JUDGE), role="judge", parent=attempt)


async def mark_steps(ask: Ask, attempt: Attempt) -> Attempt:
    """A mark for each step of an attempt."""
    return await ask(ask.with_turn(asked(attempt), "verify", VERIFY), role="judge", parent=attempt)


def said(attempt: Attempt) -> Prompt:
    """The conversation up to an attempt and the attempt itself."""
    return (*attempt.prompt, Message("assistant", attempt.text))


def asked(attempt: Attempt) -> Prompt:
    """The problem's own question and the attempt as the reply to it: how it came about is nobody's business."""
    return (*attempt.problem.prompt, Message("assistant", attempt.text))


def satisfied(note: Attempt) -> bool:
    """Whether a critic found nothing to mend."""
    return "no mistakes" in note.text.lower()


def located(note: Attempt) -> int | None:
    """The step that a critique points at, from 1; None for none."""
    return None if satisfied(note) else step_in(note.text)


def step_in(text: str) -> int | None:
    """The first step that a text names by its number."""
    found = _STEP.search(text)
    return int(found[1]) if found else None


def accepted(note: Attempt) -> bool | None:
    """Whether a judge called the attempt right; None where the reply is neither right nor wrong."""
    word = note.text.strip().lower()
    return True if word.startswith("right") else False if word.startswith("wrong") else None


def marks(note: Attempt) -> tuple[float, ...] | None:
    """For each step, how sure a reply to `mark_steps` is that it is right, 0..1; None where it holds no marks.

    Where each mark is a token of its own, the probability of "+" there, taken as all that "-" leaves; else 1 or 0.
    """
    text = note.text.strip()
    if not _MARKS.fullmatch(text):
        return None
    if len(note.logprobs) - len(note.text) not in (0, 1) or text != note.text:
        return tuple(float(mark == "+") for mark in text)
    chances = [math.exp(logprob) for logprob in note.logprobs[: len(text)]]
    return tuple(p if mark == "+" else 1 - p for mark, p in zip(text, chances, strict=True))
