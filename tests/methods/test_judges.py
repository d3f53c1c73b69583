"""The judges of the package: prompts, parsers, both orders, and replies that cannot be parsed."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftaught import curate
from selftaught.console import Console
from selftaught.engines import Request
from selftaught.engines.base import Sampling
from selftaught.methods.judge.pairwise import pairwise, parse_preference
from selftaught.methods.judge.rubric import PROMPT, rubric
from selftaught.models import Policy
from selftaught.records import Attempt, Verdict
from selftaught.run.best_of import BestOf
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import load_task
from selftaught.testing import make_run
from selftaught.testing.sums import make_task

R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def judged(folder: Path, how: Any, reply: Callable[[Request, int], str], answers: int = 1) -> tuple[Any, list[Request]]:
    """What a judge says of `answers` answers ("one", "two", ...) where it is told `reply(request, number)`."""
    asked: list[Request] = []
    words = iter(("one", "two"))

    def script(_: Policy, request: Request) -> str:
        if len(request.prompt) == 1:
            return next(words)
        asked.append(request)
        return reply(request, len(asked))

    with make_run(folder, task=make_task(train=1), script=script) as run:
        tried = run.attempt(run.base, run.task.train, samples=answers)
        (found,) = run.judge(run.base, [tuple(tried)] if answers > 1 else tried, how)
        assert run.ledger.usage.judge > 0
    return found, asked


@pytest.mark.parametrize(
    ("replies", "score", "verdict"),
    [
        (["Fine.\nScore: 5", "Score: 4", "So so.\n**Score: 3**"], 0.8, R),
        (["Score: 1/5", "no idea", "Score: 2"], 0.3, W),
        (["right", "right", "wrong"], 2 / 3, R),
        (["Score: 9", "5", "my score is high"], None, U),
    ],
)
def test_a_rubric_is_the_mean_of_the_scores_that_can_be_read(
    tmp_path: Path, replies: list[str], score: float | None, verdict: Verdict
) -> None:
    found, asked = judged(tmp_path, rubric, lambda _, number: replies[number - 1])
    (said,) = found.judgments
    assert (said.score, said.verdict) == (pytest.approx(score) if score is not None else None, verdict)
    assert len(asked) == 3
    assert [m.content for m in asked[0].prompt[1:]] == ["one", PROMPT]
    assert asked[0].sampling.temperature == 0.7
    if score is None:
        assert said.text == "no score in: my score is high"


PREFERS_ONE = lambda request, _: "[[A]]" if request.prompt[1].content.startswith("A: one") else "[[B]]"  # noqa: E731


@pytest.mark.parametrize(
    ("reply", "scores", "verdicts"),
    [
        (PREFERS_ONE, [1.0, 0.0], [R, W]),
        (lambda *_: "It is the first.\n[[A]]", [0.5, 0.5], [U, U]),  # whatever stands first: a tie
        (lambda *_: "[[C]]", [0.5, 0.5], [U, U]),
        (lambda _, number: "[[A]]" if number == 1 else "[[C]]", [0.5, 0.5], [U, U]),
        (lambda _, number: "[[A]]" if number == 1 else "hm", [None, None], [U, U]),
    ],
)
def test_a_preference_counts_if_it_is_the_same_in_both_orders(
    tmp_path: Path, reply: Any, scores: list[float | None], verdicts: list[Verdict]
) -> None:
    found, asked = judged(tmp_path, pairwise, reply, answers=2)
    assert [one.score for one in found] == scores
    assert [one.judgments[0].verdict for one in found] == verdicts
    assert {request.prompt[1].content for request in asked} == {"A: one\nB: two", "A: two\nB: one"}
    if None in scores:
        assert found[0].judgments[0].text == "no verdict in: hm"


def test_one_order_alone_believes_it(tmp_path: Path) -> None:
    found, asked = judged(tmp_path, pairwise.with_options(both_orders=False), lambda *_: "[[A]]", answers=2)
    assert ([one.score for one in found], len(asked)) == ([1.0, 0.0], 1)


def test_the_last_verdict_counts_and_a_letter_alone_is_one() -> None:
    assert [parse_preference(text) for text in ("[[A]] or rather [[B]]", " B\n", "A is better", "")] == [
        0,
        0,
        None,
        None,
    ]


POINTS = [  # of three answers, and which of them is the best
    ({"one": 2, "two": 4, "three": 3}, "two"),
    ({"one": 4, "two": 2, "three": 3}, "one"),
    ({"one": 1, "two": 4, "three": 4}, "two"),  # ties go to the first
    ({"one": None, "two": 0, "three": 0}, "two"),  # one that cannot be judged comes last
    ({"one": None, "two": None, "three": None}, "one"),
]


@pytest.mark.parametrize(("points", "best"), POINTS)
@pytest.mark.parametrize("how", [rubric.with_options(judgments=1), pairwise], ids=["rubric", "pairwise"])
def test_the_best_of_several_is_the_one_its_judge_prefers(
    tmp_path: Path, how: Any, points: dict[str, int | None], best: str
) -> None:
    words = iter(points)

    def script(_: Policy, request: Request) -> str:
        if len(request.prompt) == 1:
            return next(words)
        shown = request.prompt[1].content
        found = [points[text.removeprefix("A: ").removeprefix("B: ")] for text in shown.splitlines()]
        if None in found:
            return "hm"
        first, last = found[0] or 0, found[-1] or 0
        if len(found) == 1:
            return f"Score: {first}"
        return "[[C]]" if first == last else "[[A]]" if first > last else "[[B]]"

    with make_run(tmp_path, task=make_task(train=1), script=script) as run:
        (found,) = run.attempt(run.base, run.task.train, solver=BestOf(how, 3, {"temperature": 1.0}))
    assert (found.text, next(words, None)) == (best, None)


# --- on the model that ships ---


def underfit(folder: Path) -> Run:
    task = load_task("underfit:family=chain|add,level=1", train=8, dev=2, test=2, seed=3)
    settings = Settings(sampling=Sampling(max_tokens=96))
    return Run(folder, model="underfit", task=task, settings=settings, console=Console(quiet=True))


def test_the_underfit_model_understands_both(tmp_path: Path) -> None:
    with underfit(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train, samples=4, temperature=1.0)
        scored = run.judge(run.base, tried, rubric)
        pairs = [(a, b) for a, b in curate.all_pairs(tried) if a.answer and b.answer and a.answer != b.answer]
        compared = run.judge(run.base, pairs, pairwise.with_options(compared="answer"))
        used = run.ledger.usage
    read = [one for one in scored if one.score is not None]
    assert len(read) >= 0.9 * len(scored)
    mean = {side: sum(a.score or 0 for a in read if a.right is side) / sum(a.right is side for a in read)
            for side in (True, False)}  # fmt: skip
    assert mean[True] > mean[False] + 0.1
    assert sum(a.score is not None for a, _ in compared) >= 0.8 * len(compared) > 0
    assert used.judge > 0


def test_the_underfit_model_chooses_among_its_answers(tmp_path: Path) -> None:
    with underfit(tmp_path) as run:
        for how in (rubric.with_options(judgments=1), pairwise):
            (found,) = run.attempt(run.base, run.task.train[:1], solver=BestOf(how, 3, {"temperature": 1.0}))
            assert isinstance(found, Attempt)
            assert found.verdict is not U
