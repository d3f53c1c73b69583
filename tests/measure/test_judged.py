"""Figures of judges: means over problems, agreement where both know."""

from __future__ import annotations

import pytest

from selftaught.measure.judged import judge_figures
from selftaught.records import Attempt, Feedback, Verdict
from selftaught.samples import Sample
from selftaught.testing.sums import sums

R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def attempt(problem: int, truth: Verdict, said: Verdict, score: float | None) -> Attempt:
    one = sums(problem + 1)[problem]
    feedback = (Feedback(truth), Feedback(said, score, kind="judge"))
    sample = Sample(text="4", token_ids=(1,), logprobs=(-1.0,), finish_reason="stop", policy="p", prompt_tokens=1)
    return Attempt(f"{problem}", one, one.prompt, "4", "4", sample, feedback=feedback)


def test_figures_are_means_over_problems_and_count_what_is_known() -> None:
    rows = ((0, R, R, 0.9), (0, W, R, 0.7), (1, R, W, 0.2), (2, U, R, 1.0), (3, W, U, None))
    found = judge_figures([attempt(*row) for row in rows])
    assert found["unscored"] == 0.2
    assert found["mean_score"] == pytest.approx((0.8 + 0.2 + 1.0) / 3, abs=1e-4)
    assert found["agreement"] == (0.5 + 0.0) / 2
    assert found["auroc"] == 0.5
    assert found["mean_score_ci95"][0] <= found["mean_score"] <= found["mean_score_ci95"][1]
    assert judge_figures([]) == {}
