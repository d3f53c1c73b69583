"""What a method cannot see: the test split, verdicts on what it is measured on, references it did not declare."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught.control import Budget
from selftaught.control.budget import RunStopped
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.learn.online.rollouts import CreditAssignment
from selftaught.measure.flips import correction_metrics
from selftaught.method import recipe, solver, study
from selftaught.models import Policy
from selftaught.records import HIDDEN, Attempt, Problem, ReferenceHidden, Verdict
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.tasks.task import hide
from selftaught.testing import make_run, make_task

Deed = Callable[[Run, Task], Any]


def inside(folder: Path, deed: Deed, needs: tuple[Any, ...] = ("verifier",), **settings: Any) -> Any:
    """What a recipe with those needs gets by `deed`."""
    found = []

    def mine(run: Run, base: Policy, task: Task) -> Policy:
        found.append(deed(run, task))
        return base

    with make_run(folder, settings=Settings(**settings)) as run:
        recipe(needs=needs)(mine)(run, run.base, run.task)
    return found[0]


def answer(problem: Problem) -> str:
    return f"Answer: {sum(map(int, re.findall('[0-9]+', problem.question)))}"


async def reading(ask: Ask, problem: Problem) -> Attempt:
    return await ask(f"{problem.question} Is it {problem.reference}?")


TEST = [hide(problem) for problem in make_task().test]
"""As a method might know them from elsewhere: its task shows none."""

CLOSED: dict[str, Deed] = {
    "the test split": lambda _, task: task.test,
    "the test split of the run's task": lambda run, _: run.task.split("test"),
    "the test split of a hidden copy": lambda run, _: run.task.hidden().test,
    "the test split of an extended copy": lambda run, _: run.task.extended([]).test,
    "the test split of another task": lambda run, task: task.tested_on(run.task),
    "solve test": lambda run, task: run.solve(run.base, TEST, "test"),
    "solve dev": lambda run, task: run.solve(run.base, task.dev, "dev"),
    "solve train": lambda run, task: run.solve(run.base, task.train, "train"),
    "attempt test": lambda run, task: run.attempt(run.base, TEST),
    "search test": lambda run, task: run.search(run.base, TEST, solver=None),
    "attempt the same under another id": lambda run, task: run.attempt(run.base, [replace(TEST[0], id="mine")]),
    "attempt a test attempt": lambda run, task: run.attempt(
        run.base, [replace(run.attempt(run.base, task.train)[0], problem=TEST[0])]
    ),
    "surprise at test": lambda run, task: run.nll(
        run.base, [replace(run.attempt(run.base, task.train)[0], problem=TEST[0])]
    ),
    "score test": lambda run, task: run.score(run.base, [TEST[0]], "question"),
    "train and dev together": lambda run, task: run.attempt(run.base, [*task.train, *task.dev]),
    "reinforce on dev": lambda run, task: run.learn_online(run.base, task.dev, steps=1),
    "reinforce under another id": lambda run, task: run.learn_online(run.base, [replace(task.dev[0], id="x")], steps=1),
    "the journal": lambda run, _: run.journal.effects("verify"),
    "the engine": lambda run, _: run.engine,
    "the scores": lambda run, _: run.measurements,
    "summarise": lambda run, _: run.measurement_of(run.base, "dev", "x", []),
    "closing it": lambda run, _: run.close(),
    "verify test": lambda _, task: task.verify(TEST[0], answer(TEST[0])),
    "verify dev": lambda run, _: run.task.verify(run.task.dev[0], answer(run.task.dev[0])),
    "verify under another id": lambda _, task: task.verify(replace(task.dev[0], id="mine"), "Answer: 1"),
    "decide": lambda _, task: task.decide(TEST[0], answer(TEST[0])),
    "steps": lambda _, task: task.step_verdicts(task.dev[0], "Answer: 1"),
    "the verifier": lambda _, task: task.verifier.judge(task.train[0], ExtractedAnswer("", None, None), ""),
    "ask.verify on dev": lambda run, task: run.attempt(run.base, task.dev, solver=asking),
    "ask.verify when measured": lambda run, _: run.measure(run.base, solver=asking),
}


async def asking(ask: Ask, problem: Problem) -> Attempt:
    attempt = await ask(problem.prompt)
    await ask.verify(attempt)
    return attempt


@pytest.mark.parametrize("deed", CLOSED.values(), ids=CLOSED)
def test_what_is_closed_to_a_method_is_refused_in_a_line(tmp_path: Path, deed: Deed) -> None:
    with pytest.raises(BadInput) as refused:
        inside(tmp_path, deed)
    assert "\n" not in str(refused.value)


async def swapped(ask: Ask, problem: Problem, *, other: Problem, verified: bool) -> Attempt:
    """Answer another problem in this one's call."""
    attempt = replace(await ask(other.prompt), problem=other)
    if verified:
        await ask.verify(attempt)
        raise AssertionError
    return attempt


