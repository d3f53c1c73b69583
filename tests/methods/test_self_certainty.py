"""Self-certainty: how the ranks vote, on scripted answers whose certainty is known."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from scripted_world import judged, with_facts
from selftaught.engines import Capabilities, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.method import find
from selftaught.methods.solve.voting.self_certainty import certainty
from selftaught.records import Verdict
from selftaught.run.solver import SolverResult
from selftaught.testing import make_run, make_task, sums

# A byte's self-certainty grows with its probability, which falls with its value: "a" is surer than "b".
TEXTS = {text: f"{text}\nAnswer: {answer}" for text, answer in [("aaaa", 6), ("bbbb", 5), ("cccc", 5), ("dddd", 7)]}
PROBLEM = sums(1)[0]


def solved(folder: Path, texts: list[str], engine: Any = None, **options: Any) -> SolverResult:
    left = iter(texts)
    with make_run(folder, task=make_task(), engine=engine, script=lambda *_: next(left)) as run:
        solver = find("self-certainty").with_options(samples=len(texts), **options)
        return run.solve(run.base, [PROBLEM], "x", verify=False, solver=solver)[0]


@pytest.mark.parametrize(
    ("p", "order", "won", "share"),
    [
        (0.0, "dcba", "cccc", 2 / 4),  # the plain vote: two say 5
        (1.0, "dcba", "cccc", (3 + 2) / 10),  # ranks: a, b, c, d have 4, 3, 2, 1 votes
        (3.0, "dcba", "aaaa", 64 / 100),  # 64 against 27 + 8
        (100.0, "abcd", "aaaa", 1.0),
    ],
)
def test_ranks_vote_with_a_power(tmp_path: Path, p: float, order: str, won: str, share: float) -> None:
    texts = [TEXTS[letter * 4] for letter in order]
    one = solved(tmp_path, texts, p=p)
    assert one.attempt.text == TEXTS[won]  # of those who gave the answer the first
    (feedback,) = one.attempt.feedback
    assert (feedback.verdict, feedback.score) == (Verdict.UNKNOWN, pytest.approx(share))
    assert one.tokens == sum(map(len, texts))


def test_without_answers_the_most_certain_is_returned_with_a_note(tmp_path: Path) -> None:
    one = solved(tmp_path, ["story dd", "story aa", "story bb"])
    assert one.attempt.text == "story aa"
    (feedback,) = one.attempt.feedback
    assert feedback.score is None
    assert feedback.text.startswith("none of 3 samples has a final answer")


def test_certainty_is_a_mean_over_tokens_and_nothing_where_there_are_none() -> None:
    attempt = with_facts(judged(PROBLEM, "1"), self_certainties=(1.0, 2.0, 6.0))
    assert certainty(attempt) == 3.0
    assert certainty(judged(PROBLEM, "1")) == -math.inf


def test_an_endpoint_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    class Endpoint(ScriptedEngine):
        name = "endpoint"
        capabilities = Capabilities()

    engine = Endpoint(lambda *_: "Answer: 1")
    with pytest.raises(BadInput, match="engine endpoint: it returns no token distributions"):
        solved(tmp_path, ["x"], engine)
    assert engine.calls == 0
