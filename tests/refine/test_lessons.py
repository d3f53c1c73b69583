"""Lessons: which critiques are borne out, and what is learnt from them."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from scripted_world import judged
from selftaught.records import Attempt, Verdict
from selftaught.refine import error_step, finds_no_error
from selftaught.routines.critiques import (
    CritiqueExample,
    collect_critiques,
    critique_demos,
    deduplicate,
    filter_verified,
    revision_demos,
)
from selftaught.testing import make_run, sums
from talking_world import talk

(PROBLEM,) = sums(1)


def said(text: str, right: bool, name: str) -> Attempt:
    return replace(judged(PROBLEM, "1", Verdict.RIGHT if right else Verdict.WRONG, name=name), text=text)


def lesson(draft: bool, note: str, *revised: bool, name: str = "x") -> CritiqueExample:
    tried = tuple(said("r", right, f"{name}r{i}") for i, right in enumerate(revised))
    return CritiqueExample(said("d", draft, f"{name}d"), said(note, False, f"{name}n"), tried)


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
def test_a_critique_is_kept_where_what_came_of_it_bears_it_out(one: CritiqueExample, kept: bool) -> None:
    assert (filter_verified([one]) == [one]) is kept


def test_a_critique_must_point_at_the_known_place() -> None:
    one = lesson(False, "step 2: 5", True)
    assert filter_verified([one], error_steps={"xd": 2}) == [one]
    assert filter_verified([one], error_steps={"xd": 1}) == []
    assert filter_verified([one], error_steps={"other": 1}) == [one]


def test_contentment_is_no_more_common_than_mending() -> None:
    mending = [lesson(False, "step 1: 5", True, name=f"m{i}") for i in range(2)]
    content = [lesson(True, "no mistakes", name=f"c{i}") for i in range(5)]
    assert filter_verified([*content, *mending]) == [*mending, *content[:2]]
    assert filter_verified(content) == content[:1]


def test_lessons_of_a_run_are_learnt_under_the_prompts_they_were_asked_with(tmp_path: Path) -> None:
    with make_run(tmp_path, script=talk) as run:
        drafts = deduplicate(run.attempt(run.base, run.task.train, samples=3))
        lessons = collect_critiques(run, run.base, run.base, drafts, critiques=2, rollouts_per_critique=3)
        samples = {key: p for key, _, p, _ in run.journal.effects("sample")}
    assert len(lessons) == 2 * len(drafts)
    for one in lessons:
        assert one.critique.parent == one.draft.id
        assert {a.parent for a in one.revisions} <= {one.critique.id}
        assert len(one.revisions) == (0 if finds_no_error(one.critique) else 3)
    good = filter_verified(lessons)
    mending = [one for one in good if one.revisions]
    assert 0 < len(mending) < len([one for one in lessons if one.revisions])
    assert all(error_step(one.critique) == 1 and not one.draft.right and one.fix_rate >= 0.5 for one in mending)
    for demo, one in zip(critique_demos(good), good, strict=True):
        assert demo.prompt[-2].content == one.draft.text
        assert demo.target == one.critique.text == samples[demo.attempts[0]]["text"]
    for demo, one in zip(revision_demos(good), mending, strict=True):
        assert demo.prompt[-2].content == one.critique.text
        assert demo.target.endswith(f"Answer: {one.draft.problem.reference}")


def test_of_equal_texts_the_first_is_distinct() -> None:
    attempts = [said("a", True, "1"), said("b", True, "2"), said("a", True, "3")]
    assert [a.id for a in deduplicate(attempts)] == ["1", "2"]
