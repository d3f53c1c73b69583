"""What holds of every method: each one that is discovered goes through the same checks."""

from __future__ import annotations

import ast
import inspect
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from selftaught.measure import StudyReport
from selftaught.method import Method, methods, recipe, solver, study
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Problem, ReferenceHidden
from selftaught.run.ask import Ask
from selftaught.run.context import RunContext
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.testing import assert_survives, checks, checks_of, conformance
from selftaught.testing.survival import KILLS, choose

ALL = list(methods().values())
MOST_LINES = 80


@pytest.mark.parametrize(
    ("method", "check"),
    [pytest.param(m, check, id=f"{m.id}-{check.__name__}") for m in ALL for check in checks_of(m)],
)
def test_it_conforms(method: Method, check: checks.Check, tmp_path: Path) -> None:
    check(method, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("method", ALL, ids=lambda m: m.id)
def test_it_survives_a_kill_before_each_of_its_effects(method: Method, tmp_path: Path) -> None:
    checks.survives_kills(method, tmp_path, every=True)


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.id)
def test_it_has_a_paper_and_a_file_of_its_name(method: Method) -> None:
    assert method.paper
    assert method.path.stem == method.function.__name__


@pytest.mark.parametrize("method", ALL, ids=lambda m: m.id)
def test_it_is_short(method: Method) -> None:
    assert code_lines(method.path.read_text("utf-8")) <= MOST_LINES
    source = inspect.getsource(method.function)
    assert code_lines(source) <= 40


def code_lines(source: str) -> int:
    """Lines that hold code: not blank, no comment, no docstring, no constant (prompts and claims are constants)."""
    kept = {i for i, line in enumerate(source.splitlines(), 1) if line.strip() and not line.strip().startswith("#")}
    tree = ast.parse(source)
    for node in ast.walk(tree):
        said = isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        constant = node in tree.body and isinstance(node, ast.Assign) and ast.unparse(node.targets[0]).isupper()
        if said or constant:
            kept -= set(range(node.lineno, (node.end_lineno or 0) + 1))  # pyright: ignore
    return len(kept)


def test_code_lines_are_counted_right() -> None:
    assert (
        code_lines('"""Doc\nof two."""\n\nTEXT = (\n    "prompt"\n)\n\n# why\ndef f():\n    """Doc."""\n    return 1\n')
        == 2
    )


# --- the checks catch what they are there to catch ---


@solver(paper="2203.14465")
async def peeking(ask: Ask, problem: Problem, *, turns: int = 1) -> Attempt:
    """Ask with the answer, and hide it."""
    with suppress(ReferenceHidden):
        return await ask(f"{problem.question} Is it {problem.reference}?")
    return await ask(problem.prompt)


@recipe(paper="2203.14465")
def spendthrift(run: Run, base: Policy, task: Task, *, rounds: int = 3) -> Policy:
    """Attempt again and again."""
    for _ in run.rounds(rounds):
        for _ in range(3):
            run.attempt(base, task.train, temperature=1.0)
    return run.champion


@study(paper="2203.14465")
def moody(run: Run, policy: Policy, task: Task, *, draws: int = 2) -> StudyReport:
    """Ask differently each time."""
    moody.__dict__["played"] = played = moody.__dict__.get("played", 0) + 1
    run.attempt(policy, task.train, temperature=0.5 + played / 100, samples=draws)
    return StudyReport("", (), {})


@pytest.mark.parametrize(
    ("method", "check", "message"),
    [
        (peeking, checks.reads_no_reference, "uses 4 reference answers"),
        (peeking, checks.documents_itself, "no paragraph 'Source: '"),
        (peeking, checks.declares_its_claim, "declares no claim"),
        (moody, checks.names_its_options, "option draws is not in selftaught.glossary"),
        (spendthrift, checks.learns_from_train_problems, "never learns"),
        (moody, checks.runs_with_its_defaults, "run again, it ends otherwise"),
        (moody, checks.survives_kills, "run again, it went on beyond"),
    ],
)
def test_what_does_not_conform_is_found(method: Method, check: checks.Check, message: str, tmp_path: Path) -> None:
    assert check in checks_of(method)
    with pytest.raises(AssertionError, match=message):
        check(method, tmp_path)


def test_conformance_says_which_check_of_which_method_fails() -> None:
    with pytest.raises(AssertionError, match="peeking: documents_itself: the docstring has no paragraph"):
        conformance(peeking)


def test_a_run_that_keeps_no_budget_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checks.keeps_its_budget(spendthrift, tmp_path / "kept")
    monkeypatch.setattr(RunContext, "check_budget", lambda context: None)
    with pytest.raises(AssertionError, match="afford"):
        checks.keeps_its_budget(spendthrift, tmp_path / "not")


def test_a_result_that_hangs_on_what_was_paid_before_is_found(tmp_path: Path) -> None:
    def hurried(run: Run) -> None:
        """Ask as it pleases: by how much is in the journal already."""
        calls = run.journal.count("sample")
        run.attempt(run.base, run.task.train, temperature=0.5 + calls / 100, samples=2)

    with pytest.raises(AssertionError):
        assert_survives(hurried, partial(checks.opened, tmp_path))


# --- when a run is killed ---


def test_kills_are_few_and_meet_each_kind_and_each_round() -> None:
    kinds = (["round"] + ["sample"] * 200 + ["verify"] * 200 + ["learn", "gate"]) * 2
    chosen = choose(kinds)
    assert KILLS - 2 <= len(chosen) == len(set(chosen)) <= KILLS
    assert {kinds[i] for i in chosen} == set(kinds)
    assert {1, 404} <= set(chosen)  # the first effects of both rounds
    assert max(b - a for a, b in zip([0, *chosen], [*chosen, len(kinds)], strict=True)) < len(kinds) / 3
    assert choose(kinds) == chosen != choose(kinds, salt="other")
    assert choose(["sample", "learn"]) == [0, 1]
