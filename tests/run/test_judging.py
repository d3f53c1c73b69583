"""Judging attempts: feedback beside the verdict, journaled as judge tokens, blind to verdicts, and never of test."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught import curate
from selftaught.control import Budget
from selftaught.control.budget import RunStopped
from selftaught.engines import Request, RequestRefused, ScriptedEngine
from selftaught.errors import BadInput
from selftaught.lineage import trace
from selftaught.method import find, judge, recipe, solver
from selftaught.models import Policy
from selftaught.records import HIDDEN, Attempt, Feedback, Message, Problem, Verdict
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.testing import assert_survives, make_run
from selftaught.testing.sums import make_task, solve_sum

R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def script(policy: Policy, request: Request) -> str:
    """Sums; whoever is asked how good one is gives a number that hangs on the answer's length and the seed."""
    if request.prompt[-1].content == "how good?":
        return str((len(request.prompt[-2].content) + request.seed) % 11)
    return solve_sum(policy, request, least=0.5)


@judge()
async def graded(ask: Ask, attempt: Attempt, *, top: int = 10) -> Feedback:
    """Ask for a number."""
    reply = await ask((*ask.with_turn((*attempt.problem.prompt, said(attempt)), "grade", "how good?"),), parent=attempt)
    score = int(reply.text) / top
    return Feedback(R if score > 0.5 else W, score, reply.text) if score <= 1 else Feedback(U, text=reply.text)


@judge()
async def longer(ask: Ask, pair: tuple[Attempt, Attempt]) -> tuple[Feedback, Feedback]:
    """The longer of two wins."""
    a, b = (len(one.text) for one in pair)
    if a == b:
        return Feedback(U, 0.5), Feedback(U, 0.5)
    return Feedback(R if a > b else W), Feedback(R if b > a else W)


def said(attempt: Attempt) -> Any:
    return Message("assistant", attempt.text)


def opened(folder: Path, name: str = "run", **how: Any) -> Run:
    task = make_task(train=3, dev=3, test=2)
    return make_run(folder / name, task=task, engine=ScriptedEngine(script), settings=Settings(**how))


def test_a_judgment_stands_beside_the_verdict_and_costs_judge_tokens(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train, samples=2)
        before = run.ledger.usage
        judged = run.judge(run.base, tried, graded, samples=3, temperature=1.0)
        after = run.ledger.usage
        effects = list(run.journal.effects("judgment"))
        samples = {key: p for key, _, p, _ in run.journal.effects("sample") if p["role"] == "judge"}
        again = run.judge(run.base, tried, graded, samples=3, temperature=1.0)
    assert [a.verdict for a in judged] == [a.verdict for a in tried]
    assert {a.right for a in judged} == {True, False}
    assert all(a.feedback[0] == b.feedback[0] and len(a.judgments) == 3 for a, b in zip(judged, tried, strict=True))
    assert {one.source for a in judged for one in a.judgments} == {"graded by base-model"}
    assert all(a.score == pytest.approx(sum(one.score or 0 for one in a.judgments) / 3) for a in judged)
    assert (after.generated, after.judge > before.judge) == (before.generated, True)
    assert len(effects) == len(samples) == 18
    payload = effects[0][2]
    assert (payload["attempts"], payload["source"]) == ([tried[0].id], "graded by base-model")
    assert payload["feedback"][0][1:] == [judged[0].judgments[0].score, judged[0].judgments[0].text]
    assert set(payload["replies"]) <= samples.keys()
    assert [a.judgments for a in again] != [a.judgments for a in judged]  # called again, it draws anew


def test_rerun_it_pays_nothing_and_killed_before_each_effect_it_ends_the_same(tmp_path: Path) -> None:
    def work(run: Run) -> Any:
        tried = run.attempt(run.base, run.task.train, samples=2)
        judged = run.judge(run.base, tried, graded, samples=2, temperature=1.0)
        pairs = run.judge(run.base, curate.all_pairs(judged), longer)
        return [(a.score, [one.text for one in a.feedback]) for a in curate.win_rates(judged, pairs)]

    assert assert_survives(work, partial(opened, tmp_path), every=True) > 30
    with opened(tmp_path, "undisturbed") as run:
        work(run)
        assert run.engine.calls == 0  # type: ignore[attr-defined]
        assert run.ledger.usage == run.journal.usage()


@judge()
async def solving(ask: Ask, attempt: Attempt) -> Feedback:
    """Solve the problem itself, without a look at the attempt, and compare."""
    own = await ask(attempt.problem.prompt)
    return Feedback(R if own.answer == attempt.answer else W, text=f"{own.sample.num_tokens} {own.id}")


