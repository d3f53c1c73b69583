"""Methods: how they are found, and what they are not shown."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from selftaught.method import find, methods, recipe
from selftaught.models import Policy
from selftaught.records import Attempt, Problem, ReferenceHidden
from selftaught.run.ask import Ask
from selftaught.run.run import Run
from selftaught.tasks import Task
from selftaught.testing import make_run


def test_every_method_is_found_by_its_id_and_by_its_function_s_name() -> None:
    assert {"rest-em", "star", "lmsi", "self-consistency", "self-refine"} <= set(methods())
    assert all(find(m.id) is m and find(m.id.replace("-", "_")) is m for m in methods().values())


def test_finding_a_method_imports_its_file_alone() -> None:
    code = "import sys; from selftaught.method import find; find('rest-em')\n"
    code += "print([m for m in sys.modules if m.startswith('selftaught.methods.') and 'star' in m])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# --- references are hidden from those who did not ask for them ---


@recipe(paper="2203.14465")
def peeker(run: Run, base: Policy, task: Task, *, how: str = "format") -> Policy:
    """Read a reference without saying so."""
    problem = run.attempt(base, task.train)[0].problem if how == "attempt" else task.train[0]
    if how in ("format", "attempt"):
        f"{problem.reference}"
    elif how == "equal":
        assert problem.reference == "1"
    elif how == "solver":
        run.attempt(base, task.train, solver=reading)
    return base


async def reading(ask: Ask, problem: Problem) -> Attempt:
    return await ask(f"{problem.question} Is it {problem.reference}?")


@pytest.mark.parametrize("how", ["format", "equal", "attempt", "solver"])
def test_a_method_that_did_not_declare_it_cannot_read_a_reference(tmp_path: Path, how: str) -> None:
    with make_run(tmp_path) as run, pytest.raises(ReferenceHidden, match="needs="):
        peeker(run, run.base, run.task, how=how)
