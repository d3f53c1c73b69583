"""Annotations: who writes them, on which problems, what they cost, and what methods see of the annotator."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from selftaught.engines.scripted import scripted_learner
from selftaught.errors import BadInput
from selftaught.learn import TrainConfig, sft
from selftaught.method import recipe
from selftaught.models import Policy
from selftaught.records import Demo, as_prompt
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.tasks.annotator import Annotator
from selftaught.testing import SumAnnotator, make_run, make_task
from selftaught.testing.sums import base_policy
from talking_world import talk


def opened(folder: Path, annotator: Annotator | None = None, **more: Any) -> Run:
    return make_run(folder, script=talk, task=make_task(train=12, annotator=annotator or SumAnnotator()), **more)


def chain(run: Run, **how: Any) -> tuple[list[Any], list[Any], list[Any]]:
    drafts = run.attempt(run.base, run.task.train, temperature=0.7)
    critiques = run.annotate(drafts, "critique", **how)
    return drafts, critiques, run.annotate(critiques, "revise", **how)


def test_the_annotator_criticizes_revises_and_solves_in_the_models_prompts(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        drafts, critiques, revisions = chain(run)
        by_model = run.attempt(run.base, drafts[:1])
        solutions = run.annotate(run.task.train, "solve")
        assert {d.right for d in drafts} == {True, False}
        for draft, critique, revision in zip(drafts, critiques, revisions, strict=True):
            assert (critique.text == "no mistakes") is draft.right
            assert (revision.text == draft.text) is draft.right
            assert (critique.parent, revision.parent) == (draft.id, critique.id)
            assert [m.content for m in critique.prompt[:2]] == [draft.problem.question, draft.text]
            assert [m.content for m in revision.prompt[:2]] == [draft.problem.question, draft.text]
            assert revision.prompt[3].content == critique.text
        assert all(one.right for one in (*revisions, *solutions))
        assert {one.policy for one in (*critiques, *revisions, *solutions)} == {"annotator:sums/1"}
        assert by_model[0].policy == "base-model"


def test_its_texts_cost_nothing_and_are_found_again(tmp_path: Path) -> None:
    class Counting(SumAnnotator):
        def __init__(self) -> None:
            self.calls = 0

        def critique(self, problem: Any, text: str) -> str:
            self.calls += 1
            return super().critique(problem, text)

    with opened(tmp_path, Counting()) as run:
        run.attempt(run.base, run.task.train, temperature=0.7)
        before = run.ledger.usage
    with opened(tmp_path, Counting()) as run:
        _, first, _ = chain(run)
        assert run.ledger.usage == before
    again = Counting()
    with opened(tmp_path, again) as run:
        _, second, _ = chain(run)
    assert [one.text for one in first] == [one.text for one in second]
    assert again.calls == 0


def test_a_teacher_writes_in_its_place_and_its_tokens_count(tmp_path: Path) -> None:
    folder = tmp_path / "teacher"
    teacher = scripted_learner(
        base_policy(folder), sft(), [Demo(as_prompt("hello"), "hello")], TrainConfig(), seed=0, folder=folder
    )
    with opened(tmp_path) as run:
        _, critiques, revisions = chain(run, teacher=str(teacher.path), temperature=0.0)
        spent = run.ledger.usage
        texts = (*critiques, *revisions)
        assert {one.policy for one in texts} == {teacher.version}
        assert spent.judge == sum(one.num_tokens for one in critiques) > 0


def test_where_it_knows_nothing_the_annotation_has_failed_and_is_not_kept(tmp_path: Path) -> None:
    class Silent(SumAnnotator):
        def critique(self, problem: Any, text: str) -> str:
            return ""

    with opened(tmp_path, Silent()) as run:
        drafts, critiques, revisions = chain(run)
        assert all(one.failed for one in (*critiques, *revisions))
        assert run.journal.count("sample") == len(drafts)


def test_without_annotator_and_teacher_it_is_one_line(tmp_path: Path) -> None:
    with make_run(tmp_path) as run, pytest.raises(BadInput, match="the task has no annotator"):
        run.annotate(run.task.train, "solve")


def test_an_unknown_role_is_one_line(tmp_path: Path) -> None:
    with opened(tmp_path) as run, pytest.raises(BadInput, match="did you mean 'critique'"):
        run.annotate(run.task.train, "critic")  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("split", ["dev", "test"])
def test_held_out_problems_are_never_annotated(tmp_path: Path, split: str) -> None:
    with opened(tmp_path) as run, pytest.raises(BadInput, match="other than train problems"):
        run.annotate(run.task.split(split)[:1], "solve")
    with opened(tmp_path) as run:
        drafts = run.attempt(run.base, run.task.split(split)[:1])
        with pytest.raises(BadInput, match="other than train problems"):
            run.annotate([*drafts], "critique")


@recipe()
def without_need(run: Run, base: Policy, task: Task, *, rounds: int = 1) -> Policy:
    """Ask for annotations without saying so."""
    run.annotate(task.train, "solve")
    return base


@recipe(needs=("teacher",))
def peeping(run: Run, base: Policy, task: Task, *, part: str = "solution") -> Policy:
    """Ask the annotator itself."""
    assert task.annotator is not None
    assert task.annotator.version == "sums/1"
    getattr(task.annotator, part)(task.dev[0], "")
    return base


def test_a_method_must_declare_a_teacher(tmp_path: Path) -> None:
    with opened(tmp_path) as run, pytest.raises(BadInput, match="without declaring that need"):
        without_need(run, run.base, run.task)


@pytest.mark.parametrize("part", ["critique", "revision", "solution"])
def test_a_method_cannot_ask_the_annotator_itself(tmp_path: Path, part: str) -> None:
    with opened(tmp_path) as run, pytest.raises(BadInput, match="outside of the run"):
        peeping(run, run.base, run.task, part=part)


def test_an_annotator_that_lacks_a_part_is_one_line() -> None:
    class Half:
        version = "half"

        def critique(self, problem: Any, text: str) -> str:
            return ""

    with pytest.raises(BadInput, match="its annotator has no revision"):
        make_task(annotator=Half())  # pyright: ignore[reportArgumentType]


def test_copies_of_a_task_keep_it_and_it_tells_tasks_apart() -> None:
    plain, task = make_task(), make_task(annotator=SumAnnotator())
    assert plain.fingerprint != task.fingerprint
    for copy in (task.hidden(), task.extended([]), task.tested_on(plain), task.showing(None)):
        assert copy.annotator is task.annotator