def smuggle(run: Run, task: Task, other: Problem, verified: bool = False) -> Any:
    return run.attempt(run.base, task.train[:1], solver=partial(swapped, other=other, verified=verified))


def carry(run: Run, task: Task, verb: str) -> Any:
    """Take an attempt at dev into a call on train."""
    (held,) = run.attempt(run.base, task.dev[:1])

    async def carrying(ask: Ask, problem: Problem) -> Attempt:
        if verb:
            await getattr(ask, verb)(held)
            raise AssertionError
        return held

    return run.attempt(run.base, task.train[:1], solver=carrying)


OTHERS: dict[str, Deed] = {
    "a dev attempt, verified": lambda run, task: carry(run, task, "verify"),
    "a dev attempt, shown": lambda run, task: carry(run, task, "verify_shown"),
    "a dev attempt, returned": lambda run, task: carry(run, task, ""),
    "a test problem, verified": lambda run, task: smuggle(run, task, TEST[0], verified=True),
    "a test problem, returned": lambda run, task: smuggle(run, task, TEST[0]),
    "a dev problem, online": lambda run, task: run.learn_online(
        run.base, task.train[:1], solver=partial(swapped, other=task.dev[0], verified=False), steps=1, samples=2
    ),
    "another prompt under the id": lambda run, task: smuggle(
        run, task, replace(task.dev[0], id=task.train[0].id), verified=True
    ),
    "the prompt under another id": lambda run, task: smuggle(run, task, replace(task.train[0], id=task.dev[0].id)),
}


@pytest.mark.parametrize("deed", OTHERS.values(), ids=OTHERS)
def test_a_call_gets_no_verdict_on_another_problem(tmp_path: Path, deed: Deed) -> None:
    with pytest.raises(BadInput, match="is at another problem than this call; use what ask samples") as refused:
        inside(tmp_path, deed)
    assert "\n" not in str(refused.value)
    with make_run(tmp_path) as run:
        assert run.journal.count("verify") == run.journal.count("shown") == 0


async def revising(ask: Ask, draft: Attempt) -> Attempt:
    await ask.verify(draft)
    again = await ask(draft.problem.prompt, role="revise", parent=draft)
    return again if (await ask.verify(again)).verdict is Verdict.RIGHT else draft


@pytest.mark.parametrize("needs", [("verifier",), ("verifier", "reference")])
def test_a_call_on_an_attempt_verifies_and_returns_attempts_at_its_problem(tmp_path: Path, needs: Any) -> None:
    def deed(run: Run, task: Task) -> Any:
        return run.attempt(run.base, run.attempt(run.base, task.train), solver=revising, samples=2)

    found = inside(tmp_path, deed, needs)
    assert {one.verdict for one in found} <= {Verdict.RIGHT, Verdict.WRONG}
    assert len(found) == 2 * len(make_task().train)


