"""Verifiers examined on made-up replies: sound ones pass every check, and each fault is found by its check."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from selftaught.cli.main import main
from selftaught.errors import BadInput
from selftaught.tasks import Task, load_task
from selftaught.tasks.doctor import examine_verifier

ROWS = [{"question": f"What is {n} times 37 ?", "answer": str(37 * n)} for n in range(11, 41)]
CODE = {
    "question": "Write a function add(a, b).", "tests": ["assert add(1, 2) == 3"],
    "code": "def add(a, b):\n    return a + b",
}  # fmt: skip


def task_of(folder: Path, *rows: dict[str, Any], **how: Any) -> Task:
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_task(str(folder / "rows.jsonl"), train=len(rows), dev=0, test=0, **how)


def failed(task: Task) -> set[str]:
    with task:
        return {one.name for one in examine_verifier(task, task.train) if one.holds is False}


@pytest.mark.parametrize("verifier", [None, "exact", "math"])
def test_our_own_verifiers_pass(tmp_path: Path, verifier: str | None) -> None:
    assert failed(task_of(tmp_path, *ROWS, verifier=verifier)) == set()


def test_a_task_of_code_passes(tmp_path: Path) -> None:
    assert failed(task_of(tmp_path, CODE)) == set()


class Judge:
    """A verifier in process."""

    version, needs_reference = "test/1", False

    def __init__(self, judge: Callable[[Any, str], Any]) -> None:
        self._judge = judge

    def judge(self, problem: Any, answer: Any, reference: str | None) -> Any:
        from selftaught.feedback.verdicts import parse_verifier_result
        from selftaught.records import Feedback, Verdict

        verdict, score, text = parse_verifier_result(self._judge(problem, answer.text))
        return Feedback(Verdict(verdict), score, text, self.version)

    def close(self) -> None:
        """Nothing."""


def exact(problem: Any, text: str) -> bool:
    return text.endswith(f"Answer: {problem.reference}")


FAULTS: dict[str, tuple[Callable[[Any, str], Any], set[str]]] = {
    "sound": (exact, set()),
    "contains": (lambda p, text: p.reference in text, {"all answers at once are not right"}),
    "never": (lambda p, text: False, {"references are right"}),
    "always": (
        lambda p, text: True,
        {
            "no answer is not right", "another problem's reference is not right", "the question itself is not right",
            "claims to be right are not right", "all answers at once are not right",
        },
    ),
    "believes": (lambda p, text: exact(p, text) or "right" in text, {"claims to be right are not right"}),
    "raises": (lambda p, text: 1 if exact(p, text) else float("nan"), {"it does not fail"}),
}  # fmt: skip


@pytest.mark.parametrize("name", FAULTS)
def test_each_fault_is_found(tmp_path: Path, name: str) -> None:
    judge, wanted = FAULTS[name]
    assert failed(task_of(tmp_path, *ROWS, verifier=Judge(judge))) == wanted


def test_a_verifier_that_throws_dice_or_dawdles_is_found(tmp_path: Path) -> None:
    turn = itertools.count()
    dice = Judge(lambda problem, text: exact(problem, text) and next(turn) < len(ROWS))
    assert failed(task_of(tmp_path, *ROWS, verifier=dice)) == {"the same reply gets the same verdict"}

    def slow(problem: Any, text: str) -> bool:
        time.sleep(1.05 if exact(problem, text) else 0)
        return exact(problem, text)

    assert failed(task_of(tmp_path, *ROWS[:3], verifier=Judge(slow))) == {"it is fast"}


def test_questions_that_hold_their_references_are_found(tmp_path: Path) -> None:
    rows = [row | {"question": f"{row['question']} (It is {row['answer']}.)"} for row in ROWS]
    assert "questions do not hold their references" in failed(task_of(tmp_path, *rows))


def test_what_cannot_be_tried_is_said(tmp_path: Path) -> None:
    rows = [{"question": f"Sort {n}, 3, 1.", "answer": [1, 3, n]} for n in range(5, 9)]
    with task_of(tmp_path, *rows, verifier=Judge(lambda p, text: text == str(p.reference))) as task:
        found = {one.name: one.holds for one in examine_verifier(task, task.train)}
    assert found["references are right"] is None
    with task_of(tmp_path, *ROWS) as task, pytest.raises(BadInput, match="no problems"):
        examine_verifier(task, [])


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (tmp_path / "mine.py").write_text("def within(text, gold):\n    return gold in text\n")
    assert main(["doctor", "--task", str(rows), "--train", "12", "--json", "--quiet"]) == 0
    assert all(one["holds"] is not False for one in json.loads(capsys.readouterr().out)["checks"])
    words = ["doctor", "--task", str(rows), "--verifier", f"{tmp_path}/mine.py:within", "--train", "12", "--quiet"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "FAILS" in said
    assert "1 of 11 checks fail" in said
