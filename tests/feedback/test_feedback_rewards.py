"""Reward functions written for TRL's trainers, as verifiers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from selftaught.errors import BadInput
from selftaught.feedback.jobs import user_job
from selftaught.feedback.rewards import call_reward
from selftaught.feedback.user import UserFunction, call_form, user_verifier
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.records import Message, Problem, Verdict, make_problem

RIGHT, WRONG, UNKNOWN = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
PLAIN = make_problem("What is 2 + 3?", "5", {"prompt": "What is 2 + 3?", "answer": "5", "level": 3})
MESSAGES = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "What is 2 + 3?"}]
CHAT = make_problem(MESSAGES, "5", {"prompt": MESSAGES, "ground_truth": "5"})
ONE_MESSAGE = make_problem("hi", None, {"messages": [{"role": "user", "content": "hi"}]})


def judge(function: Callable[..., Any], problem: Problem = PLAIN, text: str = "It is 5") -> tuple[str, Any, str]:
    """What the worker makes of it, without a process of its own."""
    import cloudpickle

    return user_job(cloudpickle.dumps(function), call_form(function, "f"))((cloudpickle.dumps(problem), text))


def given(problem: Problem, text: str, *names: str) -> dict[str, Any]:
    """What a reward function is called with."""
    seen: dict[str, Any] = {}

    def reward(prompts: Any, completions: Any, **kwargs: Any) -> list[float]:
        seen.update(kwargs, prompts=prompts, completions=completions)
        return [0.0]

    call_reward(reward, problem, text)
    return {name: seen[name] for name in names}


def by_length(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
    return [float(len(completion) > 3) for completion in completions]


def by_answer(completions: list[str], answer: list[str], **kwargs: Any) -> list[float]:
    return [1.0 if a in c else 0.25 for c, a in zip(completions, answer, strict=True)]


async def later(prompts: list[str], completions: list[str], **kwargs: Any) -> list[float]:
    return [1.0 for _ in completions]


def by_message(completions: Any, ground_truth: Any) -> list[float]:
    return [float(c[0]["content"] == g) for c, g in zip(completions, ground_truth, strict=True)]


class Scorer:
    def __call__(self, prompts: Any, completions: Any, **kwargs: Any) -> Any:
        return np.array([0.5])


@pytest.mark.parametrize(
    ("function", "problem", "text", "verdict", "score"),
    [
        (by_length, PLAIN, "long enough", RIGHT, 1.0),
        (by_length, PLAIN, "no", WRONG, 0.0),
        (by_answer, PLAIN, "It is 5", RIGHT, 1.0),
        (by_answer, PLAIN, "It is 6", WRONG, 0.25),
        (later, PLAIN, "x", RIGHT, 1.0),
        (by_message, CHAT, "5", RIGHT, 1.0),
        (by_message, CHAT, "6", WRONG, 0.0),
        (Scorer(), PLAIN, "x", WRONG, 0.5),
        (functools.partial(by_length, prompts=None), PLAIN, "long enough", RIGHT, 1.0),
        (lambda completions, **kwargs: [True], PLAIN, "x", RIGHT, 1.0),
        (lambda completions, **kwargs: [None], PLAIN, "x", UNKNOWN, None),
        (lambda completions, solution, **kwargs: [float(solution == ["5"])], PLAIN, "x", RIGHT, 1.0),
    ],
)
def test_a_reward_function_is_called_as_its_trainer_would(
    function: Callable[..., Any], problem: Problem, text: str, verdict: Verdict, score: float | None
) -> None:
    assert judge(function, problem, text)[:2] == (verdict, score)


def test_texts_and_messages_go_by_the_form_of_the_data() -> None:
    assert given(PLAIN, "5", "prompts", "completions", "answer", "level") == {
        "prompts": ["What is 2 + 3?"], "completions": ["5"], "answer": ["5"], "level": [3]
    }  # fmt: skip
    said = [[{"role": "assistant", "content": "5"}]]
    assert given(CHAT, "5", "prompts", "completions") == {"prompts": [MESSAGES], "completions": said}
    assert given(ONE_MESSAGE, "5", "completions") == {"completions": said}
    turns = (Message("user", "a"), Message("assistant", "b"), Message("user", "c"))
    assert given(make_problem(turns), "5", "completions") == {"completions": said}


@pytest.mark.parametrize(
    ("result", "said"),
    [
        (0.5, "returned a float for one completion"),
        ([1.0, 0.0], "returned 2 rewards"),
        ([], "0 rew"),
    ],
)
def test_anything_but_one_reward_for_one_completion_is_told(result: Any, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        judge(lambda completions, **kwargs: result)


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (lambda completions, completion_ids: [1.0], "takes 'completion_ids', which only a trainer can provide"),
        (
            lambda prompts, completions, trainer_state, **kwargs: [1.0],
            "takes 'trainer_state', which only",
        ),
        (
            lambda completions, tests, **kwargs: [1.0],
            "takes 'tests', which is not a column of the data; its columns are answer",
        ),
    ],
)
def test_what_no_verifier_can_hand_over_is_refused_at_once(function: Callable[..., Any], said: str) -> None:
    with pytest.raises(BadInput, match=said):
        user_verifier(function, [PLAIN])


def test_a_reward_function_runs_in_a_process_of_its_own() -> None:
    verifier = UserFunction(by_answer)
    try:
        found = verifier.judge(PLAIN, ExtractedAnswer("5", None, None), None)
        assert (found.verdict, found.score) == (RIGHT, 1.0)
        assert not verifier.needs_reference
    finally:
        verifier.close()
