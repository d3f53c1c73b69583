"""Solvers and judges of a user's file that raise: one line with the place; the package's own keep their tracebacks."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from selftaught.cli.main import main
from selftaught.method import find
from selftaught.records import Attempt, Problem
from selftaught.run.ask import Ask
from selftaught.testing import make_run

FILE = """from selftaught import Ask, Attempt, Feedback, Problem, judge, refine, solver

@solver()
async def mine(ask: Ask, problem: Problem) -> Attempt:
    attempt = await ask(problem.prompt)
    raise ValueError("no number")
    return attempt

@judge()
async def harsh(ask: Ask, attempt: Attempt) -> Feedback:
    return 1 / 0

@solver()
async def inside(ask: Ask, problem: Problem) -> Attempt:
    refine.parse_verdict(None)
"""
EVAL = ["eval", "--model", "underfit", "--task", "underfit:family=chain|add,level=1", "--test", "4", "--quiet"]


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (path := tmp_path / "bad.py").write_text(FILE)
    return path


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (
            ["--solver", "{}:mine"],
            "bad.py:6: solver mine raises ValueError: no number",
        ),
        (["--judge", "{}:harsh"], "bad.py:11: judge harsh raises ZeroDivisionError: division by zero"),
    ],
)
def test_one_line_names_file_and_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], file: Path, words: list[str], said: str
) -> None:
    out = ["--out", str(tmp_path / "run"), "--max-tokens", "16"]
    assert main([*EVAL, *out, *(word.format(file) for word in words)]) == 2
    line = capsys.readouterr().err.strip().splitlines()[-1]
    assert re.fullmatch(rf"selftaught: .*{re.escape(said)}; repair it and run the same command again", line)


def test_what_the_package_or_a_function_from_elsewhere_raises_keeps_its_traceback(tmp_path: Path, file: Path) -> None:
    async def own(ask: Ask, problem: Problem) -> Attempt:
        raise ZeroDivisionError

    with make_run(tmp_path) as run:
        with pytest.raises(AttributeError):
            run.attempt(run.base, run.task.train[:1], solver=find(f"{file}:inside"))
        with pytest.raises(ZeroDivisionError):
            run.attempt(run.base, run.task.train[:1], solver=own)