def test_each_attempt_is_judged_by_samples_of_its_own_whatever_the_judge_reads(tmp_path: Path) -> None:
    replies: list[list[str]] = []
    for paid in (True, False):
        with opened(tmp_path) as run:
            tried = run.attempt(run.base, run.task.train[:1], samples=6)
            before = run.engine.calls  # type: ignore[attr-defined]
            judged = run.judge(run.base, tried, solving)
            assert run.engine.calls - before == 6 * paid  # type: ignore[attr-defined]
            (again,) = run.judge(run.base, tried[:1], solving)
            assert run.engine.calls - before == 7 * paid  # type: ignore[attr-defined]
            run.judge(run.base, [(tried[0], tried[1]), (tried[1], tried[0])], longer)
            replies.append([one.judgments[0].text for one in (*judged, again)])
            assert run.ledger.usage == run.journal.usage()
    assert len(set(replies[0])) == 7  # called again, it draws anew
    assert replies[0] == replies[1]


def test_a_judge_that_solves_by_itself_survives_a_kill_before_each_effect(tmp_path: Path) -> None:
    def work(run: Run) -> Any:
        tried = run.attempt(run.base, run.task.train[:1], samples=3)
        judged = run.judge(run.base, tried, solving)
        return [one.text for a in run.judge(run.base, judged[1:], solving) for one in a.judgments]

    assert assert_survives(work, partial(opened, tmp_path), every=True) >= 3 + 2 * 5


def test_pairs_get_a_feedback_each_and_win_rates_sum_them(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train, samples=3)
        pairs = curate.all_pairs(tried)
        judged = run.judge(run.base, pairs, longer)
    assert [tuple(a.id for a in pair) for pair in judged] == [tuple(a.id for a in pair) for pair in pairs]
    assert all(sum(a.score or 0 for a in pair) == 1 for pair in judged)
    rated = curate.win_rates(tried, judged)
    for group in curate.by_problem(rated).values():
        best = max(group, key=lambda a: len(a.text))
        assert sum(a.score or 0 for a in group) == 1.5
        assert best.score == max(a.score or 0 for a in group)


@pytest.mark.parametrize("declared", [(), ("verifier",), ("reference",)])
def test_it_sees_neither_verdict_nor_reference_unless_it_says_so(tmp_path: Path, declared: Any) -> None:
    seen: list[Attempt] = []

    async def looks(ask: Ask, attempt: Attempt) -> Feedback:
        seen.append(attempt)
        return Feedback(U, 0.5)

    with opened(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train)
        twice = run.judge(run.base, tried, judge(needs=declared)(looks))
        assert [a.problem.reference for a in twice] == [p.reference for p in run.task.train]
    assert [a.verdict is not U for a in seen] == [declared == ("verifier",)] * 3
    assert [a.problem.reference is HIDDEN for a in seen] == [declared != ("reference",)] * 3


def in_method(tmp_path: Path, body: Callable[..., Any], needs: Any = ()) -> Any:
    @recipe(needs=needs)
    def method(run: Run, base: Policy, task: Task) -> Policy:
        """Judge."""
        body(run, base, task)
        return run.champion

    with opened(tmp_path) as run:
        return method(run, run.base, run.task)


def test_within_a_method_dev_may_be_judged_blindly_and_test_never(tmp_path: Path) -> None:
    kept: list[Attempt] = []

    def on_dev(run: Run, base: Policy, task: Task) -> None:
        kept.extend(run.judge(base, run.attempt(base, task.dev), graded))

    def on_test(run: Run, base: Policy, task: Task) -> None:
        (one,) = run.attempt(base, task.train[:1])
        run.judge(base, [replace(one, problem=make_task(train=3, dev=3, test=2).test[0])], graded)

    in_method(tmp_path / "dev", on_dev, ("verifier",))
    assert [(a.task_feedback, a.problem.reference is HIDDEN) for a in kept] == [(None, True)] * 3
    assert all(a.judgments for a in kept)
    with pytest.raises(BadInput, match="attempts test problems"):
        in_method(tmp_path / "test", on_test)


def test_a_judge_needs_what_its_method_declares(tmp_path: Path) -> None:
    @judge(needs=("reference",))
    async def compares(ask: Ask, attempt: Attempt) -> Feedback:
        return Feedback(R if attempt.problem.reference in attempt.text else W)

    def body(run: Run, base: Policy, task: Task) -> None:
        judged = run.judge(base, run.attempt(base, task.train), compares)
        assert {a.score for a in judged} <= {0.0, 1.0}

    with pytest.raises(BadInput, match="its judge compares needs 'reference'"):
        in_method(tmp_path / "no", body)
    in_method(tmp_path / "yes", body, ("reference",))


def test_an_answer_that_failed_is_left_alone_and_a_reply_that_failed_is_asked_again(tmp_path: Path) -> None:
    refuse = True

    def refusing(policy: Policy, request: Request) -> str:
        if refuse and request.prompt[-1].content == "how good?":
            raise RequestRefused("too long")
        return script(policy, request)

    async def careful(ask: Ask, attempt: Attempt) -> Feedback:
        reply = await ask((*attempt.problem.prompt, said(attempt), *ask.with_turn((), "grade", "how good?")))
        return Feedback(U, text=reply.feedback[0].text) if reply.failed else Feedback(U, int(reply.text) / 10)

    def play() -> tuple[Attempt, int]:
        with make_run(tmp_path, task=make_task(train=2), script=refusing) as run:
            (judged,) = run.judge(run.base, run.attempt(run.base, run.task.train[:1]), careful)
            return judged, run.journal.count("judgment")

    judged, kept = play()
    assert (judged.judgments[0].text, judged.score, kept) == ("refused: too long", None, 0)
    refuse = False
    judged, kept = play()
    assert judged.score is not None
    assert kept == 1


