"""Scores by a trained head: what is read, what it costs, and what is refused."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught import Ask, Attempt, Label, Problem, Run, orm, p_ik, prm, recipe, reward_model, sft
from selftaught.console import Console
from selftaught.engines import BaseEngine, HeadValues, RequestRefused, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.journal import Usage
from selftaught.learn import TrainConfig
from selftaught.measure import auroc
from selftaught.models import Policy
from selftaught.models.heads import head_config
from selftaught.models.notes import Notes
from selftaught.records import Prompt, RolloutGroup, ScoredSteps
from selftaught.run.settings import Settings
from selftaught.testing import assert_survives, make_run, make_task
from selftaught.testing.sums import solve_sum


class Reading(ScriptedEngine):
    """The head's number is the length of what it has read, over 100; every reading is noted."""

    def __init__(self) -> None:
        super().__init__(solve_sum, scorer=lambda _, prompt, text: (len(prompt[-1].content) * 1000 + len(text)) / 1000)
        self.read: list[tuple[str, str, tuple[int, ...]]] = []

    async def scores(self, policy: Policy, prompt: Prompt, text: str, ends: Any) -> HeadValues:
        self.read.append((policy.version, text, tuple(ends)))
        if text == "unread":
            raise RequestRefused("too long to read")
        return await super().scores(policy, prompt, text, ends)


def trained(run: Run, objective: Any = None) -> Policy:
    """A policy with a head, by the scripted learner."""
    attempts = run.attempt(run.base, run.task.train[:2], samples=2)
    if objective is not None and objective.takes == (RolloutGroup,):
        return run.learn(run.base, objective, [RolloutGroup(tuple(attempts[:2]), (1.0, 0.0))])
    return run.learn(run.base, objective or orm(), [Label(a.prompt, a.text, a.right, (a.id,)) for a in attempts])


def sigmoid(value: float) -> float:
    return 1 / (1 + math.exp(-value))


def test_each_place_is_read_where_the_text_ends_there_and_through_its_link(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Reading()) as run:
        policy, rated = trained(run), trained(run, reward_model())
        tried = run.attempt(run.base, run.task.train[:3])
        first = tried[0]
        lines = run.task.steps.split(first.text)
        size = len(first.prompt[-1].content)
        assert run.score(policy, tried)[0] == pytest.approx(sigmoid(size + len(first.text) / 1000), abs=1e-6)
        assert run.score(rated, tried)[0] == pytest.approx(size + len(first.text) / 1000)
        steps = run.score(rated, tried, at="steps")[0]
        assert len(steps) == len(lines) == 2
        assert steps == pytest.approx((size + len(lines[0]) / 1000, size + len(first.text) / 1000))


def test_a_question_is_read_once_for_all_attempts_at_it(tmp_path: Path) -> None:
    engine = Reading()
    with make_run(tmp_path, engine=engine) as run:
        policy = trained(run, p_ik())
        tried = run.attempt(run.base, run.task.train[:2], samples=3)
        found = run.score(policy, [*tried, *run.task.train[:2]], "question")
        assert found[:3] == [found[0]] * 3 == [found[6]] * 3
        assert found[3] == found[7]
        assert [(text, ends) for _, text, ends in engine.read] == [("", (0,))] * 2