REFERENCES: dict[str, Deed] = {
    "task": lambda _, task: task.dev[0],
    "run.task": lambda run, _: run.task.dev[0],
    "hidden": lambda run, _: run.task.hidden().dev[0],
    "split": lambda run, _: run.task.split("dev")[0],
    "by id": lambda _, task: task.find_problem(task.dev[0].id),
    "an attempt": lambda run, task: run.attempt(run.base, task.dev)[0].problem,
    "an own copy": lambda _, task: task.with_splits((), task.dev, ()).dev[0],
    "another's test": lambda _, task: task.tested_on(make_task()).dev[0],
}


@pytest.mark.parametrize("deed", REFERENCES.values(), ids=REFERENCES)
@pytest.mark.parametrize("needs", [(), ("verifier",), ("verifier", "reference")], ids=["none", "verifier", "reference"])
def test_no_method_reads_a_held_out_reference(tmp_path: Path, deed: Deed, needs: tuple[str, ...]) -> None:
    assert inside(tmp_path, deed, needs).reference is HIDDEN


@pytest.mark.parametrize("needs", [(), ("verifier", "reference")])
def test_references_of_train_problems_are_read_by_who_declares_it(tmp_path: Path, needs: tuple[str, ...]) -> None:
    found = inside(tmp_path, lambda run, task: [run.task.train[0], task.train[0]], needs)
    assert [p.reference is HIDDEN for p in found] == [not needs] * 2


def test_a_test_problem_is_not_found_by_its_id(tmp_path: Path) -> None:
    def deed(_: Run, task: Task) -> Any:
        assert not task.holds(TEST[0])
        assert task.known(TEST[0]) is TEST[0]
        assert all(part not in task.__dict__ for part in ("test", "verifier", "environment", "shown", "annotator"))
        return task.find_problem(TEST[0].id)

    with pytest.raises(KeyError):
        inside(tmp_path, deed)


@pytest.mark.parametrize("needs", [(), ("verifier", "reference")])
def test_a_solver_that_is_measured_cannot_read_the_answer(tmp_path: Path, needs: tuple[str, ...]) -> None:
    for deed in (
        lambda run, _: run.measure(run.base, solver=reading),
        lambda run, task: run.attempt(run.base, task.dev, solver=reading),
    ):
        with pytest.raises(ReferenceHidden):
            inside(tmp_path, deed, needs)


@solver()
async def peeking(ask: Ask, problem: Problem) -> Attempt:
    """Read the reference undeclared."""
    return await reading(ask, problem)


