"""Conversation turns about an attempt (criticize, revise, judge, score its steps), and parsers of their replies.

Each turn is a solver that takes an attempt in place of a problem: `run.attempt(critic, attempts, solver=criticize)`.
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
SELF_CORRECT = (
    "There may be a mistake in the answer above. Look through it, mend what is wrong, and answer the question again in"
    " full. Keep the form the question asks for."
)
JUDGE = "Is the answer above right? Reply with one word: right or wrong."
SCORE_STEPS = (
    "Check each step of the answer above in turn. Reply with one mark for each step and nothing else: + where the step"
    " is right, - where it is wrong, as in: ++-"
)

_STEP = re.compile(r"\bstep (\d{1,3})\b(?!: (?:right|correct)\b)", re.IGNORECASE)
_NUMBER = re.compile(r"\d+")
_MARK = re.compile(r"(?P<number>\d+\)\s*)?(?P<look>\d+ [-+*]\d+ )?(?P<result>\d+|\?)?(?P<mark>[-+])")


async def criticize(ask: Ask, attempt: Attempt, critic: Policy | None = None, **sampling: Any) -> Attempt:
    """Write a critique of an attempt: what is wrong, and in which step.

    Args:
        critic: policy that writes it; by default the policy that solves.
        sampling: fields of `Sampling` to change; the same in the other turns.
    """
    request = ask.with_turn(answer_turn(attempt), "critique", CRITIQUE)
    return await ask(request, role="critique", parent=attempt, policy=critic, **sampling)


async def revise(ask: Ask, critique: Attempt, **sampling: Any) -> Attempt:
    """Answer again with the help of a critique, whose prompt holds the question and the first answer."""
    return await ask(ask.with_turn(transcript(critique), "revise", REVISE), role="revise", parent=critique, **sampling)


async def critique_and_revise(
    ask: Ask, attempt: Attempt, max_turns: int = 1, critic: Policy | None = None, **sampling: Any
) -> Attempt:
    """Criticize and revise an attempt until the critic finds no mistakes, at most `max_turns` times.

    Each turn sees only the question, the latest answer and its critique. Where the request for a critique fails, that
    failed request is returned in place of an answer.
    """
    for _ in range(max_turns):
        critique = await criticize(ask, attempt, critic, **sampling)
        if critique.failed:  # an uncriticized draft must not count as a revision
            return critique
        if finds_no_error(critique) or not critique.text:
            break
        attempt = await revise(ask, critique, **sampling)
    return attempt


async def second_attempt(ask: Ask, attempt: Attempt, **sampling: Any) -> Attempt:
    """Answer again after the instruction that there may be a mistake, without a critique (SCoRe, 2409.12917)."""
    return await ask(self_correction_prompt(ask.with_turn, attempt), role="revise", parent=attempt, **sampling)


async def two_turns(ask: Ask, problem: Problem) -> Attempt:
    """Answer, then answer again by `second_attempt`."""
    return await second_attempt(ask, await ask(problem.prompt))


def self_correction_prompt(turn: Callable[..., Prompt], attempt: Attempt) -> Prompt:
    """The prompt for a second attempt. `turn` is `Task.turn` or `Ask.with_turn`."""
    return turn(answer_turn(attempt), "revise", SELF_CORRECT)


async def judge_answer(ask: Ask, attempt: Attempt) -> Attempt:
    """Ask in one word whether an attempt is right; `parse_verdict` reads the reply."""
    return await ask(ask.with_turn(answer_turn(attempt), "judge", JUDGE), role="judge", parent=attempt)


async def score_steps(ask: Ask, attempt: Attempt) -> Attempt:
    """Ask for a mark, + or -, for each step of an attempt; `step_scores` reads the reply."""
    return await ask(ask.with_turn(answer_turn(attempt), "verify", SCORE_STEPS), role="judge", parent=attempt)


def transcript(attempt: Attempt) -> Prompt:
    """The whole conversation up to and including an attempt."""
    return (*attempt.prompt, Message("assistant", attempt.text))


def answer_turn(attempt: Attempt) -> Prompt:
    """The problem's question with the attempt as its reply; the turns that led to the attempt are left out."""
    return (*attempt.problem.prompt, Message("assistant", attempt.text))


def finds_no_error(critique: Attempt) -> bool:
    """Whether a critique says that nothing is wrong."""
    return "no mistakes" in critique.text.lower()


def error_step(critique: Attempt) -> int | None:
    """Number of the step that a critique points at, from 1; None if it points at none."""
    return None if finds_no_error(critique) else first_step_number(critique.text)


def first_step_number(text: str) -> int | None:
    """The first step number that a text mentions, other than of one marked "step 1: right"; None if there is none."""
    found = _STEP.search(text)
    return int(found[1]) if found else None


def keeps_steps(draft: str, revised: str, tolerance: int = 2) -> bool:
    """Whether a revision still shows its work: at most so many fewer numbers than the draft.

    Source: the shortcut barrier in the authors' code of 2411.16579 (`inference.py`), which a revision passes too if it
    has as many numbers as the reference solution; that is not used here.
    """
    return len(_NUMBER.findall(revised)) >= len(_NUMBER.findall(draft)) - tolerance


def parse_verdict(reply: Attempt) -> bool | None:
    """Whether a reply to `judge_answer` says right (True) or wrong (False); None where it says neither."""
    word = reply.text.strip().lower()
    return True if word.startswith("right") else False if word.startswith("wrong") else None


def step_scores(reply: Attempt) -> tuple[float, ...] | None:
    """For each step the probability, in 0..1, that a reply to `score_steps` gives it of being right.

    A mark may have the number of its step before it, a look-up that checks it, and what that should come to
    (`1) 47+2) 50-`, `1) 23 +4 27+`). Where each of these is one token, the probability of "+", taken as 1 minus that of
    "-"; otherwise 1 or 0. None where the reply holds anything else.
    """
    text = reply.text.strip()
    found = list(_MARK.finditer(text))
    if not found or "".join(mark[0] for mark in found) != text:
        return None
    marks = [mark["mark"] for mark in found]
    each = 1 + sum(bool(found[0][part]) for part in ("number", "look", "result"))  # tokens for a mark
    if len(reply.logprobs) - each * len(marks) not in (0, 1) or text != reply.text:
        return tuple(float(mark == "+") for mark in marks)
    probabilities = [math.exp(logprob) for logprob in reply.logprobs[each - 1 : each * len(marks) : each]]
    return tuple(p if mark == "+" else 1 - p for mark, p in zip(marks, probabilities, strict=True))
