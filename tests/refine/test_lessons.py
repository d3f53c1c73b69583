"""Lessons: which critiques are borne out, and what is learnt from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripted_world import judged, make_run, sums
from selftaught.records import Attempt, Verdict
from selftaught.refine import located, satisfied
from selftaught.routines.critiques import Lesson, critiques, distinct, revisions, teach, verified
from talking_world import talk

(PROBLEM,) = sums(1)


def said(text: str, right: bool, name: str) -> Attempt:
    return replace(judged(PROBLEM, "1", Verdict.RIGHT if right else Verdict.WRONG, name=name), text=text)


def lesson(draft: bool, note: str, *revised: bool, name: str = "x") -> Lesson:
    tried = tuple(said("r", right, f"{name}r{i}") for i, right in enumerate(revised))
    return Lesson(said("d", draft, f"{name}d"), said(note, False, f"{name}n"), tried)


@pytest.mark.parametrize(
    ("one", "kept"),
    [
        (lesson(False, "step 1: 5", True, True), True),
        (lesson(False, "step 1: 5", True, False), True),
        (lesson(False, "step 1: 5", True, False, False), False),
        (lesson(False, "no mistakes"), False),
        (lesson(True, "step 1: 5", True), False),  # a false alarm, though the revision is right
        (lesson(True, "no mistakes"), True),
    ],
)
def test_a_critique_is_kept_where_what_came_of_it_bears_it_out(one: Lesson, kept: bool) -> None:
    assert (verified([one]) == [one]) is kept


def test_a_critique_must_point_at_the_known_place() -> None:
    one = lesson(False, "step 2: 5", True)
    assert verified([one], places={"xd": 2}) == [one]
    assert verified([one], places={"xd": 1}) == []
    assert verified([one], places={"other": 1}) == [one]


def test_contentment_is_no_more_common_than_mending() -> None:
    mending = [lesson(False, "step 1: 5", True, name=f"m{i}") for i in range(2)]
    content = [lesson(True, "no mistakes", name=f"c{i}") for i in range(5)]
    assert verified([*content, *mending]) == [*mending, *content[:2]]
    assert verified(content) == content[:1]


def test_lessons_of_a_run_are_learnt_under_the_prompts_they_were_asked_with(tmp_path: Path) -> None:
    with make_run(tmp_path, script=talk) as run:
        drafts = distinct(run.attempt(run.base, run.task.train, samples=3))
        lessons = teach(run, run.base, run.base, drafts, notes=2, checks=3)
        samples = {key: p for key, _, p, _ in run.journal.effects("sample")}
    assert len(lessons) == 2 * len(drafts)
    for one in lessons:
        assert one.note.parent == one.draft.id
        assert {a.parent for a in one.revised} <= {one.note.id}
        assert len(one.revised) == (0 if satisfied(one.note) else 3)
    good = verified(lessons)
    mending = [one for one in good if one.revised]
    assert 0 < len(mending) < len([one for one in lessons if one.revised])
    assert all(located(one.note) == 1 and not one.draft.right and one.mends >= 0.5 for one in mending)
    for demo, one in zip(critiques(good), good, strict=True):
        assert demo.prompt[-2].content == one.draft.text
        assert demo.target == one.note.text == samples[demo.attempts[0]]["text"]
    for demo, one in zip(revisions(good), mending, strict=True):
        assert demo.prompt[-2].content == one.note.text
        assert demo.target.endswith(f"Answer: {one.draft.problem.reference}")


def test_of_equal_texts_the_first_is_distinct() -> None:
    attempts = [said("a", True, "1"), said("b", True, "2"), said("a", True, "3")]
    assert [a.id for a in distinct(attempts)] == ["1", "2"]
