"""Repairs, critiques and rewards of steps, on sums that a script answers."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from scripted_world import judged, with_facts
from selftaught.control.balance import ScoredAttempt
from selftaught.control.tuning import SamplingConfig
from selftaught.errors import BadInput
from selftaught.records import Attempt, Verdict
from selftaught.refine.turns import answer_turn, first_step_number, step_scores
from selftaught.routines import (
    Acquired,
    CritiqueExample,
    balance_metrics,
    repair_failures,
    score_attempts,
    selected_demos,
)
from selftaught.routines.scoring import _process_reward
from selftaught.testing import make_run, sums
from talking_world import talk

ONE, TWO = sums(2)
R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def wrong(number: int) -> Attempt:
    return judged(ONE, str(number), W, name=f"{number:x}")


def test_the_share_of_right_revisions_is_none_of_none() -> None:
    draft = wrong(1)
    assert CritiqueExample(draft, draft).fix_rate == 0.0
    assert CritiqueExample(draft, draft, (judged(ONE, "1", R), wrong(2), wrong(3))).fix_rate == pytest.approx(1 / 3)


def test_figures_of_a_round_count_each_solved_problem_once() -> None:
    right = judged(ONE, "21", R)
    acquired = Acquired([right, right, judged(TWO, "1", W)], [judged(TWO, "29", R)], SamplingConfig(0.9, 4, 0.5))
    assert acquired.metrics == {"temperature": 0.9, "samples": 4, "solved": 1}
    assert [a.problem for a in acquired.attempts] == [ONE, ONE, TWO, TWO]


def test_harder_problems_get_more_repairs_and_solved_ones_none(tmp_path: Path) -> None:
    failed = [wrong(1), wrong(2)]
    halfway = [judged(TWO, "29", R), judged(TWO, "7", W)]
    run = make_run(tmp_path, script=lambda policy, ask: "step 1" if "Check" in ask.prompt[-1].content else "Answer: 1")
    with run:
        found = repair_failures(run, run.base, run.base, [*failed, *halfway], 3, 0.7)
        assert [a.problem for a in found].count(ONE) == 3  # max_repairs x 2 of 2, the drafts in turn
        assert [a.problem for a in found].count(TWO) == 2  # max_repairs x 1 of 2, rounded up
        assert repair_failures(run, run.base, run.base, [judged(ONE, "21", R)], 3, 0.7) == []


def test_the_worst_step_counts_by_its_log_odds(tmp_path: Path) -> None:
    right, bad = judged(ONE, "21", R), wrong(1)
    with make_run(tmp_path, script=lambda policy, ask: " ++-" if "mark" in ask.prompt[-1].content else "") as run:
        task = run.task
        none = score_attempts(run, run.base, task, [right, bad], "none")
        assert [one.reward for one in none] == [1.0, 0.0]
        marked = score_attempts(run, run.base, task, [right, bad], "model")  # a mark without probability is certain
        assert [one.reward for one in marked] == pytest.approx([0.0, -1.0])
        with pytest.raises(BadInput, match="step_reward: this task has no verdicts on steps"):
            score_attempts(run, run.base, task, [right], "exact")
        with pytest.raises(BadInput, match="no value head"):
            score_attempts(run, run.base, task, [right], "trained")


@pytest.mark.parametrize(
    ("probabilities", "reward"),
    [
        ((0.9, 0.6, 0.8), math.log(0.6 / 0.4) / 5),
        ((0.5,), 0.0),
        ((0.2, 0.9), math.log(0.25) / 5),
        ((1.0, 0.999999), 1.0),
        ((0.9, 0.0), -1.0),
        ((0.9, math.nan), -1.0),
        ((), -1.0),
    ],
)
def test_a_process_reward_is_a_fifth_of_the_lowest_log_odds(probabilities: tuple[float, ...], reward: float) -> None:
    assert _process_reward(probabilities) == pytest.approx(reward)


def test_how_well_the_process_reward_judges_is_logged() -> None:
    rewards = {R: (1.5, 0.8), W: (0.1, -0.3)}  # process rewards 0.5, -0.2 and 0.1, -0.3
    rows = [
        ScoredAttempt(replace(judged(ONE, str(i), verdict), text=f"{verdict}{i}"), reward)
        for verdict, each in rewards.items() for i, reward in enumerate(each)
    ]  # fmt: skip
    found = balance_metrics({ONE.id: rows}, 0.5, 2, 6)
    assert found["process_auroc"] == 0.75  # -0.2 is above one of the two, 0.5 above both
    assert (found["precision"], found["pass_at_k"], found["distinct_right"]) == (1.0, 1.0, 2.0)
    flat = [ScoredAttempt(one.attempt, float(one.attempt.right)) for one in rows]
    assert "process_auroc" not in balance_metrics({ONE.id: flat}, 0.5, 2, 6)
    assert "process_auroc" not in balance_metrics({ONE.id: rows[:2]}, 0.5, 2, 6)


def test_selected_attempts_are_learned_under_the_problems_own_prompt() -> None:
    hinted = replace(judged(ONE, "21", R), prompt=(), parent="a")
    (demo,) = selected_demos({ONE.id: [ScoredAttempt(hinted, 1.0)]})
    assert (demo.prompt, demo.target, demo.attempts) == (ONE.prompt, hinted.text, (hinted.id, "a"))
    assert answer_turn(hinted)[:-1] == ONE.prompt


@pytest.mark.parametrize(
    ("text", "number"),
    [("Step 12 is off", 12), ("steps 3", None), ("misstep 3", None), ("step 1234", None)],
)
def test_a_step_is_a_word_and_a_number(text: str, number: int | None) -> None:
    assert first_step_number(text) == number


@pytest.mark.parametrize(("text", "scores"), [(" +-\n", (1.0, 0.0)), ("+ -", None), ("", None), ("good", None)])
def test_marks_without_a_token_each_are_one_or_nothing(text: str, scores: tuple[float, ...] | None) -> None:
    assert step_scores(replace(wrong(1), text=text)) == scores


def test_a_failed_or_empty_draft_is_not_criticized(tmp_path: Path) -> None:
    drafts = [with_facts(wrong(1), finish_reason="error"), replace(wrong(2), text="")]
    with make_run(tmp_path, script=talk) as run:
        assert repair_failures(run, run.base, run.base, drafts, 4, 0.7) == []
