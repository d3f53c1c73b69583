"""Wrong use of a run's verbs, of `ask`, and of sampling options: one line that says what, where, and what to do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.learn import sft
from selftaught.learn.objectives import grpo
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.method import judge
from selftaught.models.notes import Notes
from selftaught.records import Attempt, Demo, Feedback, Problem, Verdict
from selftaught.run.ask import Ask
from selftaught.run.judge_reward import judge_reward
from selftaught.run.requests import JournaledEngine
from selftaught.run.run import Run
from selftaught.run.scoring import HeadReading, _values  # pyright: ignore[reportPrivateUsage]
from selftaught.testing import make_run


async def right(ask: Ask, attempt: Attempt) -> Feedback:
    """A judge that likes everything."""
    del ask, attempt
    return Feedback(Verdict.RIGHT)


@judge(paper="2501.00001")
async def likes(ask: Ask, attempt: Attempt) -> Feedback:
    """Like everything."""
    return await right(ask, attempt)


def tried(run: Run) -> list[Attempt]:
    return run.attempt(run.base, run.task.train[:2])


def demo(run: Run) -> Demo:
    return Demo(run.task.train[0].prompt, "x")


class Meddling:
    """A judge that uses the run that calls it."""

    id = "meddling"

    def __init__(self, run: Run) -> None:
        self._run = run

    async def __call__(self, ask: Ask, attempt: Attempt) -> Feedback:
        self._run.attempt(self._run.base, [attempt.problem])
        return await right(ask, attempt)


VERBS: dict[str, tuple[Callable[[Any], Any], str]] = {
    "attempt of a problem": (
        lambda run: run.attempt(run.base, run.task.train[0]),
        "run.attempt: got a Problem, expected a list of Problem or Attempt; pass a list, of one: [...]",
    ),
    "attempt of texts": (
        lambda run: run.attempt(run.base, ["What is 1 + 1?"]),
        "run.attempt: got 'What is 1 + 1?' in the list; pass Problem or Attempt alone",
    ),
    "attempt of a generator": (
        lambda run: run.attempt(run.base, (p for p in run.task.train)),
        "run.attempt: got the generator <genexpr>, expected a list of Problem or Attempt",
    ),
    "samples of another type": (
        lambda run: run.attempt(run.base, run.task.train, samples=1.5),
        "samples must be a whole number, got 1.5",
    ),
    "judge of an attempt": (
        lambda run: run.judge(run.base, tried(run)[0], right),
        "run.judge: got an Attempt, expected a list of Attempt; pass a list, of one: [...]",
    ),
    "judge before attempts": (
        lambda run: run.judge(run.base, right, tried(run)),
        "run.judge: got the function right, expected a list of Attempt",
    ),
    "a judge that uses the run": (
        lambda run: run.judge(run.base, tried(run), Meddling(run)),
        "a solver or a judge cannot use the run that calls it; sample with",
    ),
    "nll of an attempt": (
        lambda run: run.nll(run.base, tried(run)[0]),
        "run.nll: got an Attempt, expected a list of Attempt",
    ),
    "nll of problems": (
        lambda run: run.nll(run.base, run.task.train),
        "run.nll: got a Problem in the list; pass Attempt alone",
    ),
    "score of an attempt": (
        lambda run: run.score(run.base, tried(run)[0]),
        "run.score: got an Attempt, expected a list of Problem or Attempt",
    ),
    "ensemble of a policy": (
        lambda run: run.measure_ensemble(run.base),
        "run.measure_ensemble: got a Policy, expected a list of Policy",
    ),
    "new problem": (
        lambda run: run.new_problems(run.task.pose("What is 61 + 14?")),
        "new_problems: got a Problem, expected a list of Problem",
    ),
    "notes that are a text": (
        lambda run: run.write_notes(run.base, "Think step by step."),
        "run.write_notes: got 'Think step by step.', expected Notes; pass Notes(system=...)",
    ),
    "sources that are an attempt": (
        lambda run: run.write_notes(run.base, Notes(system="Add the tens first."), sources=tried(run)[0]),
        "run.write_notes(sources=): got an Attempt, expected a list of Problem or Attempt",
    ),
    "learn of a record": (
        lambda run: run.learn(run.base, sft(), demo(run)),
        "run.learn: got a Demo, expected a list of records",
    ),
    "learn by a factory": (
        lambda run: run.learn(run.base, sft, [demo(run)]),
        "run.learn: got the class Sft, expected an objective; call it, as in learn.sft()",
    ),
    "learn_online of a problem": (
        lambda run: run.learn_online(run.base, run.task.train[0]),
        "run.learn_online: got a Problem, expected a list of Problem",
    ),
    "learn_online by a factory": (
        lambda run: run.learn_online(run.base, run.task.train, objective=grpo),
        "run.learn_online: got the function grpo, expected an objective; call it, as in learn.sft()",
    ),
    "temperature that is a text": (
        lambda run: run.attempt(run.base, run.task.train, temperature="hot"),
        "temperature: temperature must be a number, got 'hot'; pass a number without quotes",
    ),
}


def tuning(records: Any = None, objective: Any = None, steps: Any = 1) -> Callable[[Ask, Problem], Awaitable[Any]]:
    def tuned(ask: Ask, problem: Problem) -> Awaitable[Any]:
        given = [Demo(problem.prompt, "x")] if records is None else records(problem)
        return ask.tuned(given, objective or sft(), steps)

    return tuned


IN_A_SOLVER: dict[str, tuple[Callable[[Any, Any], Awaitable[Any]], str]] = {
    "act after a text": (
        lambda ask, p: ask.act("x", p.question),
        "ask.act: got 'What is 11 + 10?', expected Observation; pass the observation itself, or None at the start",
    ),
    "act with a number": (lambda ask, _: ask.act(5, None), "ask.act: got 5, expected Attempt or str"),
    "choose from a generator": (
        lambda ask, p: ask.choose(p.prompt, (one for one in "ab")),
        "ask.choose: options must be non-empty texts, got <generator",
    ),
    "choose from a dict": (
        lambda ask, p: ask.choose(p.prompt, {"a": 1, "b": 2}),
        "ask.choose: options must be non-empty texts, got {'a': 1, 'b': 2}; write them as a list",
    ),
    "likelihood of a number": (
        lambda ask, p: ask.loglikelihood(p.prompt, 5),
        "ask.loglikelihood: got 5, expected str; pass the text to read",
    ),
    "tuned by a factory": (
        tuning(objective=sft),
        "ask.tuned: got the class Sft, expected an objective; call it, as in learn.sft()",
    ),
    "tuned on a problem": (
        tuning(records=lambda p: [p]),
        "ask.tuned: got a Problem in the list, which is no record; pass records such as Demo(prompt, target)",
    ),
    "tuned on one record": (
        tuning(records=lambda p: Demo(p.prompt, "x")),
        "ask.tuned: got a Demo, expected a list of records",
    ),
    "tuned for parts of a step": (tuning(steps=1.5), "steps must be a whole number, got 1.5"),
    "top_logprobs that is a text": (
        lambda ask, p: ask(p.prompt, top_logprobs="3"),
        "top_logprobs: top_logprobs must be a whole number, got '3'; write the number of tokens, such as 5",
    ),
    "top_logprobs that is a fraction": (
        lambda ask, p: ask(p.prompt, top_logprobs=2.5),
        "top_logprobs must be a whole number, got 2.5",
    ),
    "top_logprobs that is true": (
        lambda ask, p: ask(p.prompt, top_logprobs=True),
        "top_logprobs must be a whole number, got True",
    ),
}


def in_a_solver(deed: Callable[[Ask, Any], Awaitable[Any]], run: Run) -> Any:
    async def solving(ask: Ask, problem: Problem) -> Attempt:
        await deed(ask, problem)
        return await ask(problem.prompt)

    return run.attempt(run.base, run.task.train[:1], solver=solving)


TABLE = VERBS | {
    f"{name} in a solver": (partial(in_a_solver, deed), line) for name, (deed, line) in IN_A_SOLVER.items()
}


@pytest.mark.parametrize(("deed", "message"), TABLE.values(), ids=TABLE)
def test_wrong_use_is_one_line(tmp_path: Path, deed: Callable[[Run], Any], message: str) -> None:
    with make_run(tmp_path) as run, pytest.raises(BadInput) as refused:
        deed(run)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"temperature": None}, "temperature must be a number, got None"),
        ({"temperature": True}, "temperature must be a number, got True"),
        ({"top_p": "0.9"}, "top_p must be a number, got '0.9'"),
        ({"top_k": 2.5}, "top_k must be a whole number, got 2.5"),
        ({"max_tokens": "many"}, "max_tokens must be a whole number, got 'many'"),
        ({"max_tokens": float("inf")}, "max_tokens must be a whole number, got inf"),
        ({"stop": 5}, "stop must be a tuple of non-empty strings, got 5"),
        ({"stop": (5,)}, "stop must be a tuple of non-empty strings, got (5,)"),
    ],
)
def test_a_sampling_option_of_another_type_is_one_line(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(BadInput) as refused:
        Sampling(**fields)
    assert message in str(refused.value)


def two_arguments(rollout: Any, more: Any) -> float:
    del rollout, more
    return 1.0


@pytest.mark.parametrize("reward", [likes, right, two_arguments, 1.0])
def test_what_is_no_reward_is_refused_with_the_way_to_judges(reward: Any) -> None:
    with pytest.raises(BadInput, match=r"CreditAssignment\(reward=\).*takes no rollout alone;.*judge_reward\(judge"):
        CreditAssignment(reward=reward)


def test_what_takes_a_rollout_alone_is_a_reward() -> None:
    rewards: list[Any] = [judge_reward(likes, None), lambda _, scale=2.0: scale, partial(two_arguments, more=1), max]
    for reward in rewards:
        assert CreditAssignment(reward=reward).reward is reward


@pytest.mark.parametrize("verb", ["nll", "loglikelihood", "score"])
def test_a_batch_that_is_given_up_pays_for_no_reading(tmp_path: Path, verb: str) -> None:
    with make_run(tmp_path) as run:
        (one,) = run.attempt(run.base, run.task.train[:1])
        before, count = run.ledger.usage, run.journal.count
        context = run._context
        engine = JournaledEngine(
            context.engine, run.task, run.journal, context.ledger, context.sampler._counts, 0, context.notes_reader
        )
        reads: dict[str, Callable[[], Any]] = {
            "nll": lambda: engine.nll(run.base, one),
            "loglikelihood": lambda: engine.loglikelihood(run.base, one.problem, one.prompt, one.text),
            "score": lambda: _values(engine, HeadReading(run.base, one.prompt, one.text, (len(one.text),), one.id)),
        }
        engine.failure = LookupError("given up")
        with pytest.raises(LookupError, match="given up"):
            asyncio.run(reads[verb]())
        assert run.ledger.usage == before
        assert count(verb) == 0
        engine.failure = None
        asyncio.run(reads[verb]())
        assert count(verb) == 1
        assert run.ledger.usage.prompt - before.prompt == len(one.prompt[-1].content) + len(one.text)