def test_a_solver_reads_no_undeclared_reference_outside_of_methods_either(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        for problems in (run.task.train, run.task.test):
            with pytest.raises(ReferenceHidden):
                run.solve(run.base, problems, "any", solver=peeking)
            with pytest.raises(ReferenceHidden):
                run.solve(run.base, problems, "any", solver=partial(partial(peeking)))
        assert run.attempt(run.base, run.task.train[:1], solver=reading)[0].verdict  # a script's own is its business


def test_verdicts_are_seen_on_train_problems_by_who_declares_it(tmp_path: Path) -> None:
    deed: Deed = lambda run, task: run.task.verify(task.train[0], answer(task.train[0])).verdict  # noqa: E731
    assert inside(tmp_path / "declared", deed) is Verdict.RIGHT
    with pytest.raises(BadInput, match=r'without declaring that need; declare needs=\("verifier",\)'):
        inside(tmp_path / "not", deed, ())


def test_attempts_at_dev_problems_come_without_verdicts(tmp_path: Path) -> None:
    tried = inside(tmp_path, lambda run, task: run.attempt(run.base, task.dev, samples=2))
    assert {one.feedback for one in tried} == {()}
    with make_run(tmp_path) as run:
        assert run.journal.count("verify") == 0


def test_a_study_may_declare_that_it_reads_verdicts_on_dev_and_a_recipe_may_not(tmp_path: Path) -> None:
    seen = []

    def looking(run: Run, policy: Policy, task: Task) -> None:
        seen.extend(run.attempt(policy, task.dev))

    with make_run(tmp_path) as run:
        study(needs=("verifier", "dev"))(looking)(run, run.base, run.task)
    assert {one.verdict for one in seen} <= {Verdict.RIGHT, Verdict.WRONG}
    with pytest.raises(BadInput, match="only studies may need verdicts on dev"):
        recipe(needs=("verifier", "dev"))(looking)


def test_a_measurement_tells_a_method_no_problem_from_another(tmp_path: Path) -> None:
    seen: list[Any] = []

    def figures(courses: Any) -> dict[str, float]:
        seen.extend(courses)
        return correction_metrics(courses)

    found = inside(tmp_path, lambda run, _: run.measure(run.base, metrics=figures))
    assert found.n == len(make_task().dev) == len(seen)
    assert found.scores == {}
    assert seen == sorted(seen)
    assert {*seen[0].__dataclass_fields__} == {"verdicts", "unchanged"}
    assert sum(one.verdicts == (Verdict.RIGHT,) for one in seen) == round(found.accuracy * found.n)


def test_rollouts_of_online_training_hold_no_reference(tmp_path: Path) -> None:
    def peeks(rollout: Any) -> float:
        return float(rollout.attempt.text.endswith(str(rollout.attempt.problem.reference)))

    with pytest.raises(ReferenceHidden):
        inside(
            tmp_path,
            lambda run, task: run.learn_online(run.base, task.train, credit=CreditAssignment(peeks), samples=8),
        )


SPENDING: dict[str, Deed] = {
    "attempt": lambda run, task: run.attempt(run.base, task.train),
    "search": lambda run, task: run.search(run.base, task.train, solver=None),
    "measure": lambda run, _: run.measure(run.base),
    "surprise": lambda run, _: run.nll(run.base, []),
    "score": lambda run, _: run.score(run.base, []),
    "learn": lambda run, _: run.learn(run.base, None, []),  # pyright: ignore[reportArgumentType]
    "reinforce": lambda run, task: run.learn_online(run.base, task.train),
}


@pytest.mark.parametrize("deed", SPENDING.values(), ids=SPENDING)
def test_every_verb_heeds_the_budget(tmp_path: Path, deed: Deed) -> None:
    def twice(run: Run, task: Task) -> None:
        run.attempt(run.base, task.train)
        with pytest.raises(RunStopped):
            deed(run, task)

    inside(tmp_path, twice, budget=Budget(1))
    with make_run(tmp_path, settings=Settings(budget=Budget(1))) as run:
        assert run.journal.count("sample") == len(run.task.train)


def test_what_a_method_is_handed_cannot_be_changed(tmp_path: Path) -> None:
    def promote(run: Run, _: Task) -> None:
        with pytest.raises(BadInput, match=r"a method cannot set run\.champion"):
            run.champion = Policy("mine", tmp_path)
        with pytest.raises(BadInput, match=r"run\.journal is closed to methods.* attempt, .*\blog_metrics"):
            run.journal.digest()
        assert run.champion.version == "base-model"

    inside(tmp_path, promote)
    with make_run(tmp_path) as run:  # outside of methods nothing is closed
        assert run.task.test[0].reference
        assert run.task.verify(run.task.test[0], answer(run.task.test[0])).verdict is Verdict.RIGHT
        assert run.measure(run.base).scores


def test_run_base_and_task_may_be_given_by_name(tmp_path: Path) -> None:
    def mine(run: Run, base: Policy, task: Task, *, least: int = 0) -> Policy:
        assert not isinstance(run, Run)
        assert len(task.train) > least
        return base

    method = recipe()(mine)
    with make_run(tmp_path) as run:
        assert method(task=run.task, run=run, base=run.base, least=1) == run.base
        assert method(run, base=run.base, task=run.task, least=1) == run.base
        with pytest.raises(BadInput, match=r"mine needs base, task.*run, base, task by position or by name"):
            method(run=run)
