"""What methods and solvers may see of a task: rules by split and by declared need."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from scripted_world import judged
from selftaught.errors import BadInput
from selftaught.method import Method, recipe, solver, study
from selftaught.records import HIDDEN, Attempt, Problem, Verdict
from selftaught.run.guarded import AccessRules, GuardedTask, unguarded, without_reference
from selftaught.testing.sums import make_task

TASK = make_task(3, 2, 2)
RULES = AccessRules(TASK)
RIGHT = f"Answer: {TASK.train[0].reference}"


async def function(run: Any, base: Any, task: Any) -> Any:
    return run, base, task


NOTHING, VERIFIER, REFERENCE = (recipe(needs=needs)(function) for needs in ((), ("verifier",), ("reference",)))
DEV_STUDY = study(needs=("verifier", "dev"))(function)


def guarded(method: Method) -> GuardedTask:
    return GuardedTask(TASK, method, RULES)


def test_problems_of_dev_and_test_are_held_out_as_attempts_too() -> None:
    assert not any(map(RULES.is_held_out, TASK.train))
    assert all(map(RULES.is_held_out, (*TASK.dev, *TASK.test)))
    assert RULES.is_held_out(judged(TASK.dev[0], "1"))


def test_a_problem_under_another_id_is_known_by_its_prompt() -> None:
    assert RULES.is_held_out(replace(TASK.dev[0], id="renamed"))
    with pytest.raises(BadInput, match="it attempts test problems"):
        RULES.check_not_test(NOTHING, [replace(TASK.test[0], id="renamed")])


def test_no_method_attempts_test_problems_and_outside_of_methods_anything_goes() -> None:
    RULES.check_not_test(NOTHING, [*TASK.train, *TASK.dev])
    RULES.check_not_test(None, TASK.test)
    for method in (NOTHING, VERIFIER, DEV_STUDY):
        with pytest.raises(BadInput, match=r"^function: it attempts test problems, which are closed until the end"):
            RULES.check_not_test(method, [*TASK.train, judged(TASK.test[0], "1")])


def test_verdicts_are_given_on_train_and_on_dev_only_to_studies_that_declare_it() -> None:
    assert RULES.verdicts_allowed(VERIFIER, TASK.train)
    assert not RULES.verdicts_allowed(VERIFIER, TASK.dev)
    assert RULES.verdicts_allowed(DEV_STUDY, [*TASK.train, *TASK.dev])
    assert RULES.verdicts_allowed(None, TASK.test)
    with pytest.raises(BadInput, match="train and dev problems together; attempt them separately"):
        RULES.verdicts_allowed(VERIFIER, [*TASK.train, *TASK.dev])


@pytest.mark.parametrize(("method", "shown"), [(None, True), (NOTHING, False), (VERIFIER, False), (REFERENCE, True)])
def test_a_solver_gets_references_of_train_where_the_method_declares_it(method: Method | None, shown: bool) -> None:
    for subject in (TASK.train[0], judged(TASK.train[0], "1")):
        seen = RULES.visible_to(method, subject, function)
        problem = seen.problem if isinstance(seen, Attempt) else seen
        assert isinstance(problem, Problem)
        assert (problem.reference is not HIDDEN) is shown
        assert problem.id == TASK.train[0].id


def test_references_of_held_out_problems_are_hidden_from_every_method() -> None:
    for subject in (*TASK.dev, *TASK.test):
        seen = RULES.visible_to(REFERENCE, subject, function)
        assert isinstance(seen, Problem)
        assert seen.reference is HIDDEN


def test_outside_of_methods_the_needs_of_a_solver_count() -> None:
    closed, open_ = solver()(function), solver(needs=("reference",))(function)
    assert RULES.visible_to(None, TASK.dev[0], open_) is TASK.dev[0]
    seen = RULES.visible_to(None, TASK.dev[0], closed)
    assert isinstance(seen, Problem)
    assert seen.reference is HIDDEN
    assert RULES.visible_to(None, TASK.dev[0], None) is TASK.dev[0]


def test_hiding_twice_is_hiding_once() -> None:
    for subject in (TASK.train[0], judged(TASK.train[0], "1")):
        once = without_reference(subject)
        assert once is not subject
        assert without_reference(once) is once


def test_a_guarded_task_hides_what_the_method_did_not_declare() -> None:
    plain, reading = guarded(NOTHING), guarded(REFERENCE)
    assert all(p.reference is HIDDEN for p in (*plain.train, *plain.dev, *reading.dev))
    assert reading.train == TASK.train
    assert all(p.reference is HIDDEN for p in reading.hidden().train)
    assert [p.id for p in plain.train] == [p.id for p in TASK.train]
    assert (plain.name, plain.fingerprint) == (TASK.name, TASK.fingerprint)
    assert unguarded(plain) is unguarded(TASK) is TASK


@pytest.mark.parametrize("method", [NOTHING, VERIFIER, REFERENCE, DEV_STUDY])
def test_the_test_split_is_closed_and_copies_have_none(method: Method) -> None:
    task = guarded(method)
    for read in (lambda: task.test, lambda: task.split("test"), lambda: task.hidden().test):
        with pytest.raises(BadInput, match=r"^function: task.test is closed to methods until the end of the run; use"):
            read()
    assert task.with_splits(task.train, (), ()).test == task.showing(None).test == ()
    assert "test=2" in repr(task)


def test_a_guarded_task_verifies_train_problems_for_those_who_declared_it() -> None:
    task = guarded(VERIFIER)
    assert task.verify(task.train[0], RIGHT).verdict is Verdict.RIGHT
    assert task.verify(task.train[0], "Answer: -1").verdict is Verdict.WRONG
    for problem in (*task.dev, *TASK.test):
        for ask in (task.verify, task.decide, task.step_verdicts):
            with pytest.raises(BadInput, match="verdicts on dev and test problems are closed to methods"):
                ask(problem, RIGHT)


def test_without_the_need_there_are_no_verdicts_by_any_way() -> None:
    task = guarded(REFERENCE)
    verifier = task.verifier
    assert (verifier.version, verifier.needs_reference) == (TASK.verifier.version, TASK.verifier.needs_reference)
    for ask in (task.verify, task.decide, task.step_verdicts, verifier.judge, verifier.decide, verifier.steps):
        with pytest.raises(
            BadInput, match=r'asks for a verdict without declaring that need; declare needs=\("verifier",'
        ):
            ask(task.train[0], RIGHT)
    task.close()
    assert TASK.verify(TASK.train[0], RIGHT).verdict is Verdict.RIGHT  # still open
