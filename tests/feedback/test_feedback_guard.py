"""Model output is never executed, not even by the libraries that verify it."""

from __future__ import annotations

from pathlib import Path

import pytest

from selftaught.feedback.guard import is_plain_expression
from selftaught.feedback.user import UserFunction
from selftaught.feedback.verifiers import ExtractedAnswer
from selftaught.feedback.workers import Workers
from selftaught.records import Verdict, make_problem
from selftaught.tasks import Task, load_task


@pytest.mark.parametrize(
    "text", ["1 + 2*3", "-4*x**2/3 + C", "sin(x)**2", "3*(4 - 1)!", "2.5e3", "x1 + y", "sqrt(2)/2", "Abs(-3)"]
)
def test_plain_expressions(text: str) -> None:
    assert is_plain_expression(text)


@pytest.mark.parametrize(
    "text",
    [
        "__import__('os')",
        "().__class__",
        "x.__class__",
        "open(x)",
        "exit()",
        "exec(x)",
        "eval(x)",
        "lambda: 1",
        "'a'",
        '"a"',
        "[1]",
        "{1}",
        "x; y",
        "print(1)",
        "x.y",
        "Symbol(x)",
        "getattr(x, y)",
        "@x",
    ],
)
def test_what_could_do_something(text: str) -> None:
    assert not is_plain_expression(text)


def check(problem: object, text: str) -> bool:
    """Tries something forbidden after forbidding it to itself."""
    import os as system
    import socket
    import subprocess as processes

    from selftaught.feedback.guard import forbid_side_effects

    forbid_side_effects()
    tries = {
        "write": lambda: open(system.devnull, "w"),  # noqa: SIM115
        "remove": lambda: system.remove("/nonexistent"),
        "system": lambda: system.system("true"),
        "process": lambda: processes.run(["true"]),
        "socket": lambda: socket.create_connection(("localhost", 9)),
        "read": lambda: open(system.devnull).read(),  # noqa: SIM115
    }
    tries[text]()
    return True


@pytest.mark.parametrize("what", ["write", "remove", "system", "process", "socket", "read"])
def test_workers_for_other_peoples_scorers_can_read_and_compute_only(what: str) -> None:
    verifier = UserFunction(check)
    try:
        feedback = verifier.judge(make_problem("q"), ExtractedAnswer(what, None, None), None)
    finally:
        verifier.close()
    if what == "read":
        assert feedback.verdict is Verdict.RIGHT
    else:
        assert feedback.text.startswith("verifier raised: PermissionError: refused: ")


# datasets whose own scorers hand the answer to eval() or to SymPy's parse_expr()
EVALUATING = ["spiral_matrix", "polynomial_multiplication", "countdown"]


@pytest.mark.parametrize("name", EVALUATING)
def test_code_in_an_answer_is_not_run(name: str, tmp_path: Path) -> None:
    target = tmp_path / "ran"
    attacks = [
        f"__import__('pathlib').Path({str(target)!r}).touch()",
        f"[open({str(target)!r}, 'w')]",
        f"exec(\"open({str(target)!r}, 'w')\")",
    ]
    with load_task(name, train=1, dev=1, test=2) as task:
        for attack in attacks:
            assert task.verify(task.test[0], f"Answer: {attack}").verdict is not Verdict.RIGHT
        # even code without side effects, which would come out right, is worth no more than nonsense
        answer = str(task.test[0].reference)
        nonsense = task.verify(task.test[0], "Answer: @@")
        for attack in (f"eval({answer!r})", f"sympify({answer!r})", f"[int(c) for c in {answer!r}.split()]"):
            assert task.verify(task.test[0], f"Answer: {attack}") == nonsense
        assert not target.exists()
        assert oracle_scores(task) == [1.0, 1.0]  # and the scorer still works


def oracle_scores(task: Task) -> list[float]:
    """What the dataset's own scorer, in the worker, says of the known answers."""
    verifier = task.verifier
    assert isinstance(verifier.workers, Workers)  # pyright: ignore[reportAttributeAccessIssue]
    return [
        verifier.workers.call((verifier.entries[p.id], [p.reference])).value  # pyright: ignore[reportAttributeAccessIssue]
        for p in task.test
    ]
