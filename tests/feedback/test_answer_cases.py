"""Answers as models write them, in the styles of the usual data sets, with the verdict that each deserves."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

from selftaught.feedback.verifiers import Exact, Math
from selftaught.records import make_problem
from selftaught.tasks.extract import Kind, reference_text
from selftaught.tasks.task import Task

CASES = Path(__file__).parent.parent / "cases" / "answers.jsonl"


def verdicts(cases: list[dict[str, Any]]) -> list[str]:
    """The verdict on each case, by the verifier that suits its kind."""
    found: dict[int, str] = {}
    by_kind: dict[Kind, list[int]] = defaultdict(list)
    for i, case in enumerate(cases):
        by_kind[Kind(case["kind"])].append(i)
    for kind, numbers in by_kind.items():
        problems = [make_problem(f"case {i}", cases[i]["reference"]) for i in numbers]
        verifier = Math() if kind in (Kind.NUMBER, Kind.MATH) else Exact()
        with Task("cases", problems, (), (), verifier=verifier, kind=kind) as task:
            for i, problem in zip(numbers, problems, strict=True):
                found[i] = str(task.verify(problem, cases[i]["reply"]).verdict)
    return [found[i] for i in range(len(cases))]


def test_each_answer_gets_the_verdict_it_deserves() -> None:
    cases = [json.loads(line) for line in CASES.read_text("utf-8").splitlines()]
    assert len(cases) > 400
    wrong: list[str] = []
    for case, got in zip(cases, verdicts(cases), strict=True):
        if got != case["expect"] and not (case["expect"] == "not-right" and got != "right"):
            wrong.append(
                f"{reference_text(case['reference'])!r} <- {case['reply']!r}: {got}, expected {case['expect']}"
            )
    assert wrong == []
