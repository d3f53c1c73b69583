"""What revising does to answers, compared by value."""

from __future__ import annotations

import pytest

from selftaught.feedback.equality import same_answer
from selftaught.measure.flips import turn_verdicts
from selftaught.records import Attempt, make_problem
from selftaught.run.solver import SolverResult
from selftaught.samples import Sample

CASES = [("1/2", "0.5", True), ("(x+1)^2", "x^2+2x+1", True), ("1", "2", False), (None, "None", False)]


def turn(answer: str | None, text: str = "") -> Attempt:
    problem = make_problem("1/2?", "0.5")
    return Attempt(text, problem, problem.prompt, text, answer, Sample(text))


@pytest.mark.parametrize(("one", "other", "same"), [*CASES, ("", None, False)])
def test_an_answer_in_another_spelling_is_unchanged(one: str | None, other: str | None, same: bool) -> None:
    assert same_answer(one, other) is same_answer(other, one) is same
    turns = (turn(one, "a"), turn(other, "b"))
    assert turn_verdicts(SolverResult(turns[1], 2, turns)).unchanged is same


def test_without_answers_the_texts_decide() -> None:
    assert same_answer(None, None)
    for text, same in (("a", True), ("b", False)):
        turns = (turn(None, "a"), turn(None, text))
        assert turn_verdicts(SolverResult(turns[1], 2, turns)).unchanged is same
