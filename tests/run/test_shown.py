"""The verifier that a task shows to solvers: open on every split, while the one that measures stays closed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from selftaught.console import Console
from selftaught.engines import ScriptedEngine
from selftaught.errors import BadInput
from selftaught.feedback.user import user_verifier
from selftaught.feedback.verifiers import Exact, ExtractedAnswer, right_or_wrong
from selftaught.method import recipe, solver
from selftaught.models import Policy
from selftaught.records import HIDDEN, Attempt, Feedback, Problem, Verdict
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Kind, Task, load_task
from selftaught.testing import assert_survives, make_run, solve_sum, sums
from selftaught.testing.sums import base_policy


class LastDigit:
    """A visible test: the answer ends in the digit that the problem shows."""

    version, needs_reference = "last-digit/1", False

    def __init__(self) -> None:
        self.calls, self.closed = 0, False

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        self.calls += 1
        return right_or_wrong((answer.canonical or "").endswith(problem.meta["shown"]), self.version)

    def close(self) -> None:
        self.closed = True


def problems(count: int, start: int = 0) -> list[Problem]:
    return [replace(p, meta={"shown": str(p.reference)[-1], "tests": "secret"}) for p in sums(count, start)]


def shown_task(shown: Any = None) -> Task:
    splits = problems(4), problems(6, 1000), problems(4, 2000)
    return Task("sums", *splits, verifier=Exact(), kind=Kind.NUMBER, shown=shown or LastDigit())


@solver()
async def until_it_passes(ask: Ask, problem: Problem, *, samples: int = 12) -> Attempt:
    """Sample until the visible test passes."""
    assert "tests" not in problem.meta
    for _ in range(samples):
        attempt = await ask(f"{problem.prompt[-1].content} It ends in {problem.meta['shown']}.", temperature=1.0)
        seen = await ask.verify_shown(attempt)
        assert seen.kind == "shown"
        if seen.verdict is Verdict.RIGHT:
            break
    return attempt


def opened(folder: Path, name: str = "run", task: Task | None = None) -> Run:
    return make_run(folder / name, task=task or shown_task())


def test_solvers_consult_it_on_dev_and_test_and_measurements_do_not(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        found = run.measure(run.base, solver=until_it_passes)
        results = run.solve(run.base, run.task.test, "test", solver=until_it_passes)
        plain = run.measure(run.base)
        assert found.accuracy > plain.accuracy
        assert run.journal.count("shown") > 6
        assert {feedback.kind for one in results for feedback in one.attempt.feedback} == {"task"}
        for one, problem in zip(results, run.task.test, strict=True):
            assert one.attempt.right is (one.attempt.answer == problem.reference)


def test_a_visible_test_may_pass_where_the_hidden_one_does_not(tmp_path: Path) -> None:
    with opened(tmp_path) as run:
        task, problem = run.task, run.task.test[0]
        near = f"Answer: {int(problem.reference) + 10}"
        assert task.verify_shown(problem, near).verdict is Verdict.RIGHT
        assert task.verify(problem, near).verdict is Verdict.WRONG
        attempt = run.solve(run.base, [problem], "test", verify=False)[0].attempt
        seen = replace(attempt, feedback=(task.verify_shown(problem, near),))
        assert seen.verdict is Verdict.UNKNOWN
        assert not seen.right
        assert seen.judgments == ()


def test_in_a_method_the_hidden_verifier_stays_closed(tmp_path: Path) -> None:
    seen: list[Any] = []

    async def peeking(ask: Ask, problem: Problem) -> Attempt:
        attempt = await ask(problem.prompt)
        seen.append(await ask.verify_shown(attempt))
        with pytest.raises(BadInput, match="verdicts are closed to it here"):
            await ask.verify(attempt)
        assert problem.reference is HIDDEN
        return attempt

    def mine(run: Run, base: Policy, task: Task) -> Policy:
        (attempt, *_) = run.attempt(base, task.dev, solver=peeking)
        assert attempt.feedback == ()
        assert task.verify_shown(task.dev[0], "Answer: 1").kind == "shown"
        assert task.shown is not None
        with pytest.raises(BadInput, match="without declaring that need"):
            task.shown.judge(task.dev[0], ExtractedAnswer("", None, None), None)
        with pytest.raises(BadInput, match="closed to methods"):
            task.verify(task.dev[0], "Answer: 1")
        return base

    with opened(tmp_path) as run:
        recipe(needs=("verifier",))(mine)(run, run.base, run.task)
    assert len(seen) == 6


def test_killed_before_each_effect_it_ends_the_same_and_verdicts_are_kept(tmp_path: Path) -> None:
    work = partial(Run.measure, solver=until_it_passes)
    assert assert_survives(lambda run: work(run, run.base).accuracy, partial(opened, tmp_path)) == 12
    shown = LastDigit()
    for calls in (True, False):
        shown.calls = 0
        with opened(tmp_path, "again", shown_task(shown)) as run:
            work(run, run.base)
        assert bool(shown.calls) is calls
    assert shown.closed


def test_without_one_and_with_another_one_a_line_says_so(tmp_path: Path) -> None:
    async def asking(ask: Ask, problem: Problem) -> Attempt:
        attempt = await ask(problem.prompt)
        await ask.verify_shown(attempt)
        return attempt

    with (
        opened(tmp_path, "none", shown_task().showing(None)) as run,
        pytest.raises(BadInput, match="sums: the task shows no verdicts; give the task one") as refused,
    ):
        run.attempt(run.base, run.task.train[:1], solver=asking)
    assert "\n" not in str(refused.value)
    with opened(tmp_path, "one"):
        pass
    other = LastDigit()
    other.version = "last-digit/2"
    with pytest.raises(BadInput, match="the verifier that solvers may consult has changed"):
        opened(tmp_path, "one", shown_task(other))


def test_a_task_is_loaded_with_a_function_as_visible_test(tmp_path: Path) -> None:
    (tmp_path / "visible.py").write_text("def short(problem, text):\n    return len(text) < 20\n")
    rows = "".join(f'{{"question": "What is {i} + {i}?", "answer": "{2 * i}"}}\n' for i in range(9))
    (tmp_path / "sums.jsonl").write_text(rows)
    with load_task(
        str(tmp_path / "sums.jsonl"), train=3, dev=3, test=3, shown=f"{tmp_path / 'visible.py'}:short"
    ) as task:  # fmt: skip
        verdicts = [task.verify_shown(task.test[0], text).verdict for text in ("Answer: 1", "Let me see.\nAnswer: 1")]
        assert verdicts == [Verdict.RIGHT, Verdict.WRONG]
        assert task.fingerprint != task.showing(None).fingerprint
        copies = [task.tested_on(task), task.judged_by(Exact()), task.hidden(), task.extended([])]
        assert all(one.shown is task.shown for one in copies)


@pytest.mark.parametrize(
    ("line", "said"),
    [("return 1 / 0", "verifier raised: ZeroDivisionError"), ('return "yes"', "verifier returned a str")],
)
def test_one_that_fails_is_noted_and_gives_up_and_may_be_repaired(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], line: str, said: str
) -> None:
    file = tmp_path / "visible.py"

    def with_line(body: str) -> Task:
        file.write_text(f"def passes(problem, text):\n    {body}\n")
        return shown_task(user_verifier(f"{file}:passes"))

    async def consulting(ask: Ask, problem: Problem) -> Attempt:
        attempt = await ask(problem.prompt)
        await ask.verify_shown(attempt)
        return attempt

    model, engine = base_policy(tmp_path / "run"), ScriptedEngine(solve_sum)
    task, console = with_line(line), Console()
    with Run(tmp_path / "run" / "run", model=model, task=task, engine=engine, console=console) as run:
        run.attempt(run.base, run.task.train[:2], solver=consulting)  # up to three are borne
        (note,) = run.notes
        assert note.startswith(f"2 of 2 shown verdicts failed and were UNKNOWN to solvers ({said}")
        with pytest.raises(BadInput, match=rf"shown: [456] of \d shown verdicts failed \({said}.*samples are kept"):
            run.measure(run.base, solver=consulting)
    assert f"warning: {said}" in capsys.readouterr().err
    with make_run(tmp_path / "run", task=with_line("return True")) as run:
        run.attempt(run.base, run.task.train[:2], solver=consulting)
        run.measure(run.base, solver=consulting)
        assert run.notes == []


def test_one_of_ones_own_class_that_returns_something_else_is_unknown(tmp_path: Path) -> None:
    class Wrong(LastDigit):
        def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Any:
            return "yes"

    found = shown_task(Wrong()).verify_shown(problems(1)[0], "Answer: 1")
    assert (found.verdict, found.text) == (Verdict.UNKNOWN, "verifier returned a str, expected a Feedback")
