"""A solver that plays: it acts in the task's environment until the episode ends."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from selftaught.records import Attempt, Message, Problem, Prompt
from selftaught.run.ask import Ask


async def play(ask: Ask, problem: Problem, max_turns: int = 0, **sampling: Any) -> Attempt:
    """Sample an action, let the environment answer, and go on until the episode is over.

    The policy reads the problem's prompt, and all actions and observations so far, as a chat: observations are the
    user's messages. Only actions are sampled, so that only they are credited in online RL.

    Args:
        max_turns: actions at most, below the environment's own limit; 0 for that limit.
        sampling: fields of `Sampling` to change.

    Returns:
        The last action; "unfinished" if the limit came before the end. If a request fails, that failed request.

    Raises:
        BadInput: the task has no environment.
    """
    prompt, seen, attempt, turns = problem.prompt, None, None, 0
    while True:
        attempt = await ask(prompt, parent=attempt, **sampling)
        if attempt.failed:
            return attempt
        seen, turns = await ask.act(attempt, seen), turns + 1
        if seen.done or turns == max_turns:
            return attempt if seen.done and not seen.truncated else unfinished(attempt)
        prompt = answered(attempt, seen.text)


def unfinished(attempt: Attempt) -> Attempt:
    """An attempt with which an episode was left before its end."""
    return replace(attempt, sample=replace(attempt.sample, finish_reason="unfinished"))


def answered(attempt: Attempt, observation: str) -> Prompt:
    """The conversation up to an action and the environment's answer to it."""
    return (*attempt.prompt, Message("assistant", attempt.text), Message("user", observation))