def test_the_budget_ends_it(tmp_path: Path) -> None:
    with opened(tmp_path, budget=Budget(1)) as run:
        tried = run.attempt(run.base, run.task.train)
        with pytest.raises(RunStopped):
            run.judge(run.base, tried, graded)


def test_the_lineage_of_an_attempt_says_how_it_was_judged(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        (one,) = run.judge(run.base, run.attempt(run.base, run.task.train[:1]), graded)
        folder, score = run.folder, one.score
        (reply,) = next(run.journal.effects("judgment"))[2]["replies"]
    found = trace(folder, one.id)
    assert f"score {score:.2f} by graded by base-model in {reply[:10]}" in found.nodes[one.id].note
    assert {"by", "continues"} == {link.how for link in trace(folder, reply).links if link.source == reply}


# --- wrong uses are one line ---


async def says(ask: Ask, attempt: Attempt) -> Any:
    return "good"


async def nothing(ask: Ask, attempt: Attempt) -> Any:
    return None


async def one_of_two(ask: Ask, pair: tuple[Attempt, Attempt]) -> Any:
    return (Feedback(R),)


async def out_of_range(ask: Ask, attempt: Attempt) -> Feedback:
    return Feedback(R, 7.0)


async def takes_one(ask: Ask) -> Feedback:
    return Feedback(R)


def hurried(ask: Ask, attempt: Attempt) -> Any:
    return Feedback(R)


@solver()
async def plain(ask: Ask, problem: Problem) -> Attempt:
    return await ask(problem.prompt)


async def unjudged(ask: Ask, attempt: Attempt) -> Feedback:
    wrong: Any = ("right it is", "5")
    return Feedback(*wrong)


def keyed(what: Any) -> Any:
    async def inner(ask: Ask, attempt: Attempt) -> Feedback:
        return Feedback(R, text=str(what))

    return inner


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (says, "says: it returned 'good', expected a Feedback; return Feedback(verdict, score, text)"),
        (nothing, "nothing: it returned None, expected a Feedback"),
        (out_of_range, "score 7.0; give a Verdict, and a score in 0..1 or None"),
        (takes_one, "takes_one: it cannot be called as a judge: too many positional arguments"),
        (hurried, "without await; write it as async"),
        (plain, "plain: it is a solver, not a judge; pass a judge"),
        (lambda ask, attempt: Feedback(R), "lambda: it returned a Feedback without await; write it as async"),
        (unjudged, "unjudged: its feedback has verdict 'right it is' and score '5'; give a Verdict"),
        (keyed(object()), "a judgment must tell it from other solvers, but what is a object"),
        ("rubric", "'rubric' is not a judge"),
        (longer, "longer: it judges pairs of attempts, got 1 at a time; pass tuples"),
    ],
)
def test_a_judge_of_another_shape_is_one_line(tmp_path: Path, wrong: Any, message: str) -> None:
    with opened(tmp_path) as run:
        tried = run.attempt(run.base, run.task.train[:1])
        with pytest.raises(BadInput) as error:
            run.judge(run.base, tried, wrong)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_groups_of_the_wrong_size_or_kind_are_one_line(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        a, b = run.attempt(run.base, run.task.train[:2])
        cases: Sequence[tuple[Any, Any, str]] = [
            ((a, b), longer, "of several problems"), ((a, a, a), longer, "judges pairs of attempts, got 3"),
            ((a, a), graded, "judges single attempts, got 2"), (run.task.train[0], graded, "got a Problem to judge"),
            ((a, a), one_of_two, "returned 1 Feedback of 2 attempts"),
        ]  # fmt: skip
        for subject, how, message in cases:
            with pytest.raises(BadInput, match=message):
                run.judge(run.base, [subject], how)  # pyright: ignore[reportCallIssue, reportArgumentType]
        with pytest.raises(BadInput, match=r"graded: it is a judge, not a solver; pass it to run\.judge"):
            run.attempt(run.base, run.task.train, solver=graded)  # pyright: ignore[reportArgumentType]
        with pytest.raises(BadInput, match="Sampling has no field 'heat'"):
            run.judge(run.base, [a], graded, heat=1)


def test_demos_of_what_judges_like_best(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        judged = run.judge(run.base, run.attempt(run.base, run.task.train, samples=4, temperature=1.0), graded)
    demos = curate.keep_judged(judged, min_score=0.4, per_problem=2)
    for group in curate.by_problem(judged).values():
        best = sorted((a for a in group if (a.score or 0) >= 0.4), key=lambda a: a.score or 0, reverse=True)[:2]
        assert [d.target for d in demos if d.prompt == group[0].problem.prompt] == [a.text for a in best]
    with pytest.raises(BadInput, match="min_score"):
        curate.keep_judged(judged, min_score=4)


def test_the_packages_judges_are_found_by_name() -> None:
    assert {find("rubric").shape, find("pairwise").shape} == {"judge"}
