"""References of mixed kinds: what most are decides, and the others are told and judged by what each is."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from selftaught.records import Verdict, make_problem
from selftaught.tasks import Kind, Task, load_task
from selftaught.tasks.kinds import assign_kinds

NUMBERS = [str(n) for n in range(20)]
R, W, U = Verdict.RIGHT, Verdict.WRONG, Verdict.UNKNOWN


def load(tmp_path: Path, references: list[Any], **how: Any) -> Task:
    rows = [{"question": f"Question {i}?", "answer": answer} for i, answer in enumerate(references)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return load_task(f"{tmp_path}/a.jsonl", train=len(rows), dev=0, test=0, **how)


def verdict(task: Task, reference: Any, reply: str) -> Verdict:
    return task.verify(next(p for p in task.train if p.reference == reference), reply).verdict


@pytest.mark.parametrize(
    ("references", "kind", "own"),
    [
        (NUMBERS, Kind.NUMBER, set()),
        ([*NUMBERS, "a\nb"], Kind.NUMBER, set()),
        ([*NUMBERS, "proof", "hidden", "proof"], Kind.NUMBER, set()),
        ([*NUMBERS, "proof"] + ["proof"] * 30, Kind.NUMBER, set()),  # placeholders have no vote
        ([*NUMBERS, "B", "Paris"], Kind.NUMBER, {Kind.CHOICE, Kind.TEXT}),
        ([*NUMBERS, "\\sqrt{2}"], Kind.NUMBER, {Kind.MATH}),
        ([*NUMBERS, *["\\sqrt{2}", "\\pi"] * 3, "east"], Kind.MATH, set()),
        (["\\begin{pmatrix} 1\\\\\n2\\end{pmatrix}", "\\pi", "7"], Kind.MATH, set()),
        ([*["yes", "no"] * 9, "maybe not"], Kind.CHOICE, {Kind.TEXT}),
        ([*["Paris", "Rome"] * 9, "1989", "x^2"], Kind.TEXT, {Kind.MATH}),
        ([*["Paris", "Rome"] * 9, "one\ntwo"], Kind.TEXT, {Kind.BLOCK}),
        (["1 2\n3 4", "5 6\n7 8", "9"], Kind.BLOCK, set()),
        (["proof", "proof"], Kind.TEXT, set()),
        ([None, [1]], Kind.TEXT, set()),
        ([], Kind.TEXT, set()),
    ],
)
def test_most_references_decide(references: list[Any], kind: Kind, own: set[Kind]) -> None:
    found = assign_kinds([make_problem(f"Question {i}?", answer) for i, answer in enumerate(references)])
    assert found.kind is kind
    assert set(found.own.values()) == own


def test_a_few_that_are_no_numbers_change_no_verdict_on_numbers(tmp_path: Path) -> None:
    with load(tmp_path, [*NUMBERS, "1,234", "proof", "one\ntwo", "B", "Paris", "\\frac{\\pi}{2}"]) as task:
        assert task.kind is Kind.NUMBER
        where = f"{tmp_path}/a.jsonl:22"
        assert task.notes[-1] == (
            "21 of 26 references are numbers, and so the task's answers are read; 5 are not, the first"
            f" 'proof' at {where}: 3 of them judged by what each is, 2 count as UNKNOWN"
        )
        assert verdict(task, "1,234", "Answer: 1234 apples") is R
        assert verdict(task, "7", "Answer: 8") is W
        assert [verdict(task, "proof", f"Answer: {said}") for said in ("7", "proof")] == [U, U]
        assert verdict(task, "one\ntwo", "Answer: one\ntwo") is U
        assert [verdict(task, "B", f"Answer: ({said}) 5") for said in "BC"] == [R, W]
        assert [verdict(task, "Paris", f"Answer: {said}") for said in ("paris", "Rome")] == [R, W]
        assert verdict(task, "\\frac{\\pi}{2}", "Answer: $\\pi/2$") is R
        odd = next(p for p in task.train if p.reference == "B")
        assert task.extract(odd, "Answer: (B) 5") == "B"
        hidden = task.hidden()
        assert hidden.verify(next(p for p in hidden.train if p.id == odd.id), "Answer: B").verdict is R


def test_formulas_among_words_are_judged_as_formulas(tmp_path: Path) -> None:
    with load(tmp_path, [*["Paris", "Rome"] * 9, "\\frac{1}{2}x^2"]) as task:
        assert task.kind is Kind.TEXT
        assert verdict(task, "\\frac{1}{2}x^2", "Answer: $x^2/2$") is R
        assert verdict(task, "Rome", "Answer: rome.") is R


def test_a_verifier_of_ones_own_sees_every_answer(tmp_path: Path) -> None:
    (tmp_path / "mine.py").write_text("def same(text, reference):\n    return reference in text\n")
    with load(tmp_path, [*NUMBERS, "proof"], verifier=f"{tmp_path}/mine.py:same") as task:
        assert verdict(task, "proof", "a proof") is R


def test_another_verifier_for_a_task_that_is_made_keeps_the_kinds(tmp_path: Path) -> None:
    with load(tmp_path, [*NUMBERS, "proof", "B"]) as made, load_task(made, verifier="exact") as task:
        assert task.verifier.version.startswith("exact/")
        assert verdict(task, "proof", "Answer: 7") is U
        assert [verdict(task, "B", f"Answer: ({said}) 5") for said in "BC"] == [R, W]


def test_one_kind_is_told_of_nothing_and_changes_no_fingerprint(tmp_path: Path) -> None:
    with load(tmp_path, NUMBERS) as plain, load(tmp_path, [*NUMBERS, "proof"]) as mixed:
        assert plain.notes == ()
        assert plain.verifier.version + "+kinds" == mixed.verifier.version


@pytest.mark.parametrize(
    ("more", "note"),
    [
        ([], "16 numbers and 1 formula; read as formulas"),
        (["Paris"], "16 numbers, 1 formula and 1 short text; read as formulas"),
        (["proof"], "16 numbers and 1 formula among 18 references; read as formulas; 1 are not, the first 'proof'"),
    ],
)
def test_numbers_that_are_read_as_formulas_are_counted_as_numbers(more: list[str], note: str) -> None:
    references = [*map(str, range(16)), "x^2 + 1", *more]
    found = assign_kinds([make_problem(f"Question {i}?", answer) for i, answer in enumerate(references)])
    assert found.kind is Kind.MATH
    assert [line[: len(note)] for line in found.notes] == [note]
