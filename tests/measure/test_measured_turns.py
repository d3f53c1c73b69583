"""Revisions and turns: what the last turn made of the first, answers joined from pieces, and lines of comparison."""

from __future__ import annotations

import pytest

from selftaught.measure import Comparison, Interval, StudyReport, describe_comparison, pass_at_k, pass_curve
from selftaught.measure.flips import TurnVerdicts, correction_metrics, full_text, turn_verdicts
from selftaught.records import Attempt, Feedback, Verdict, make_problem
from selftaught.run.solver import SolverResult
from selftaught.samples import Sample

RIGHT, WRONG, UNKNOWN = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN
PROBLEM = make_problem("q", "4")


def attempt(verdict: Verdict, answer: str | None, text: str = "t") -> Attempt:
    feedback = (Feedback(verdict),)
    id = f"{verdict}{answer}{text}"
    return Attempt(id, PROBLEM, PROBLEM.prompt, text, answer, Sample(text, (1,), (-0.1,)), feedback=feedback)


def turns(*verdicts: Verdict, unchanged: bool = False) -> TurnVerdicts:
    return TurnVerdicts(verdicts, unchanged)


def test_corrections_are_shares_of_all_solutions() -> None:
    found = correction_metrics(
        [turns(WRONG, RIGHT), turns(RIGHT, WRONG), turns(RIGHT, RIGHT, unchanged=True), turns(UNKNOWN, RIGHT)]
    )
    assert found == {
        "first": 0.5,
        "second": 0.75,
        "delta": 0.25,
        "wrong to right": 0.5,  # what cannot be judged is not right
        "right to wrong": 0.25,
        "unchanged": 0.25,
    }


def test_the_difference_is_what_was_fixed_less_what_was_broken() -> None:
    many = [turns(a, b) for a in Verdict for b in Verdict for _ in range(3)]
    found = correction_metrics(many)
    assert found["delta"] == pytest.approx(found["wrong to right"] - found["right to wrong"])
    assert set(correction_metrics([]).values()) == {0.0}


def test_only_the_first_and_the_last_turn_count() -> None:
    assert correction_metrics([turns(WRONG, RIGHT, WRONG)])["second"] == 0.0


def test_a_solution_without_turns_is_its_attempt_alone() -> None:
    alone = turn_verdicts(SolverResult(attempt(RIGHT, "4"), 1))
    assert alone == TurnVerdicts((RIGHT,), True)


@pytest.mark.parametrize(
    ("first", "last", "unchanged"),
    [
        (("1/2", "x"), ("0.5", "y"), True),  # equal by value, whatever the text
        (("4", "x"), ("5", "x"), False),
        ((None, "x"), (None, "x"), True),
        ((None, "x"), (None, "y"), False),
        (("4", "x"), (None, "x"), False),
    ],
)
def test_an_answer_is_unchanged_by_value(first: tuple, last: tuple, unchanged: bool) -> None:
    a, b = attempt(WRONG, *first), attempt(WRONG, *last)
    assert turn_verdicts(SolverResult(b, 2, (a, b))).unchanged is unchanged


def test_an_answer_given_in_pieces_is_joined() -> None:
    samples = {
        "a": {"text": "Let me think", "stop_text": "</think>"},
        "b": {"text": " so 4", "parent": "a", "injected": "", "prefix_chars": len("Let me think</think>")},
        "c": {"text": "5", "parent": "b", "injected": " Wait,", "prefix_chars": len("Let me think</think> so Wait,")},
    }
    assert full_text(samples, "a") == "Let me think"
    assert full_text(samples, "b") == "Let me think</think> so 4"
    assert full_text(samples, "c") == "Let me think</think> so Wait,5"  # goes back before it goes on


def test_pass_curves_are_means_over_problems() -> None:
    groups = {
        "p": [attempt(RIGHT, "4", str(i)) for i in range(2)] + [attempt(WRONG, "5", str(i)) for i in range(2)],
        "q": [attempt(WRONG, "5", str(i)) for i in range(4)],
    }
    curve = pass_curve(groups)
    assert list(curve) == ["1", "2", "4"]
    assert curve == {k: pass_at_k(4, 2, int(k)) / 2 for k in curve}
    with pytest.raises(ValueError, match="same number of attempts"):
        pass_curve({**groups, "r": groups["q"][:1]})


@pytest.mark.parametrize(
    ("p", "shown"), [(0.00005, "p<0.0001"), (0.0001, "p=0.0001"), (0.04321, "p=0.043"), (1.0, "p=1")]
)
def test_a_comparison_is_one_line(p: float, shown: str) -> None:
    found = Comparison("a", "b", 300, 0.121, Interval(0.07, 0.17), 52, 16, p, p / 2)
    assert describe_comparison(found) == f"+0.121 [+0.07, +0.17] on 300 problems (52 won, 16 lost, {shown})"


def test_a_study_reports_rows_and_scores() -> None:
    report = StudyReport("it collapses", ({"step": 0, "accuracy": 0.5},), {"p": 0.5})
    assert (report.title, report.rows[0]["accuracy"], report.scores["p"]) == ("it collapses", 0.5, 0.5)
