"""The run: what is paid is paid once, counted once, promoted on proof, and ends cleanly."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.control import Budget
from selftaught.engines import EngineError, Request, RequestRefused, Sample, Sampling, ScriptedEngine
from selftaught.engines.scripted import scripted_learner
from selftaught.errors import BadInput
from selftaught.feedback.verifiers import Exact, ExtractedAnswer
from selftaught.journal import Usage
from selftaught.learn import TrainConfig, sft
from selftaught.method import find, recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Feedback, Problem, Verdict, as_prompt
from selftaught.run.ask import Ask
from selftaught.run.counts import RETRY_NOTE
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Task
from selftaught.testing import Inverted, make_run, make_task, solve_sum, sums
from selftaught.testing.sums import base_policy, depth, draw

REST_EM = find("rest-em")


def learnt(run: Run, **options: Any) -> Policy:
    return REST_EM(run, run.base, run.task, **{"rounds": 2, "samples": 4, **options})


# --- what is asked again, and what is not ---


def test_attempts_are_new_each_time_and_the_same_on_a_rerun(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            first, second = (run.attempt(run.base, run.task.train, samples=3) for _ in range(2))
            seen.append([(a.id, a.text) for a in first + second])
            assert isinstance(run.engine, ScriptedEngine)
            calls = run.engine.calls
    assert seen[0] == seen[1]
    assert len(set(seen[0])) == 6 * len(make_task().train)
    assert calls == 0


def test_measurements_are_the_same_when_asked_again_and_can_be_extended(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        assert isinstance(run.engine, ScriptedEngine)
        one = run.solve(run.base, run.task.dev, "dev", samples=2, temperature=1.0)
        assert run.solve(run.base, run.task.dev, "dev", samples=2, temperature=1.0) == one
        assert run.engine.calls == 2 * len(run.task.dev)
        more = run.solve(run.base, run.task.dev, "dev", samples=2, first=1, temperature=1.0)
        assert run.engine.calls == 3 * len(run.task.dev)
        assert more[::2] == one[1::2]


@pytest.mark.parametrize(
    "change",
    [{"temperature": 0.5}, {"top_p": 0.5}, {"top_k": 5}, {"max_tokens": 50}, {"stop": ("x",)}],
    ids=lambda change: next(iter(change)),
)
def test_every_sampling_field_is_part_of_the_key(tmp_path: Path, change: dict[str, Any]) -> None:
    with make_run(tmp_path) as run:
        (one,) = run.solve(run.base, run.task.dev[:1], "dev")
        (two,) = run.solve(run.base, run.task.dev[:1], "dev", **change)
        (again,) = run.solve(run.base, run.task.dev[:1], "dev", temperature=1)
    assert one.attempt.id != two.attempt.id
    assert one.attempt.id == again.attempt.id  # 1 is 1.0


def test_seed_policy_and_place_in_the_solving_are_part_of_the_key(tmp_path: Path) -> None:
    async def thrice(ask: Ask, problem: Problem) -> Attempt:
        first, second = await ask.sample(problem.prompt, 2)
        child = await ask(problem.prompt, parent=first)
        judge = await ask(problem.prompt, role="judge")
        led = await ask(problem.prompt, prefix="So")
        ids.update(a.id for a in (first, second, child, judge, led))
        return first

    ids: set[str] = set()
    for seed in (0, 1):
        with make_run(tmp_path / str(seed), settings=Settings(seed=seed)) as run:
            other = replace(run.base, version="other")
            for policy in (run.base, other):
                run.attempt(policy, run.task.train[:1], solver=thrice)
                assert run.ledger.usage.judge > 0
    assert len(ids) == 20


def test_the_same_question_asked_twice_at_once_is_paid_once(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=ScriptedEngine(solve_sum, delay=0.01)) as run:
        problem = run.task.dev[0]
        one, two = run.solve(run.base, [problem, problem], "dev")
        assert one == two
        assert run.journal.count("sample") == 1
        assert run.ledger.usage.generated == one.tokens


# --- the ledger and the budget ---


def test_the_ledger_equals_the_journal_and_grows_with_each_round(tmp_path: Path) -> None:
    rows = []
    for _ in range(2):
        with make_run(tmp_path) as run:
            learnt(run)
            assert run.ledger.usage == run.journal.usage()
            rows.append([row["tokens"] for row in run.history])
            first = [u for _, number, _, u in run.journal.effects("sample") if number == 1]
            trained = [u for _, number, _, u in run.journal.effects("learn") if number == 1]
    assert rows[0] == rows[1]
    assert asdict(sum(first + trained, Usage())) == rows[0][0]
    assert all(rows[0][0][kind] < rows[0][1][kind] for kind in ("prompt", "generated", "trained"))


@pytest.mark.parametrize(("tokens", "rounds", "learnings"), [(1, 0, 0), (2000, 0, 1), (6000, 1, 1), (10**9, 2, 2)])
def test_a_spent_budget_ends_the_run_between_two_calls_and_the_same_way_again(
    tmp_path: Path, tokens: int, rounds: int, learnings: int
) -> None:
    ends = []
    for _ in range(2):
        with make_run(tmp_path, settings=Settings(budget=Budget(tokens))) as run:
            champion = learnt(run)
            ends.append((champion, run.ledger.usage, len(run.history), run.journal.digest()))
            assert champion == run.champion
            assert run.journal.count("learn") == learnings
            assert ("the budget of" in " ".join(run.notes)) is (tokens < 10**9)
    assert ends[0] == ends[1]
    assert ends[0][2] == rounds


# --- the gate ---


def test_the_champion_is_who_passed_the_gate(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        champion = learnt(run)
        first, second = run.history
    assert (first["promoted"], second["promoted"]) == (True, False)
    assert champion.version == first["policy"] != second["policy"]
    assert first["reason"].startswith("promoted: dev +")
    assert [gate["champion"] for gate in run.gate_decisions] == ["base-model", first["policy"]]


def test_a_worse_policy_is_kept_and_reported_but_not_promoted(tmp_path: Path) -> None:
    def worse(policy: Policy, request: Request) -> str:
        return solve_sum(policy, request) if not depth(policy) else "Answer: 0"

    with make_run(tmp_path, script=worse) as run:
        assert learnt(run, rounds=1) == run.base
        (row,) = run.history
        assert (row["promoted"], row["accuracy"]) == (False, 0.0)
        assert row["reason"].startswith("not promoted: dev -")
        assert (run.folder / "policies" / row["policy"] / "selftaught.json").is_file()


def test_a_policy_measured_under_a_solver_or_by_sampling_does_not_go_through_the_gate(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        better = Policy("better", tmp_path, run.base)
        run.measure(better, samples=2, temperature=1.0)
        run.measure(better, solver=find("self-refine"))
        assert run.gate_decisions == []
        run.measure(better)
        assert [gate["promoted"] for gate in run.gate_decisions] == [True]


def test_a_recipe_that_leaves_its_loop_still_has_its_round_told(tmp_path: Path) -> None:
    @recipe(paper="2312.06585")
    def early(run: Run, base: Policy, task: Task, *, rounds: int = 5) -> Policy:
        """Stop after the first round."""
        for _ in run.rounds(rounds):
            run.measure(base)
            return base
        return run.champion

    with make_run(tmp_path) as run:
        early(run, run.base, run.task)
        assert [(row["round"], row["reason"]) for row in run.history] == [(1, "it is the champion already")]


# --- what stays closed ---


@pytest.mark.parametrize(
    ("how", "said"),
    [
        ("test", "attempts test problems"),
        ("dev demos", "is a dev or test"),
        ("test demos", "is a dev or test"),
        ("reworded", "is a dev or test"),
    ],
)
def test_a_method_cannot_learn_from_what_it_is_measured_on(tmp_path: Path, how: str, said: str) -> None:
    @recipe(paper="2312.06585")
    def cheat(run: Run, base: Policy, task: Task, *, how: str = "") -> Policy:
        """Look where one must not."""
        if how == "test":
            run.attempt(base, make_task().test[:1])
        if how == "reworded":
            tried = run.attempt(base, task.dev[:1])[0]
            return run.learn(base, sft(), [Demo(as_prompt("another wording"), tried.text, attempts=(tried.id,))])
        split = task.dev if how == "dev demos" else make_task().test
        return run.learn(base, sft(), [Demo(split[0].prompt, "Answer: 1")])

    with make_run(tmp_path) as run, pytest.raises(BadInput, match=said):
        cheat(run, run.base, run.task, how=how)


def test_a_folder_made_with_another_configuration_names_what_differs(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:
        learnt(run)
    others = {
        "seed is 0 there, 1 here": {"settings": Settings(seed=1)},
        "sampling.max_tokens is 256 there, 9 here": {"settings": Settings(sampling=Sampling(max_tokens=9))},
        "gate.max_p_value": {"settings": Settings(gate=replace(Settings().gate, max_p_value=0.5))},
        "train is 12 there, 5 here": {"task": make_task(train=5)},
    }
    for said, change in others.items():
        with pytest.raises(BadInput, match=said) as refused:
            make_run(tmp_path, **change)
        assert str(refused.value).count(" there, ") == 1
    with make_run(tmp_path) as run:
        with pytest.raises(BadInput, match=r"option\.samples is 4 there, 5 here"):
            learnt(run, samples=5)
        with pytest.raises(BadInput, match="method is 'rest-em' there, 'star' here"):
            find("star")(run, run.base, run.task)
        learnt(run)


# --- bad input, told by the run ---


@pytest.mark.parametrize(
    ("what", "said"),
    [
        (lambda run: run.attempt(run.base, run.task.train, temprature=1), "did you mean 'temperature'"),
        (lambda run: run.attempt(run.base, run.task.train, max_tokens=0), "max_tokens must be at least 1, got 0"),
        (lambda run: run.attempt(run.base, run.task.train, temperature=-1), "temperature"),
        (lambda run: run.attempt(run.base, run.task.train, samples=0), "samples must be at least 1, got 0"),
        (lambda run: run.learn(run.base, sft(), [Demo(run.task.train[0].prompt, "x")], batch_size=0), "batch_size"),
        (
            lambda run: run.learn(run.base, sft(), [Demo(run.task.train[0].prompt, "x")], batch=1),
            "use 'batch_size'",
        ),
        (lambda run: run.learn(run.base, sft(), [Demo(run.task.train[0].prompt, "x")], lr_scale=0.0), "got 0.0"),
        (lambda run: run.learn(run.base, sft(), []), "nothing to learn from"),
        (lambda run: learnt(run, rounds=0), "rounds must be at least 1, got 0"),
        (lambda run: learnt(run, sampels=3), "did you mean 'samples'"),
        (lambda run: run.attempt(run.base, run.task.train, solver=nothing), "expected an Attempt"),
    ],
)
def test_wrong_calls_are_one_line(tmp_path: Path, what: Any, said: str) -> None:
    with make_run(tmp_path) as run, pytest.raises(BadInput, match=said) as refused:
        what(run)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("change", [{}, {"learning_rate": 1e-3}])
def test_lr_scale_multiplies_the_learning_rate(tmp_path: Path, change: dict[str, float]) -> None:
    rates: list[float] = []

    def learner(base: Policy, objective: Any, records: Any, settings: TrainConfig, **more: Any) -> Policy:
        rates.append(settings.learning_rate)
        return scripted_learner(base, objective, records, settings, **more)

    with make_run(tmp_path, learner=learner) as run:
        usual = change.get("learning_rate", run.settings.training.learning_rate)
        run.learn(run.base, sft(), [Demo(run.task.train[0].prompt, "x")], lr_scale=0.25, **change)
        run.learn_online(run.base, run.task.train, steps=2, samples=8, lr_scale=3.0, **change)
    assert rates == [0.25 * usual, 3.0 * usual]


async def nothing(ask: Ask, problem: Problem) -> None:
    await ask(problem.prompt)


@pytest.mark.parametrize("change", [{"seed": -1}, {"failure_limit": 2}, {"budget": Budget(-1)}])
def test_settings_out_of_range_are_refused(change: dict[str, Any]) -> None:
    with pytest.raises(BadInput, match=r"must be .*, got"):
        Settings(**change)


def test_a_task_without_references_where_they_are_read_is_refused_before_anything_is_paid(tmp_path: Path) -> None:
    known = make_task()
    bare = [Problem(p.id, p.prompt, meta={"where": f"t.jsonl:{i}"}) for i, p in enumerate(known.train)]
    for train, dev in ((bare, known.dev), (known.train, bare)):
        task = Task("bare", train, dev, known.test, verifier=Exact(), kind=known.kind)
        with make_run(tmp_path / str(len(dev)), task=task) as run:
            with pytest.raises(BadInput, match=r"t\.jsonl:0: the problem has no reference"):
                learnt(run)
            assert run.journal.count("sample") == 0
    task = Task("bare", bare, [], [], verifier=Lenient(), kind=known.kind)
    with make_run(tmp_path / "own", task=task) as run, pytest.raises(BadInput, match="no dev problems"):
        learnt(run)  # a verifier that needs no reference is enough


class Lenient:
    needs_reference = False
    version = "lenient"

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        return Feedback(Verdict.RIGHT, 1.0, source=self.version)

    def close(self) -> None:
        pass


# --- verifiers and engines that fail ---


class Flaky(Exact):
    """Raises for a share of the texts."""

    def __init__(self, share: float, version: str = "flaky") -> None:
        super().__init__()
        self.share, self.version = share, version

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        if draw(answer.text) < self.share:
            raise ZeroDivisionError("no")
        return replace(super().decide(problem, answer, reference), source=self.version)


def test_a_verifier_that_sometimes_raises_leaves_unknowns_that_are_counted(tmp_path: Path) -> None:
    seen = []
    for _ in range(2):
        with make_run(tmp_path, task=make_task(verifier=Flaky(0.2))) as run:
            tried = run.attempt(run.base, run.task.train, samples=8)
            failed = [a for a in tried if a.verdict is Verdict.UNKNOWN]
            assert {draw(a.text) < 0.2 for a in failed} == {True}
            assert all("ZeroDivisionError: no" in a.feedback[-1].text for a in failed)
            assert len(failed) > 5
            (note,) = run.notes
            assert note.startswith(f"{len(failed)} of 96 verifications failed and count as UNKNOWN (verifier raised")
            seen.append((run.journal.digest(), [a.verdict for a in tried]))
    assert seen[0] == seen[1]  # an accepted failure stands, so that nothing built on it moves


def test_a_verifier_that_mostly_raises_stops_the_run_and_once_mended_the_samples_are_used(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(verifier=Flaky(0.9))) as run:
        with pytest.raises(BadInput, match=r"verifier: \d+ of 48 verifications failed .*samples are kept"):
            learnt(run)
        kept = run.journal.count("sample")
        assert not any("ZeroDivision" in str(payload) for _, _, payload, _ in run.journal.effects("verify"))
    assert kept > 10
    with make_run(tmp_path, task=make_task(verifier=Flaky(0.0, "mended"))) as run:
        learnt(run)
        assert isinstance(run.engine, ScriptedEngine)
        whole = run.journal.count("sample")
        assert run.engine.calls == whole - kept
        mended = [row["policy"] for row in run.history]
    with make_run(tmp_path / "clean", task=make_task(verifier=Flaky(0.0, "mended"))) as run:
        learnt(run)
        assert [row["policy"] for row in run.history] == mended
        assert run.journal.count("sample") == whole


def test_a_few_failures_among_few_attempts_do_not_stop_a_run(tmp_path: Path) -> None:
    with make_run(tmp_path, task=make_task(verifier=Flaky(1.1))) as run:
        tried = run.attempt(run.base, run.task.train[:3])
        assert [a.verdict for a in tried] == [Verdict.UNKNOWN] * 3
        with pytest.raises(BadInput, match="4 of 4 verifications failed"):
            run.attempt(run.base, run.task.train[:4])


def test_no_answer_is_a_verdict_and_no_failure(tmp_path: Path) -> None:
    with make_run(tmp_path, script=lambda *_: "I do not know") as run:
        tried = run.attempt(run.base, run.task.train, samples=2)
        assert {a.verdict for a in tried} == {Verdict.UNKNOWN}
        assert run.notes == []


class Picky(ScriptedEngine):
    """Refuses, or breaks on, the questions that mention a number."""

    def __init__(self, number: str, error: type[Exception]) -> None:
        super().__init__(solve_sum)
        self.number, self.error = number, error

    async def sample(self, policy: Policy, request: Request) -> Sample:
        if self.number in request.prompt[-1].content:
            raise self.error(f"not {self.number}")
        return await super().sample(policy, request)


def test_a_refused_request_fails_alone_and_is_told_but_not_kept(tmp_path: Path) -> None:
    for _ in range(2):
        with make_run(tmp_path, engine=Picky("What is 13 ", RequestRefused)) as run:
            tried = run.attempt(run.base, run.task.train)
            (refused,) = [a for a in tried if a.finish_reason == "error"]
            assert (refused.text, refused.answer, refused.token_ids) == ("", None, ())
            assert (refused.verdict, refused.feedback[0].text) == (Verdict.UNKNOWN, "refused: not What is 13 ")
            assert run.notes == [f"1 request was refused (not What is 13 ); {RETRY_NOTE}"]
            assert run.request_counts["refused"] == 1
            assert run.request_counts["answered"] == run.journal.count("sample") == len(tried) - 1
    with make_run(tmp_path) as run:
        assert {a.finish_reason for a in run.attempt(run.base, run.task.train)} == {"stop"}
        assert isinstance(run.engine, ScriptedEngine)
        assert run.engine.calls == 1  # what was missing


def test_an_engine_that_breaks_ends_the_call_and_keeps_what_was_paid(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Picky("What is 22 ", EngineError)) as run:
        with pytest.raises(EngineError, match="not What is 22"):
            run.attempt(run.base, run.task.train)
        kept = run.journal.count("sample")
    with make_run(tmp_path) as run:
        run.attempt(run.base, run.task.train)
        assert isinstance(run.engine, ScriptedEngine)
        assert run.engine.calls == len(run.task.train) - kept


class Stale(ScriptedEngine):
    async def sample(self, policy: Policy, request: Request) -> Sample:
        return replace(await super().sample(policy, request), policy="older")


def test_samples_of_another_policy_than_asked_for_are_an_error(tmp_path: Path) -> None:
    with make_run(tmp_path, engine=Stale(solve_sum)) as run:
        with pytest.raises(EngineError, match="sampled policy older, expected base-model"):
            run.attempt(run.base, run.task.train)
        assert run.journal.count("sample") == 0


# --- life ---


def test_closing_twice_is_harmless_and_leaves_no_thread(tmp_path: Path) -> None:
    before = set(threading.enumerate())
    run = make_run(tmp_path)
    run.attempt(run.base, run.task.train[:1])
    run.close()
    run.close()
    begun = set(threading.enumerate()) - before
    assert not [t for t in begun if t.name == "selftaught-run"]
    assert len(begun) <= 32  # idle workers of asyncio's pool
    with make_run(tmp_path):
        pass


def test_a_solver_that_uses_the_run_is_told_instead_of_hanging(tmp_path: Path) -> None:
    with make_run(tmp_path) as run:

        async def inside(ask: Ask, problem: Problem) -> Attempt:
            return run.attempt(run.base, [problem])[0]

        with pytest.raises(BadInput, match="cannot use the run that calls it; sample with its `ask`"):
            run.attempt(run.base, run.task.train, solver=inside)


def test_it_works_inside_a_running_event_loop_as_notebooks_have_one(tmp_path: Path) -> None:
    async def cell() -> Policy:
        with make_run(tmp_path) as run:
            return learnt(run, rounds=1)

    assert asyncio.run(cell()).version != "base-model"


CRASH = textwrap.dedent("""
    import sys, time
    from pathlib import Path
    from selftaught.testing import make_run, make_task, solve_sum
    from selftaught.engines import ScriptedEngine

    async def broken(ask, problem):
        attempt = await ask(problem.prompt)
        if problem.id == task.train[3].id:
            raise LookupError("a method's own mistake")
        await ask(problem.prompt)
        return attempt

    task = make_task()
    with make_run(Path(sys.argv[1]), task=task, engine=ScriptedEngine(solve_sum, delay=0.02)) as run:
        run.attempt(run.base, task.train, solver=broken, samples=50)
