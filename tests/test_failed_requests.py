"""Requests without an answer: nothing is learned from them, judged by them, or built on them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isnan
from pathlib import Path
from typing import Any

import pytest

from scripted_world import judged, with_facts
from search_world import by_steps
from selftaught import refine, routines
from selftaught.control.balance import ScoredAttempt, select
from selftaught.curate import AnswerPool, finished, keep, keep_right
from selftaught.engines import Likelihood, Request, RequestRefused, Sample, ScriptedEngine
from selftaught.method import find
from selftaught.methods.study.self_train_collapse import _nll_per_token
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, Prompt, Verdict
from selftaught.run.ask import Ask
from selftaught.run.online import RunHost
from selftaught.search import MCTSConfig, MCTSSolver
from selftaught.search.solver import prefix_attempt
from selftaught.search.tree import Node
from selftaught.testing import make_run, solve_sum, sums

ONE, TWO = sums(2)
Refuses = Callable[[Request], bool]


class Refusing(ScriptedEngine):
    """Refuses some requests, and to read some texts."""

    def __init__(self, refuses: Refuses, script: Any = solve_sum, unread: str = "\0") -> None:
        super().__init__(script)
        self.refuses, self.unread = refuses, unread

    async def sample(self, policy: Policy, request: Request) -> Sample:
        if self.refuses(request):
            raise RequestRefused("too long")
        return await super().sample(policy, request)

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        if self.unread in text:
            raise RequestRefused("too long to read")
        return await super().loglikelihood(policy, prompt, text)


def never(request: Request) -> bool:
    del request
    return False


def asks_for(words: str) -> Refuses:
    return lambda request: words in request.prompt[-1].content


def test_nothing_is_learned_from_them() -> None:
    failed = replace(with_facts(judged(ONE, "x", Verdict.WRONG, name="f"), finish_reason="error"), text="begun")
    tried = [failed, judged(ONE, "1", Verdict.RIGHT, name="r"), judged(ONE, "2", Verdict.WRONG, name="w")]
    assert failed.failed
    assert not any(one.failed for one in tried[1:])
    assert [a.id for a in finished(tried)] == ["r", "w"]
    for truncated in ("drop", "open"):
        assert [demo.attempts for demo in keep(tried, truncated=truncated)] == [("r",), ("w",)]
    assert keep_right([replace(failed, feedback=tried[1].feedback)]) == []
    gathered = AnswerPool()
    gathered.add(tried)
    assert [pair.attempts for pair in gathered.pairs(4)] == [("r", "w")]
    rewarded = {ONE.id: [ScoredAttempt(one, 1.0) for one in tried]}
    assert [one.attempt.id for one in select(rewarded, 0.5, 4)[ONE.id]] == ["r", "w"]
    assert [a.id for a in routines.deduplicate(tried)] == ["r", "w"]
    lesson = routines.CritiqueExample(tried[2], replace(failed, role="critique"))
    assert routines.critique_demos([lesson]) == []


def test_what_builds_on_one_comes_back_as_it_is_and_mended_goes_on_from_the_real_beginning(tmp_path: Path) -> None:
    async def two_parts(ask: Ask, problem: Problem) -> Attempt:
        start = await ask(problem.prompt, max_tokens=3)
        more = await ask.continue_from(start, " so")
        assert not start.failed or await ask.inject(start, "reflect", "Wait") is start
        assert not start.failed or await ask("Check it", parent=start) is start
        return more

    found = []
    for refuses in (lambda request: not request.prefix_tokens, never):
        with make_run(tmp_path, engine=Refusing(refuses)) as run:
            found += run.attempt(run.base, run.task.train[:1], solver=two_parts)
            assert run.journal.count("sample") == (0 if found[-1].failed else 2)
    assert (found[0].failed, found[0].verdict, found[0].text) == (True, Verdict.UNKNOWN, "")
    assert found[1].text[3:6] == " so"


def test_a_key_tells_beginnings_of_other_texts_apart(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        (start,) = run.attempt(run.base, run.task.train[:1])
        one, two = (
            run.attempt(run.base, [replace(start, text=text)], solver=again)[0] for text in ("one 1 + 1", "two 1 + 1")
        )
    assert one.id != two.id


async def again(ask: Ask, attempt: Attempt) -> Attempt:
    return await ask.continue_from(attempt, "!")


@pytest.mark.parametrize("words", ["What is", "Check", "mending"])
def test_no_verdict_is_passed_on_a_solving_with_a_failed_turn(tmp_path: Path, words: str) -> None:
    async def mends(ask: Ask, problem: Problem) -> Attempt:
        return await refine.critique_and_revise(ask, await ask(problem.prompt))

    critic = find("critic-supervision").with_options(mode="sequential", samples=2)
    with make_run(tmp_path, engine=Refusing(asks_for(words))) as run:
        for solver in (mends, find("self-refine").with_options(turns=2), critic):
            solved = run.solve(run.base, run.task.test, "test", solver=solver)
            assert {one.attempt.verdict for one in solved} == {Verdict.UNKNOWN}
            assert {one.attempt.feedback[-1].text for one in solved} == {"refused: too long"}


def test_a_lesson_has_no_failed_turns(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Refusing(asks_for("mending"))) as run:
        drafts = run.attempt(run.base, run.task.train[:3])
        drafts.append(replace(with_facts(drafts[0], finish_reason="error"), id="f" * 16))
        lessons = routines.collect_critiques(run, run.base, run.base, drafts)
    assert [lesson.revisions for lesson in lessons] == [()] * 3


def test_a_text_that_cannot_be_read_has_no_surprise_and_ends_none_of_the_others(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Refusing(never, unread="unread")) as run:
        tried = run.attempt(run.base, run.task.train[:2])
        texts = [tried[0], replace(tried[1], text="unread")]
        first, second = run.nll(run.base, texts)
        assert (first > 0, isnan(second)) == (True, True)
        assert list(_nll_per_token(run, run.base, texts)) == [tried[0].problem.id]
        assert (run.request_counts["refused"], run.no_answer_reason) == (1, "")
        assert run.notes == [
            "1 request was refused (too long to read); none of them was kept; the same command asks again"
        ]


def thinks(policy: Policy, request: Request) -> str:
    del policy
    return " it is so.\nAnswer: 5" if request.prefix_tokens else "<think>hm"


def test_only_answers_handed_in_count_as_thinking_alone(tmp_path: Path) -> None:
    async def in_steps(ask: Ask, problem: Problem) -> Attempt:
        return await ask.continue_from(await ask(problem.prompt, stop=("\n",)), "</think>")

    async def stopped(ask: Ask, problem: Problem) -> Attempt:
        return await ask(problem.prompt, stop=("\n",))

    with make_run(tmp_path, script=thinks) as run:
        for solver in (in_steps, stopped):
            run.attempt(run.base, run.task.train, solver=solver)
        assert (run.request_counts["thinking_only"], run.no_answer_reason, run.notes) == (0, "", [])
        run.attempt(run.base, run.task.train[:1])
        assert (run.request_counts["thinking_only"], run.no_answer_reason) == (1, "")
        assert run.notes[0].startswith("1 of 25 answers is thinking alone")
    with make_run(tmp_path / "alone", script=thinks) as run:
        run.attempt(run.base, run.task.train[:2])
        assert run.no_answer_reason.startswith("none of 2 requests got an answer (they are thinking alone")


def test_a_line_that_a_search_left_unfinished_is_not_cut_off_at_max_tokens(tmp_path: Path) -> None:
    async def part(ask: Ask, problem: Problem) -> Attempt:
        said = await ask(problem.prompt, stop=("\n",))
        root = Node()
        root.children.append(Node(said.id, said.text + said.stop_text, said.token_ids, parent=root))
        return prefix_attempt(problem, ask, root.children[0])

    with make_run(tmp_path) as run:
        lines = run.attempt(run.base, run.task.train[:2], solver=part)
        assert {line.finish_reason for line in lines} == {"unfinished"}
        assert finished(lines) == []
        assert run.notes == []


def test_a_line_that_a_refusal_ended_is_not_judged(tmp_path: Path) -> None:
    grower = MCTSSolver(MCTSConfig(iterations=8, self_eval=False))
    engine = Refusing(lambda request: bool(request.prefix_tokens), by_steps())
    with make_run(tmp_path, engine=engine) as run:
        (line,) = run.attempt(run.base, run.task.train[:1], solver=grower)
        assert (line.failed, line.verdict) == (True, Verdict.UNKNOWN)


def test_data_of_the_same_name_is_kept_beside_other_data(tmp_path: Path) -> None:
    for mark in ("a", "b", "a"):

        async def notes(ask: Ask, problem: Problem) -> Attempt:
            ask.log("tree", {"mark": mark})  # noqa: B023 - called before the next turn
            return await ask(problem.prompt)

        with make_run(tmp_path) as run:
            run.attempt(run.base, run.task.train[:1], solver=notes)
            count = run.journal.count("tree")
    assert count == 2


def test_a_refused_rollout_is_no_reward_of_nothing(tmp_path: Path) -> None:
    seen: list[int] = []

    def third(request: Request) -> bool:
        seen.append(request.seed)
        return len(seen) % 3 == 0

    with make_run(tmp_path, engine=Refusing(third)) as run:
        how = run.settings.sampling
        services = RunHost(run._context, None, how, lambda *_: None, None)
        rolled = services.collect_rollouts(run.base, run.task.train[:4], 6)
    assert sum(map(len, rolled)) == 16
    assert not any(one.failed for group in rolled for one in group)
