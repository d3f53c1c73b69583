"""Rewards by judges and asynchronous functions: computed beside sampling, journaled, and resumed exactly."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
import torch
from learn_models import WORDS, make_policy, weights

from selftaught import Ask, Attempt, BadInput, Feedback, Verdict, judge, judge_reward
from selftaught.console import Console
from selftaught.engines import Sampling
from selftaught.engines.local.engine import LocalEngine
from selftaught.feedback.verifiers import Exact
from selftaught.learn.objectives import grpo
from selftaught.learn.online.rollouts import CreditAssignment, Rollout
from selftaught.models import Policy
from selftaught.records import make_problem
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task

GOOD = frozenset(WORDS[: len(WORDS) // 2])  # a random model says one of these about half the time
PROBLEMS = [make_problem(text) for text in ("what is one", "how red is the cat", "what is two plus two", "how")]
HOW = {"learning_rate": 1e-2, "precision": "float32", "batch_size": 2, "warmup_ratio": 0.0, "checkpoint_seconds": 0.0}


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Policy:
    return make_policy(tmp_path_factory.mktemp("base"), spread=0.1)


def opened(folder: Path, base: Policy) -> Run:
    task = Task("words", PROBLEMS, [make_problem("dog")], [], verifier=Exact(), kind=Kind.TEXT)
    engine = LocalEngine(dtype="float32", device="cpu", max_batch_size=16)
    return Run(
        folder, model=base, task=task, engine=engine, settings=Settings(sampling=Sampling(max_tokens=2)),
        console=Console(quiet=True),
    )  # fmt: skip


def good(attempt: Attempt) -> bool:
    return (attempt.text.split() or [""])[0] in GOOD


@judge()
async def likes(ask: Ask, attempt: Attempt) -> Feedback:
    """Likes good words, and asks the model something, which costs tokens; has no opinion of a long second word."""
    assert not attempt.feedback
    reply = await ask(f"is {attempt.text} good", parent=attempt)
    if not attempt.text.split():
        return Feedback(Verdict.UNKNOWN, text=reply.text)
    return Feedback(Verdict.UNKNOWN, 0.2 + 0.6 * good(attempt), reply.text)


def train(run: Run, credit: CreditAssignment, steps: int = 3) -> Policy:
    return run.learn_online(
        run.base, run.task.train, objective=grpo(kl_coef=0.01), credit=credit, steps=steps, samples=8, **HOW
    )


def steps_of(run: Run) -> list[dict[str, Any]]:
    return [facts for _, _, facts, _ in run.journal.effects("online")]


@pytest.mark.parametrize("frozen", [True, False])
def test_a_judge_s_reward_rises_and_its_tokens_are_counted(base: Policy, tmp_path: Path, frozen: bool) -> None:
    with opened(tmp_path, base) as run:
        policy = train(run, CreditAssignment(reward=judge_reward(likes, run.base if frozen else None)), steps=6)
        told, usage = steps_of(run), run.ledger.usage
        roles = {payload["role"]: payload["policy"] for _, _, payload, _ in run.journal.effects("sample")}
        judgments = [payload for _, _, payload, _ in run.journal.effects("judgment")]
    assert told[-1]["reward"] > told[0]["reward"] + 0.1
    assert usage.judge > 0
    assert (roles["judge"] == base.version) is frozen
    assert len(judgments) == sum(facts["rollouts"] for facts in told)
    assert {one["policy"] for one in judgments} == ({base.version} if frozen else {facts["live"] for facts in told})
    with opened(tmp_path, base) as run:  # a rerun pays nothing and comes to the same
        reward = judge_reward(likes, run.base if frozen else None)
        assert train(run, CreditAssignment(reward=reward), steps=6) == policy
        assert (run.ledger.usage, run.engine.busy_seconds) == (usage, 0)


def test_killed_while_it_is_judged_and_run_again_it_ends_with_the_same_weights(base: Policy, tmp_path: Path) -> None:
    calls = 0

    class Killed(BaseException):
        """As an interrupt: nothing catches it on the way."""

    def deadly(at: int | None) -> Any:
        async def inner(ask: Ask, attempt: Attempt) -> Feedback:
            nonlocal calls
            calls += 1
            if calls == at:
                raise Killed
            return await likes(ask, attempt)

        inner.__dict__["id"] = "same"
        return inner

    with pytest.raises(Killed), opened(tmp_path / "killed", base) as run:
        train(run, CreditAssignment(reward=judge_reward(deadly(16 + 7), run.base)))
    found = []
    for folder in ("killed", "whole"):
        with opened(tmp_path / folder, base) as run:
            policy = train(run, CreditAssignment(reward=judge_reward(deadly(None), run.base)))
            found.append((policy.version, weights(policy.path), steps_of(run), run.ledger.usage))
            assert run.ledger.usage == run.journal.usage()
    (version, first, told, usage), (other, second, retold, spent) = found
    assert (version, usage, told) == (other, spent, retold)
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_an_asynchronous_reward_runs_beside_sampling_and_is_asked_once(base: Policy, tmp_path: Path) -> None:
    calls: list[str] = []
    at_once, most = 0, 0

    async def reward(rollout: Rollout) -> float | None:
        nonlocal at_once, most
        calls.append(rollout.attempt.id)
        number = len(calls)
        at_once += 1
        most = max(most, at_once)
        await asyncio.sleep(0.02)
        at_once -= 1
        return None if number % 8 == 0 else float(good(rollout.attempt))

    reward.__dict__["id"] = "words"
    with opened(tmp_path, base) as run:
        policy, told = train(run, CreditAssignment(reward=reward), steps=2), steps_of(run)
    assert most > 4
    assert len(set(calls)) == len(calls) == 32
    assert [facts["unrewarded"] for facts in told] == [2, 2]
    with opened(tmp_path, base) as run:
        assert train(run, CreditAssignment(reward=reward), steps=2) == policy
    assert len(calls) == 32  # what it said is in the journal


def test_a_reward_that_is_no_number_and_a_judge_of_pairs_are_one_line(base: Policy, tmp_path: Path) -> None:
    async def wrong(rollout: Rollout) -> Any:
        return "good"

    async def pairs(ask: Ask, pair: tuple[Attempt, Attempt]) -> tuple[Feedback, Feedback]:
        return Feedback(Verdict.RIGHT), Feedback(Verdict.WRONG)

    with opened(tmp_path, base) as run, pytest.raises(BadInput, match="the reward is 'good'; return a finite number"):
        train(run, CreditAssignment(reward=wrong), steps=1)
    with pytest.raises(BadInput, match="it judges pairs of attempts, got 1 at a time"):
        judge_reward(pairs, base)  # pyright: ignore[reportArgumentType]
