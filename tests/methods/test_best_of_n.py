"""Best-of-N: which answer it returns, by whose head, on scripted answers."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest

from selftaught import Label, Policy, Run, orm
from selftaught.engines import Request, ScriptedEngine
from selftaught.method import find
from selftaught.records import Prompt
from selftaught.run.solver import SolverResult
from selftaught.testing import make_run, make_task, sums

BEST = find("best-of-n")
TEXTS = ["zz 1\nAnswer: 1", "y 2\nAnswer: 2", "x 3\nAnswer: 3", "longest 2\nAnswer: 2"]


def engine(texts: list[str]) -> ScriptedEngine:
    """Answers with the texts in turn; a head prefers "x", then "y", then others by their length."""
    left = iter(texts)

    def score(_: Policy, prompt: Prompt, text: str) -> float:
        del prompt
        return 3.0 if text.startswith("x") else 2.0 if text.startswith("y") else len(text) / 100

    def script(_: Policy, request: Request) -> str:
        return next(left) if request.sampling.temperature == 0.7 else "Answer: 0"

    return ScriptedEngine(script, scorer=score)


def solve(run: Run, policy: Policy, **options: object) -> SolverResult:
    solver = BEST.with_options(samples=4, **options)
    (one,) = run.solve(policy, sums(1), "x", solver=solver, verify=False)
    return one


def reward_model(run: Run) -> Policy:
    (one,) = run.attempt(run.base, run.task.train[:1], temperature=0.5)
    return run.learn(run.base, orm(), [Label(one.prompt, one.text, True, (one.id,))])


def test_it_returns_what_the_reward_model_scores_highest(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(), engine=engine(TEXTS)) as run:
        one = solve(run, run.base, reward_model=reward_model(run))
    assert one.attempt.text == TEXTS[2]
    assert one.attempt.feedback[-1].score == pytest.approx(0.952574)  # sigmoid(3)
    assert one.tokens == sum(len(text.encode()) for text in TEXTS)


def test_the_best_vote(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(), engine=engine(TEXTS)) as run:
        rm = reward_model(run)
        one = solve(run, run.base, reward_model=str(rm.path), voters=3)  # x: 3, y: 2, longest: 2
    assert (one.attempt.answer, one.attempt.text) == ("2", TEXTS[1])
    assert one.attempt.feedback[-1].score == pytest.approx(2 / 3)


def test_a_policy_with_a_head_judges_itself_and_one_without_by_likelihood(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(), engine=engine(TEXTS * 2)) as run:
        own = solve(run, reward_model(run))
        likely = solve(run, run.base)
    assert own.attempt.text == TEXTS[2]
    means = [sum(-(byte + 1) / 256 for byte in text.encode()) / len(text.encode()) for text in TEXTS]
    assert likely.attempt.text == TEXTS[means.index(max(means))]
    assert likely.attempt.judgments == () or likely.attempt.feedback[-1].score is None


def test_the_same_reward_model_anywhere_is_the_same_solver(tmp_path: Path) -> None:
    from selftaught.identity import identify

    here, there, other = Policy("v1", tmp_path / "a"), Policy("v1", tmp_path / "b"), Policy("v2", tmp_path / "a")
    same = [identify(BEST.with_options(reward_model=policy)) for policy in (here, there)]
    assert same[0] == same[1]
    assert same[0].name == 'best-of-n(reward_model="v1")'
    assert not same[0].ambiguity
    assert identify(BEST.with_options(reward_model=other)).key != same[0].key
    assert identify(partial(BEST, reward_model=here)).key == same[0].key
