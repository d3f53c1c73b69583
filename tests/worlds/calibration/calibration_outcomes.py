"""Synthetic outcomes: judged attempts with given answers."""

from __future__ import annotations

from collections.abc import Sequence

from selftaught.records import Attempt, Feedback, Problem, Verdict, content_hash, make_problem
from selftaught.samples import Sample
from selftaught.worlds.kit.calibration.base_model import Samples

RIGHT = "7"


def problem_of(number: int) -> Problem:
    return make_problem(f"problem {number}", RIGHT, {})


def attempt_of(problem: Problem, answer: str | None, number: int = 0, text: str = "") -> Attempt:
    """An attempt that gives an answer, judged against `RIGHT`."""
    verdict = Verdict.RIGHT if answer == RIGHT else Verdict.WRONG
    id = content_hash(problem.id, number, answer, text)
    sample = Sample(text or str(answer), (1, 2), (-0.1, -0.1), finish_reason="stop", policy="p")
    return Attempt(id, problem, problem.prompt, text or str(answer), answer, sample, feedback=(Feedback(verdict),))


def samples_with(answers: Sequence[Sequence[str | None]], greedy: Sequence[float] = ()) -> Samples:
    """Samples of problems, by their answers."""
    problems = [problem_of(i) for i in range(len(answers))]
    groups = {
        p.id: [attempt_of(p, a, i) for i, a in enumerate(some)] for p, some in zip(problems, answers, strict=True)
    }
    return Samples(groups, {p.id: value for p, value in zip(problems, greedy, strict=False)})


def scores(values: Sequence[float]) -> dict[str, float]:
    """Scores of problems, by their number."""
    return {problem_of(i).id: value for i, value in enumerate(values)}
