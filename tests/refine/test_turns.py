"""Turns about an attempt: what is asked, how replies are read, and that attempts are gone on from through the run."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from scripted_world import judged, with_facts
from selftaught.engines import Request
from selftaught.models import Policy
from selftaught.records import Attempt, Verdict
from selftaught.refine import (
    criticize,
    error_step,
    finds_no_error,
    judge_answer,
    parse_verdict,
    revise,
    score_steps,
    step_scores,
)
from selftaught.testing import make_run, sums
from selftaught.worlds.underfit.language import NO_MISTAKES, RIGHT, WRONG
from selftaught.worlds.underfit.language import parse_error_step as underfit_located

(PROBLEM,) = sums(1)


def note(text: str, logprobs: tuple[float, ...] = ()) -> Attempt:
    return replace(with_facts(judged(PROBLEM, "1"), logprobs=logprobs), text=text)


@pytest.mark.parametrize("text", ["step 2: 65-5=60", "step 3", "none", NO_MISTAKES, "Step 12 is off", ""])
def test_places_are_read_as_in_the_underfit_language_and_in_prose(text: str) -> None:
    assert error_step(note(text)) == (12 if text.startswith("Step") else underfit_located(text))
    assert finds_no_error(note(text)) is (text == NO_MISTAKES)


def test_a_satisfied_critic_points_nowhere() -> None:
    assert error_step(note("Step 2 is fine, there are no mistakes.")) is None


@pytest.mark.parametrize(
    ("text", "found"), [(RIGHT, True), (WRONG, False), (" Right.", True), ("It is right", None), ("", None)]
)
def test_judgements(text: str, found: bool | None) -> None:
    assert parse_verdict(note(text)) is found


def test_marks_are_probabilities_where_tokens_tell_them() -> None:
    logs = (math.log(0.9), math.log(0.6), -0.01)
    assert step_scores(note("+-", logs)) == pytest.approx((0.9, 0.4))  # the third is the end of the reply
    numbered = (-0.001, math.log(0.9), -0.001, math.log(0.6), -0.01)
    assert step_scores(note("1) +2) -", numbered)) == pytest.approx((0.9, 0.4))
    restated = (-0.001, -0.001, math.log(0.9), -0.001, -0.001, math.log(0.6))
    assert step_scores(note("1)  7+2)  ?-", restated)) == pytest.approx((0.9, 0.4))
    done_back = (-0.001, -0.001, -0.001, math.log(0.9))
    assert step_scores(note("1)  23 +4 27+", done_back)) == pytest.approx((0.9,))
    assert step_scores(note("+-", logs[:1])) == (1.0, 0.0)  # two marks in one token
    assert step_scores(note("+-\n", logs)) == (1.0, 0.0)
    assert step_scores(note("++ ok")) is None
    assert step_scores(note("")) is None


def script(policy: Policy, request: Request) -> str:
    del policy
    return f"{len(request.prompt)}: {request.prompt[-1].content.split()[0]} of {request.prompt[-2].content}" if len(
        request.prompt) > 1 else "Answer: 5"  # fmt: skip


def test_each_turn_goes_on_from_its_own_attempt_and_only_revisions_are_judged(tmp_path: Path) -> None:
    with make_run(tmp_path, script=script) as run:
        tried = run.attempt(run.base, run.task.train[:2], samples=2)
        notes = run.attempt(run.base, tried, solver=criticize)
        revised = run.attempt(run.base, notes, solver=revise, samples=2)
        words = run.attempt(run.base, tried, solver=judge_answer) + run.attempt(run.base, revised, solver=score_steps)
        usage = run.ledger.usage
    assert [n.parent for n in notes] == [a.id for a in tried]
    assert [r.parent for r in revised] == [n.id for n in notes for _ in range(2)]
    assert [w.parent for w in words] == [a.id for a in (*tried, *revised)]
    assert [m.content for m in revised[0].prompt][1::2] == [tried[0].text, notes[0].text]
    assert words[-1].prompt[:-2] == revised[-1].problem.prompt  # a judge sees the question and the answer, no more
    assert words[-1].prompt[-2].content == revised[-1].text
    assert {a.role for a in notes} == {"critique"}
    assert not any(a.feedback for a in (*notes, *words))
    assert all(a.feedback for a in (*tried, *revised))
    assert {a.verdict for a in tried} == {Verdict.WRONG}
    assert len({a.id for a in (*tried, *notes, *revised, *words)}) == 4 + 4 + 8 + 4 + 8
    assert usage.judge == sum(a.num_tokens for a in (*notes, *words))


def test_what_is_told_stands_in_the_round(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        run.log_metrics("before", {"lost": 1})
        for number in run.rounds(2):
            run.log_metrics("share", {"right": 0.25 * number, "of": 8})
            run.measure(run.base)
        assert [row["metrics"] for row in run.history] == [{"share": {"right": 0.25 * n, "of": 8}} for n in (1, 2)]
