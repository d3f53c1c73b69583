"""What tests need beside the sums of `selftaught.testing`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from selftaught.engines import Sample
from selftaught.learn import TrainConfig
from selftaught.method import find
from selftaught.models import Policy
from selftaught.records import Attempt, Feedback, Problem, Verdict, content_hash
from selftaught.testing import Learner, make_run


def judged(problem: Problem, answer: str | None, verdict: Verdict = Verdict.UNKNOWN, *, name: str = "") -> Attempt:
    """An attempt as an engine and a verifier would have left it."""
    text = f"Answer: {answer}"
    ident = name or content_hash(problem.id, text)
    feedback = (Feedback(verdict, source="test"),)
    sample = Sample(text, (1, 2), (-0.5, -0.5), policy="base")
    return Attempt(ident, problem, problem.prompt, text, answer, sample, feedback=feedback)


def with_facts(attempt: Attempt, **facts: Any) -> Attempt:
    """The attempt with other facts of its sample (`finish_reason`, `logprobs`, ...)."""
    return replace(attempt, sample=replace(attempt.sample, **facts))


class Objectives(Learner):
    """Remembers objectives and training settings, too."""

    def __init__(self) -> None:
        super().__init__()
        self.objectives: list[Any] = []
        self.settings: list[TrainConfig] = []

    def __call__(self, base: Policy, objective: Any, records: Any, settings: Any, **more: Any) -> Policy:
        """See `Learner`."""
        self.objectives.append(objective)
        self.settings.append(settings)
        return super().__call__(base, objective, records, settings, **more)


def two_rounds(folder: Path, name: str, **options: Any) -> tuple[Policy, Learner]:
    """The champion after two rounds of a recipe on sums, and what was learned on the way."""
    learner = Learner()
    with make_run(folder, learner=learner) as run:
        return find(name)(run, run.base, run.task, rounds=2, **options), learner
