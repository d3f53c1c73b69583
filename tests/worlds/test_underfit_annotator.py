"""The underfit world's annotator, against the world's own verdicts."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from selftaught.records import Attempt, Problem, Verdict
from selftaught.refine import error_step, finds_no_error
from selftaught.samples import Sample
from selftaught.tasks import Task, load_task
from selftaught.worlds.underfit.annotator import UnderfitAnnotator
from selftaught.worlds.underfit.families import FAMILIES
from selftaught.worlds.underfit.task import check_reply
from selftaught.worlds.underfit.text import imperfect_writer

ANNOTATOR = UnderfitAnnotator()


@pytest.fixture(scope="module")
def task() -> Task:
    return load_task(f"underfit:family={'|'.join(FAMILIES)}", train=175, dev=0, test=0)


def drafts(task: Task) -> list[tuple[Problem, str]]:
    rng, found = random.Random(1), []
    for problem in task.train:
        family = FAMILIES[problem.meta["family"]]
        asked = family.read(problem.question)
        found += [(problem, family.write(asked, problem.reference, imperfect_writer(rng), rng).text) for _ in range(2)]
    return found


def test_critiques_name_the_first_wrong_step_and_a_right_one(task: Task) -> None:
    seen: Counter[str] = Counter()
    for problem, text in drafts(task):
        truth, said = check_reply(problem, text), ANNOTATOR.critique(problem, text)
        critique = Attempt("c", problem, (), said, None, Sample(said))
        if truth.answer is Verdict.RIGHT and truth.first_error is None:
            assert finds_no_error(critique)
        elif said:
            step = error_step(critique)
            assert step == (truth.first_error or len(truth.steps) + 1)
            kept = text.splitlines()[: step - 1]
            assert check_reply(problem, "\n".join([*kept, said.partition(": ")[2]])).first_error is None
        seen[problem.meta["family"] if said else "none"] += 1
    assert seen["none"] < 40  # only where going on takes a search
    assert set(seen) >= set(FAMILIES)


def test_revisions_are_right_and_keep_what_is_right(task: Task) -> None:
    kept = 0
    for problem, text in drafts(task):
        truth, revised = check_reply(problem, text), ANNOTATOR.revision(problem, text)
        assert check_reply(problem, revised).answer is Verdict.RIGHT
        if truth.answer is Verdict.RIGHT and truth.first_error is None:
            assert revised == text
        elif truth.first_error and problem.meta["family"] in ("chain", "add", "equation"):
            assert revised.splitlines()[: truth.first_error - 1] == text.splitlines()[: truth.first_error - 1]
            kept += 1
    assert kept > 30


def test_solutions_are_right_step_by_step(task: Task) -> None:
    for problem in task.train:
        truth = check_reply(problem, ANNOTATOR.solution(problem))
        assert (truth.answer, truth.first_error) == (Verdict.RIGHT, None)


def test_what_is_no_solution_gets_no_critique(task: Task) -> None:
    assert ANNOTATOR.critique(task.train[0], "Hm.") == ""
    assert check_reply(task.train[0], ANNOTATOR.revision(task.train[0], "Hm.")).answer is Verdict.RIGHT


def test_the_task_has_it(task: Task) -> None:
    assert isinstance(task.annotator, UnderfitAnnotator)