def test_a_reading_costs_prompt_tokens_and_is_never_paid_twice(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        engine = Reading()
        with make_run(tmp_path, engine=engine) as run:
            policy = trained(run)
            tried = run.attempt(run.base, run.task.train[:2])
            before = run.ledger.usage
            scores = run.score(policy, [*tried, *tried])
            size = sum(len(a.prompt[-1].content.encode()) + len(a.text.encode()) for a in tried)
            assert run.ledger.usage == before + Usage(prompt=size)
            assert run.score(policy, tried, at="steps")
            assert run.ledger.usage == before + Usage(prompt=2 * size)  # other places are another reading
            assert run.ledger.usage == run.journal.usage()
            found.append((scores, run.journal.digest(), len(engine.read)))
    assert found[0][:2] == found[1][:2]
    assert [calls for *_, calls in found] == [4, 0]


def test_what_has_no_answer_or_cannot_be_read_is_nan(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Reading()) as run:
        policy = trained(run)
        (one,) = run.attempt(run.base, run.task.train[:1])
        failed = replace(one, sample=replace(one.sample, finish_reason="error"))
        unread, empty = replace(one, text="unread"), replace(one, text="")
        scores = run.score(policy, [one, failed, unread, empty])
        assert [math.isnan(score) for score in scores] == [False, True, True, False]
        assert [len(s) for s in run.score(policy, [one, failed, unread, empty], "steps")] == [2, 0, 1, 0]
        assert run.request_counts["refused"] == 1  # both ask for the same place


async def best_of_two(ask: Ask, problem: Problem, *, judge: Policy) -> Attempt:
    drafts = await ask.sample(problem.prompt, 2, temperature=0.7)
    scores = [await ask.score(draft, judge) for draft in drafts]
    steps = await ask.score(drafts[0], judge, at="steps")
    assert len(steps) == 2
    assert not ask.has_head
    return drafts[scores.index(max(scores))]


def test_a_solver_scores_with_another_policy_anywhere(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Reading()) as run:
        judge = trained(run)
        solver = partial(best_of_two, judge=judge)
        tried = run.attempt(run.base, run.task.train[:4], solver=solver)
        assert len(tried) == 4
        (one,) = run.solve(run.base, run.task.test[:1], "test", solver=solver)
        assert one.attempt.problem == run.task.test[0]
        assert run.measure(run.base, solver=solver).n == len(run.task.dev)
        assert run.ledger.usage == run.journal.usage()


def test_a_run_that_scores_survives_kills(tmp_path: Path) -> None:
    def work(run: Run) -> Any:
        policy = trained(run)
        tried = run.attempt(run.base, run.task.train[:3])
        solved = run.attempt(run.base, run.task.train[:2], solver=partial(best_of_two, judge=policy))
        return run.score(policy, tried), run.score(policy, tried, "steps"), [a.id for a in solved]

    def opened(name: str) -> Run:
        return make_run(tmp_path / name, engine=Reading(), task=make_task(train=4, dev=2, test=1))

    assert_survives(work, opened, every=True)


class Blind(ScriptedEngine):
    """Reads no heads."""

    scores = BaseEngine.scores


def test_what_cannot_be_scored_is_refused_in_a_line(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Reading()) as run:
        policy, asked = trained(run), trained(run, p_ik())
        tried = run.attempt(run.base, run.task.train[:1])
        remote = Policy("far", tmp_path, remote="gpt-x")
        for who, at, line in (
            (run.base, "end", "policy base-model: it has no value head that scores answers; train one, as with"),
            (remote, "end", "gpt-x: a model behind an endpoint has no value head to read; score with a policy"),
            (asked, "end", "its value head was not trained to be read at 'end'; use at='question'"),
            (policy, "question", "was not trained to be read at 'question'; use at='end' or 'steps'"),
            (policy, "stes", "unknown place 'stes'; did you mean 'steps'"),
        ):
            with pytest.raises(BadInput, match=line) as refused:
                run.score(who, tried, at)  # pyright: ignore[reportArgumentType, reportCallIssue]
            assert "\n" not in str(refused.value)
        with pytest.raises(BadInput, match="a problem has no answer to score; pass attempts"):
            run.score(policy, run.task.train[:1])


def test_a_method_scores_dev_but_not_test(tmp_path: Path) -> None:
    @recipe(needs=("verifier",))
    def scoring(run: Run, base: Policy, task: Any) -> Policy:
        policy = trained(run, p_ik())
        assert len(run.score(policy, task.dev, "question")) == len(task.dev)
        with pytest.raises(BadInput, match="scoring: it attempts test problems, which are closed"):
            run.score(policy, make_task().test, "question")
        return base

    with make_run(tmp_path, engine=Reading()) as run:
        scoring(run, run.base, run.task)


def test_a_reward_model_reads_its_notes_before_the_prompt(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Reading()) as run:
        policy = trained(run, reward_model())
        noted = policy.with_notes(Notes("Be strict."))
        (tried,) = run.attempt(run.base, run.task.train[:1])
        plain = run.score(policy, [tried])
        before = run.ledger.usage.prompt
        assert run.score(noted, [tried]) == plain  # the same weights; the engine's head reads the last message alone
        read = run.ledger.usage.prompt - before
        assert read == len(tried.prompt[-1].content.encode()) + len(tried.text.encode()) + len("Be strict.")


def test_an_engine_that_reads_no_heads_refuses_in_a_line(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Blind(solve_sum)) as run:
        policy = trained(run)
        with pytest.raises(BadInput, match="engine scripted: it cannot read a value head; use the local engine"):
            run.score(policy, run.attempt(run.base, run.task.train[:1]))


def test_the_manifest_says_what_a_head_means() -> None:
    links = {"sigmoid": (orm(), prm(), p_ik()), "identity": (reward_model(), prm("regression"))}
    for link, objectives in links.items():
        assert all(objective.head is not None and objective.head.link == link for objective in objectives)
    assert sft().head is None
    head = orm().head
    assert head is not None
    assert [head.score(value) for value in (0.0, 800.0, -800.0)] == [0.5, 1.0, 0.0]


def test_a_trained_head_tells_right_from_wrong_on_a_tiny_model(tiny: Any, tmp_path: Path) -> None:
    """With the local engine and a real training; steps and end agree where the last step ends the answer."""
    settings = Settings(training=TrainConfig(epochs=6, batch_size=8, learning_rate=3e-3, precision="float32"))
    task = make_task(train=8, dev=2, test=1)
    with Run(tmp_path / "run", model=tiny("llama"), task=task, settings=settings, console=Console(quiet=True)) as run:
        tried = run.attempt(run.base, task.train, max_tokens=4)
        shown = [(p, good, f"so\nAnswer: {'yes' if good else 'no'}") for p in task.train[:4] for good in (True, False)]
        attempts = [replace(tried[0], problem=p, prompt=p.prompt, text=text) for p, _, text in shown]
        policy = run.learn(
            run.base, orm(), [Label(a.prompt, a.text, s[1]) for a, s in zip(attempts, shown, strict=True)]
        )
        scores, rights = run.score(policy, attempts), [good for _, good, _ in shown]
        assert auroc(scores, rights) == 1
        assert all(0 < score < 1 for score in scores)
        assert [steps[-1] for steps in run.score(policy, attempts, at="steps")] == pytest.approx(scores, abs=1e-5)
        steps = [
            ScoredSteps(a.prompt, ("so\n", a.text[3:]), (0.5, float(r))) for a, r in zip(attempts, rights, strict=True)
        ]
        read = run.score(run.learn(run.base, prm(), steps), attempts, at="steps")
        assert auroc([last for _, last in read], rights) == 1
        assert head_config(policy, "end").link == "sigmoid"
