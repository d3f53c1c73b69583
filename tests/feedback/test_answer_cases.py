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

FORMS = [
    "#### {}", "The answer is {}.", "Answer: {}", "**Answer:** {}", "So the final answer is \\boxed{{{}}}.",
    "Let me think.\n\n### Answer\n\n{}\n", "<think>Answer: 99999?</think>\n\nAnswer: {}", "<answer>{}</answer>",
    '{{"reasoning": "as 2 + 2 = 4", "answer": "{}"}}', "**Final Answer**\n{}\n", "Answer: **{}**.", "Final answer - {}",
]  # fmt: skip
REFERENCES = {
    Kind.NUMBER: ["18", "70,000", "-50", "0.5", "22.0", "540", "-11520"],  # GSM8K, SVAMP, BBH
    Kind.CHOICE: ["(A)", "(F)", "B", "True", "False", "yes", "no", "Yes", "No"],  # BBH, MMLU
    Kind.TEXT: ["syndrome therefrom", "barn damp delmarva dot it&t"],  # BBH word sorting
    Kind.MATH: ["\\frac{3}{4}", "x^2+1", "(1,2)", "3\\sqrt{5}", "\\text{Evelyn}"],  # MATH
}
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
        expected = case["expect"]
        fits = got != expected.removeprefix("not-") if expected.startswith("not-") else got == expected
        if not fits:
            wrong.append(f"{reference_text(case['reference'])!r} <- {case['reply']!r}: {got}, expected {expected}")
    assert wrong == []


def test_every_reference_is_right_in_every_usual_form_and_no_other_is() -> None:
    for kind, references in REFERENCES.items():
        problems = [make_problem(f"case {i}", reference) for i, reference in enumerate(references)]
        verifier = Math() if kind in (Kind.NUMBER, Kind.MATH) else Exact()
        with Task("forms", problems, (), (), verifier=verifier, kind=kind) as task:
            for problem, other in zip(problems, references[1:] + references[:1], strict=True):
                for form in FORMS:
                    reply = form.format(problem.reference)
                    if not (kind is Kind.MATH and form.startswith("{{")):  # a backslash in JSON is another text
                        assert task.verify(problem, reply).verdict == "right", reply
                    assert task.verify(problem, form.format(other)).verdict != "right", (problem.reference, other)
