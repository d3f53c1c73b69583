"""Self-Debug: what the model reads between its programs, when it stops, and filtering by the visible tests."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from selftaught.engines import Request
from selftaught.method import find
from selftaught.methods.solve.revision.self_debug import EXPLAIN, FIX, TRACE, WRONG
from selftaught.models import Policy
from selftaught.records import Message
from selftaught.refine.turns import JUDGE
from selftaught.tasks import load_task
from selftaught.testing import make_run, make_task

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the sandbox needs Linux")
ROW = {
    "question": "Write a function add(a, b).",
    "tests": ["assert add(1, 2) == 3", "assert add(2, 2) == 4"],
    "visible_tests": ["assert add(1, 2) == 3"],
}
BAD, GOOD, LUCKY = (f"```python\ndef add(a, b):\n    return {what}\n```" for what in ("a - b", "a + b", "3"))


def solved(tmp_path: Path, said: Sequence[str], row: Any = ROW, **options: Any) -> tuple[Any, list[Any], list[Any]]:
    """The answer to a row, the prompts that were asked, and what was journaled of the turns."""
    (tmp_path / "code.jsonl").write_text(json.dumps(row) + "\n")
    left, asked = iter(said), []

    def script(_: Policy, request: Request) -> str:
        asked.append(request.prompt)
        return next(left)

    task = load_task(str(tmp_path / "code.jsonl"), train=0, dev=0, test=1)
    with task, make_run(tmp_path / "run", script=script, task=task) as run:
        (last,) = run.solve(run.base, task.test, "test", solver=find("self-debug").with_options(**options))
        turns = [payload for _, _, payload, _ in run.journal.effects("debugging")]
    return last.attempt, asked, turns


def test_it_reads_what_the_visible_tests_say_until_they_pass(tmp_path: Path) -> None:
    last, asked, turns = solved(tmp_path, [BAD, GOOD, "never said"])
    assert (last.text, last.right) == (GOOD, True)
    (first, second) = asked
    assert second[: len(first) + 1] == (*first, Message("assistant", BAD))
    said = second[-1].content
    assert "assert add(1, 2) == 3" in said
    assert "it is -1" in said
    assert said.endswith(FIX)
    assert "add(2, 2)" not in str(asked)  # hidden
    assert [(one["tested"], one["passed"]) for one in turns] == [(True, False), (True, True)]


def test_hidden_tests_judge_what_passes_the_visible_ones(tmp_path: Path) -> None:
    last, asked, _ = solved(tmp_path, [LUCKY])
    assert (last.right, len(asked)) == (False, 1)


@pytest.mark.parametrize(("feedback", "request_"), [("explanation", EXPLAIN), ("trace", TRACE)])
def test_a_program_is_explained_before_it_is_fixed(tmp_path: Path, feedback: str, request_: str) -> None:
    last, asked, _ = solved(tmp_path, [BAD, "It subtracts.", GOOD], feedback=feedback)
    assert last.text == GOOD
    assert asked[1][-1].content.endswith(request_)
    assert asked[2][-2:] == (Message("assistant", "It subtracts."), Message("user", FIX))


def test_a_bare_verdict_says_nothing_of_the_tests(tmp_path: Path) -> None:
    _, asked, _ = solved(tmp_path, [BAD, GOOD], feedback="simple")
    assert asked[1][-1].content == f"{WRONG}\n{FIX}"


def test_without_feedback_programs_are_filtered_by_the_visible_tests(tmp_path: Path) -> None:
    last, asked, _ = solved(tmp_path, [BAD, BAD, GOOD, "never said"], feedback="none", temperature=0.7)
    assert last.text == GOOD
    assert asked[0] == asked[1] == asked[2]


def test_it_ends_after_its_turns_and_counts_a_reply_without_code_as_failed(tmp_path: Path) -> None:
    last, asked, _ = solved(tmp_path, ["I do not know.", BAD, BAD], turns=2)
    assert (last.text, len(asked)) == (BAD, 3)
    assert "no complete code" in asked[1][-1].content


def test_without_visible_tests_the_model_itself_judges(tmp_path: Path) -> None:
    said = iter(["Answer: 1", "wrong", "Answer: 21", "right"])
    asked: list[Any] = []

    def script(_: Policy, request: Request) -> str:
        asked.append(request.prompt[-1].content)
        return next(said)

    with make_run(tmp_path, script=script, task=make_task()) as run:
        (last,) = run.attempt(run.base, run.task.train[:1], solver=find("self-debug"))
        tested = [payload["tested"] for _, _, payload, _ in run.journal.effects("debugging")]
    assert last.text == "Answer: 21"
    assert [JUDGE in one for one in asked] == [False, True, False, True]
    assert tested == [False, False]