""")


def test_a_method_that_raises_ends_the_process_at_once_with_its_own_traceback(tmp_path: Path) -> None:
    begun = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", CRASH, str(tmp_path)], cwd=Path(__file__).parent, capture_output=True, text=True,
        timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert done.stderr.rstrip().endswith("LookupError: a method's own mistake")
    assert "never retrieved" not in done.stderr
    assert "was destroyed" not in done.stderr
    assert time.monotonic() - begun < 30


def test_the_console_says_a_line_a_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = base_policy(tmp_path)
    with Run(
        tmp_path / "run", model=place, task=make_task(), engine=ScriptedEngine(solve_sum), console=Console(every=0.0)
    ) as run:
        run.measure(run.base)
        for _ in run.rounds(1):
            run.measure(run.base)
    out, said = capsys.readouterr()
    assert out == ""
    assert "measuring on dev: 8/8" in said
    assert "round 1: dev accuracy 0." in said
    assert "tokens: " in said


# --- what the framework itself costs ---


def test_the_framework_takes_less_than_a_millisecond_a_sample_and_replays_fast(tmp_path: Path) -> None:
    task = make_task(train=320)

    def script(policy: Policy, request: Request) -> str:
        return "step by step, " * 5 + solve_sum(policy, request)

    cpu = []
    for _ in range(2):
        with make_run(tmp_path, task=task, script=script) as run:
            begun = time.process_time()
            tried = run.attempt(run.base, task.train, samples=16)
            cpu.append((time.process_time() - begun) / len(tried))
            assert isinstance(run.engine, ScriptedEngine)
            calls, effects = run.engine.calls, run.journal.count("sample") + run.journal.count("verify")
    assert len(tried) == 5120
    assert calls == 0
    assert effects > 10_000
    assert cpu[0] < 1e-3, f"{cpu[0] * 1e3:.2f} ms of CPU a sample"
    assert cpu[1] * len(tried) / effects * 15_000 < 10, f"{cpu[1] * 1e3:.2f} ms of CPU a replayed sample"


def test_inverted_is_inverted() -> None:
    task = make_task(verifier=Inverted())
    problem = sums(1)[0]
    assert task.verify(problem, f"Answer: {problem.reference}").verdict is Verdict.WRONG
    assert task.verify(problem, "Answer: 1").verdict is Verdict.RIGHT


def test_answers_that_a_full_context_cuts_off_are_counted_once_and_told(tiny: Any, tmp_path: Path) -> None:
    from selftaught.engines.local.engine import LocalEngine

    task = make_task()
    for _ in range(2):  # and again from the journal
        settings = Settings(sampling=Sampling(max_tokens=300, temperature=1.0))
        engine = LocalEngine(dtype="float32", device="cpu")
        with Run(tmp_path, model=tiny("llama"), task=task, engine=engine, settings=settings) as run:
            run.solve(run.base, task.dev[:4], "dev")
            solved = run.solve(run.base, task.dev[:4], "dev")
            cut = [s.attempt for s in solved if s.attempt.finish_reason == "length"]
            notes = [note for note in run.notes if "context was full" in note]
        assert cut
        assert all(len(attempt.token_ids) < 300 for attempt in cut)
        assert len(cut) == 1
        assert notes == ["1 answer ended before --max-tokens: the model's context was full"]
