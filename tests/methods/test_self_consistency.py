"""Self-consistency: which path it returns, on scripted answers."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.method import find
from selftaught.records import Verdict
from selftaught.testing import make_run, make_task, sums


@pytest.mark.parametrize(
    ("answers", "won", "score"),
    [("5 6 6 5 7", "5", 0.4), ("- 6 - 6 5", "6", 0.4), ("- - -", None, None), ("5", "5", 1.0)],
)
def test_self_consistency_returns_the_first_path_to_the_most_frequent_answer(
    tmp_path: Path, answers: str, won: str | None, score: float | None
) -> None:
    given = answers.split()
    words = ["zero", "one", "two", "three", "four"]
    texts = [f"path {words[i]}" + (f"\nAnswer: {a}" if a != "-" else "") for i, a in enumerate(given)]
    left = iter(texts)
    problem = sums(1)[0]
    with make_run(tmp_path, task=make_task(), script=lambda *_: next(left)) as run:
        (one,) = run.solve(
            run.base, [problem], "x", verify=False,
            solver=lambda ask, p: find("self-consistency")(ask, p, samples=len(given)),
        )  # fmt: skip
    (feedback,) = one.attempt.feedback
    if won is None:
        assert (feedback.verdict, feedback.score) == (Verdict.UNKNOWN, None)
        assert (
            feedback.text
            == "none of 3 samples has a final answer that can be read: the most probable of them, not a vote"
        )
    else:
        assert one.attempt.answer == won
        assert one.attempt.text == texts[given.index(won)]
        assert (feedback.verdict, feedback.score) == (Verdict.UNKNOWN, pytest.approx(score))
    assert one.tokens == sum(len(text.encode()) for text in texts)
