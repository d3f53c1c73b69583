"""`Ask.continue_from`: a solver appends text to a partial answer and goes on, token for token, at the right cost."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.engines import Request, ScriptedEngine
from selftaught.engines.local.engine import LocalEngine
from selftaught.feedback.verifiers import Exact
from selftaught.learn import sft
from selftaught.learn.objectives.sampled import row_from_attempt
from selftaught.measure.flips import full_text
from selftaught.models import ChatTokenizer, Policy
from selftaught.records import Attempt, Demo, Problem, make_problem
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task
from selftaught.testing import assert_survives, make_run, make_task
from tiny_models import prompt_ids, reference, teacher_forced

SAID = "one, two\nthree, four\nAnswer: 5"


def counting(policy: Policy, request: Request) -> str:
    """Goes on where what it is given ends."""
    del policy
    said = b"".join(
        piece.encode() if isinstance(piece, str) else bytes([piece]) for piece in request.prefix_tokens
    ).decode()
    return SAID.removeprefix(said) if SAID.startswith(said) else f" after {said[-5:]!r} Answer: 7"


def solved(folder: Path, solver: Callable[..., Any], **how: Any) -> tuple[Attempt, Run]:
    with make_run(folder, script=counting, **how) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=solver)
        return attempt, run


def test_pieces_make_the_same_answer_as_one_piece_and_cost_as_much(tmp_path: Path) -> None:
    async def whole(ask: Ask, problem: Problem) -> Attempt:
        return await ask(problem.prompt)

    async def pieces(ask: Ask, problem: Problem) -> Attempt:
        part = await ask(problem.prompt, max_tokens=5)
        while part.finish_reason == "length":
            part = await ask.continue_from(part, max_tokens=7)
            assert part.text == SAID[: len(part.text)]
            assert len(part.text) - part.prefix_chars == part.num_tokens <= 7
        assert ask.tokens == len(SAID)
        return part

    one, first = solved(tmp_path / "one", whole)
    many, second = solved(tmp_path / "many", pieces)
    assert many.text == one.text == SAID
    assert many.answer == one.answer == "5"
    assert first.ledger.usage.generated == second.ledger.usage.generated == len(SAID)


def test_forced_text_is_part_of_the_answer_read_by_the_model_and_not_paid_for(tmp_path: Path) -> None:
    async def doubting(ask: Ask, problem: Problem) -> Attempt:
        part = await ask(problem.prompt, max_tokens=8)
        return await ask.continue_from(part, "\nWait!", role="revise")

    attempt, run = solved(tmp_path, doubting)
    assert attempt.text == "one, two\nWait! after 'Wait!' Answer: 7"
    assert attempt.text[attempt.prefix_chars :] == " after 'Wait!' Answer: 7"
    assert attempt.num_tokens == len(" after 'Wait!' Answer: 7")
    assert (attempt.answer, attempt.role) == ("7", "revise")
    assert run.ledger.usage.generated == 8 + attempt.num_tokens
    question = len(attempt.problem.question)
    assert run.ledger.usage.prompt == question + (question + len("one, two\nWait!"))


def test_a_stop_string_is_kept_for_what_goes_on(tmp_path: Path) -> None:
    async def by_lines(ask: Ask, problem: Problem) -> Attempt:
        line = await ask(problem.prompt, stop=("\n",))
        assert (line.text, line.stop_text, line.finish_reason) == ("one, two", "\n", "stop")
        while line.stop_text:
            line = await ask.continue_from(line, stop=("\n",))
        return line

    attempt, run = solved(tmp_path, by_lines)
    assert attempt.text == SAID
    assert run.ledger.usage.generated == len(SAID)


def test_a_chain_is_paid_once_and_leads_back_through_its_parents(tmp_path: Path) -> None:
    async def chain(ask: Ask, problem: Problem) -> Attempt:
        part = await ask(problem.prompt, max_tokens=4)
        twice = [await ask.continue_from(part, max_tokens=3) for _ in range(2)]
        assert twice[0].id != twice[1].id  # asked again, it is a new sample
        return await ask.continue_from(await ask.continue_from(twice[0], " no", max_tokens=3), "!")

    outcomes: list[Any] = []
    calls, samples = -1, {}
    for _ in range(2):
        with make_run(tmp_path, script=counting) as run:
            (attempt,) = run.attempt(run.base, run.task.train[:1], solver=chain)
            assert isinstance(run.engine, ScriptedEngine)
            outcomes.append((attempt, run.journal.digest(), run.ledger.usage))
            calls = run.engine.calls
            samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
    assert outcomes[0] == outcomes[1]
    assert calls == 0
    steps, key = [], outcomes[0][0].id
    while key:
        steps.append(samples[key].get("injected"))
        key = samples[key]["parent"]
    assert steps == ["!", " no", "", None]


def test_interjections_are_turns_where_the_task_has_words_of_its_own(tmp_path: Path) -> None:
    async def doubting(ask: Ask, problem: Problem) -> Attempt:
        return await ask.inject(await ask(problem.prompt, max_tokens=8), "reflect", "\nWait!", role="revise")

    task = make_task()
    task.phrases = {"reflect": "again"}
    attempt, _ = solved(tmp_path, doubting, task=task)
    assert [m.content for m in attempt.prompt[1:]] == ["one, two", "again"]
    assert attempt.text == SAID
    assert attempt.prefix_chars == 0


@pytest.mark.parametrize(
    ("said", "kept"),
    [
        ("A 1\nB 2\nC", "A 1\nB 2\n"),  # a step that was cut off is taken back
        ("A 1\nB 2\n", "A 1\nB 2\n"),
        ("A 1\nB 2\nAnswer: 3", "A 1\nB 2\n"),  # and so is the final answer
        ("A 1\nhm\nB 2\nAnswer: 3\nA 1\n", "A 1\nhm\nB 2\n"),
        ("A 1", ""),  # nothing to doubt yet: the answer is sampled anew without the phrase
        ("Answer: 3", ""),
    ],
)
def test_phrases_in_line_follow_the_last_whole_step_of_the_reasoning(said: str, kept: str, tmp_path: Path) -> None:
    def script(policy: Policy, request: Request) -> str:
        del policy
        given = "".join(p if isinstance(p, str) else chr(p) for p in request.prefix_tokens)
        return f"D 4\nAnswer: {len(given)}" if request.prefix_tokens else said

    async def doubting(ask: Ask, problem: Problem) -> Attempt:
        first = await ask(problem.prompt)
        return await ask.inject(first, "reflect", "\nWait!\n", role="revise", max_tokens=64)

    task = make_task()
    task = Task(
        "sums", task.train, task.dev, task.test, verifier=task.verifier, kind=task.kind, phrases={"reflect": "again"},
        inline={"reflect": "hm\n"},
    )  # fmt: skip
    with make_run(tmp_path, script=script, task=task) as run:
        (attempt,) = run.attempt(run.base, run.task.train[:1], solver=doubting)
        samples = {key: payload for key, _, payload, _ in run.journal.effects("sample")}
    forced = kept + ("hm\n" if kept else "")
    assert attempt.text == f"{forced}D 4\nAnswer: {len(forced)}"
    assert attempt.answer == str(len(forced))
    assert (attempt.role, len(attempt.prompt), attempt.prefix_tokens) == (
        "revise",
        1,
        (kept, "hm\n") if kept else ("",),
    )
    assert full_text(samples, attempt.id) == attempt.text
    assert samples[samples[attempt.id]["parent"]]["text"] == said


# --- against transformers ---


def test_tokens_and_log_probabilities_are_those_of_the_whole_sequence(tiny: Any, tmp_path: Path) -> None:
    policy = tiny("llama", seed=1)
    problem = make_problem("hi", "1")
    task = Task("one", [problem], [], [], verifier=Exact(), kind=Kind.NUMBER)
    parts: list[Attempt] = []

    async def chain(ask: Ask, problem: Problem) -> Attempt:
        parts.append(await ask(problem.prompt, max_tokens=6))
        parts.append(await ask.continue_from(parts[-1], " Wait!", max_tokens=6))
        parts.append(await ask.continue_from(parts[-1], max_tokens=6))
        return parts[-1]

    with Run(
        tmp_path, model=policy, task=task, engine=LocalEngine(dtype="float32"), console=Console(quiet=True)
    ) as run:
        run.attempt(policy, [problem], solver=chain)
    tokenizer = ChatTokenizer(policy.weights)
    eos = tokenizer.eos_ids
    ids = prompt_ids(policy, problem.prompt)
    forced = [[], tokenizer.encode(" Wait!"), []]
    for part, text in zip(parts, forced, strict=True):
        ids += text
        assert teacher_forced(reference(policy), ids, part.token_ids) == pytest.approx(part.logprobs, abs=1e-4)
        row = row_from_attempt(part, tokenizer, "here", recorded=True)
        assert [*row.prompt] == ids
        ids += [token for token in part.token_ids if token not in eos]


def test_an_end_of_sequence_is_left_out_where_an_answer_goes_on(tiny: Any) -> None:
    import asyncio

    policy = tiny("llama", seed=1)
    engine = LocalEngine(dtype="float32")
    given = Request(make_problem("hi").prompt, prefix_tokens=(70, 71, 3))
    try:
        with_end, without = (
            asyncio.run(engine.sample(policy, one)) for one in (given, replace(given, prefix_tokens=(70, 71)))
        )
        spelt = asyncio.run(
            engine.sample(policy, replace(given, prefix_tokens=(ChatTokenizer(policy.weights).decode([70, 71]),)))
        )
    finally:
        engine.close()
    assert with_end.token_ids == without.token_ids == spelt.token_ids
    assert with_end.prompt_tokens == len(prompt_ids(policy, given.prompt)) + 2


# --- keys of concurrent branches ---


class Uneven(ScriptedEngine):
    """Answers with policy and seed; what contains `slow` takes longer."""

    def __init__(self, slow: str) -> None:
        super().__init__(lambda policy, request: f"{policy.version} {request.seed}")
        self.slow = slow

    async def sample(self, policy: Policy, request: Request) -> Any:
        await asyncio.sleep(0.02 if self.slow in request.prompt[-1].content else 0)
        return await super().sample(policy, request)


def test_branches_that_ask_two_policies_the_same_are_paid_once_whichever_comes_first(tmp_path: Path) -> None:
    outcomes, calls = [], []
    for slow in ("first of a", "first of b"):  # in the rerun, answers of the journal come in another order too
        engine = Uneven(slow)
        with make_run(tmp_path, engine=engine) as run:
            other = run.learn(run.base, sft(), [Demo(run.task.train[0].prompt, "x")])

            async def branches(ask: Ask, problem: Problem, other: Policy = other) -> Attempt:
                async def one(first: str, policy: Policy | None) -> Attempt:
                    await ask(first)
                    return await ask("and now?", policy=policy)

                a, b = await asyncio.gather(one("first of a", None), one("first of b", other))
                return await ask(f"{a.text} or {b.text}?")

            outcomes.append((run.attempt(run.base, run.task.train[:2], solver=branches), run.journal.digest()))
        calls.append(engine.calls)
    assert outcomes[0] == outcomes[1]
    assert calls == [2 * 5, 0]


def test_branches_of_two_policies_survive_a_kill_before_each_effect(tmp_path: Path) -> None:
    def work(run: Run) -> list[str]:
        other = run.learn(run.base, sft(), [Demo(run.task.train[0].prompt, "x")])

        async def branches(ask: Ask, problem: Problem) -> Attempt:
            async def one(first: str, policy: Policy | None) -> Attempt:
                await ask(first)
                return await ask("and now?", policy=policy)

            a, b = await asyncio.gather(one("slow", None), one("fast", other))
            return await ask(f"{a.text} or {b.text}?")

        return [one.text for one in run.attempt(run.base, run.task.train[:1], solver=branches)]

    def opened(name: str) -> Run:
        return make_run(tmp_path / name, engine=Uneven("slow"))

    assert assert_survives(work, opened, every=True) >= 6


def test_equal_requests_to_one_policy_are_numbered_as_they_are_asked(tmp_path: Path) -> None:
    async def twice(ask: Ask, problem: Problem) -> Attempt:
        made = await ask.sample("same", 2)
        assert made[0].id != made[1].id
        again = await asyncio.gather(ask("other"), ask("same"))
        assert again[1].id not in {one.id for one in made}
        return made[0]

    for calls in (4, 0):
        with make_run(tmp_path, engine=Uneven("nothing")) as run:
            run.attempt(run.base, run.task.train[:1], solver=twice)
            assert isinstance(run.engine, ScriptedEngine)
            assert run.engine.calls == calls
