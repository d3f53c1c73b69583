"""A small world of additions: a scripted model that answers better the more often it is trained."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from selftaught.console import Console
from selftaught.engines import Request, ScriptedEngine
from selftaught.engines.scripted import Script, scripted_judgment, scripted_learner
from selftaught.feedback.verifiers import Exact, ExtractedAnswer
from selftaught.models import Policy
from selftaught.records import Feedback, Problem, Verdict, content_hash, make_problem
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.tasks import Kind, Task
from selftaught.tasks.annotator import Annotator

SKILLED = 0.9  # share of right judgments
SKILL = (0.3, 0.97, 0.99)  # share of right answers, by how often a policy was trained


def sums(count: int, start: int = 0) -> list[Problem]:
    """Return `count` different additions with written solutions; splits differ in `start`."""
    terms = [(i + 11, i * 7 % 50 + 10) for i in range(start, start + count)]
    written = [{"solution": f"{a} plus {b} is {a + b}.\nAnswer: {a + b}"} for a, b in terms]
    return [make_problem(f"What is {a} + {b}?", str(a + b), meta) for (a, b), meta in zip(terms, written, strict=True)]


def make_task(
    train: int = 12, dev: int = 8, test: int = 8, verifier: Any = None, annotator: Annotator | None = None
) -> Task:
    """Return a task of additions with the given numbers of problems per split."""
    splits = sums(train), sums(dev, 1000), sums(test, 2000)
    return Task("sums", *splits, verifier=verifier or Exact(), kind=Kind.NUMBER, annotator=annotator)


class SumAnnotator:
    """An annotator of additions: it names the sum in place of a wrong one, and repairs or writes two lines."""

    version = "sums/1"

    def critique(self, problem: Problem, text: str) -> str:
        """The sum as it should be in the first step, or that nothing is wrong."""
        right = f"Answer: {problem.reference}"
        return "no mistakes" if text.endswith(right) else f"step 1: {problem.reference}"

    def revision(self, problem: Problem, text: str) -> str:
        """The draft if it is right, else a solution."""
        return text if self.critique(problem, text) == "no mistakes" else self.solution(problem)

    def solution(self, problem: Problem) -> str:
        """The sum in two lines."""
        return f"The sum is {problem.reference}.\nAnswer: {problem.reference}"


def depth(policy: Policy) -> int:
    """Count how often a policy was trained."""
    return 1 + depth(policy.base) if policy.base else 0


def draw(*what: Any) -> float:
    """Return a number in [0, 1) that depends on the arguments only."""
    return int(content_hash(*what), 16) / 2**64


def solve_sum(policy: Policy, request: Request, *, least: float = 0.0, most: float = 1.0) -> str:
    """Add the numbers of the question, rightly as often as the policy's training allows; hints always help.

    Args:
        policy: who answers.
        request: what is asked.
        least: share of right answers, at least, when sampling at a temperature above 0.
        most: share of right answers, at most, when sampling at a temperature above 0.
    """
    text = request.prompt[-1].content
    asked = next((found for m in request.prompt if (found := re.search(r"(\d+) \+ (\d+)", m.content))), None)
    if asked is None:
        return "I see no sum.\nAnswer: 0"
    a, b = int(asked[1]), int(asked[2])
    hot = request.sampling.temperature > 0
    luck = draw(text, request.seed if hot else 0)
    skill = SKILL[min(depth(policy), 2)]
    if luck < (min(max(skill, least), most) if hot else skill) or "Hint" in text:
        return f"{a} and {b} make {a + b} (luck {luck:.4f}).\nAnswer: {a + b}"
    return f"I guess (luck {luck:.4f}).\nAnswer: {a + b + 1 + int(luck * 5)}"


def solve_or_judge(policy: Policy, request: Request, *, least: float = 0.0, most: float = 1.0) -> str:
    """Add as `solve_sum` does; whoever asks for a judgment of an answer, in a usual form, gets one, mostly right."""
    texts = [message.content for message in request.prompt]
    asked, shown = texts[-1], texts[-2] if len(texts) > 2 else ""
    numbers = re.search(r"(\d+) \+ (\d+)", texts[0])
    wanted = str(int(numbers[1]) + int(numbers[2])) if numbers else ""
    first = shown.partition("\nB: ")[0]
    good = (f"Answer: {wanted}" in first) == (draw(shown, request.seed) < SKILLED)
    return scripted_judgment(asked if shown else "", good) or solve_sum(policy, request, least=least, most=most)


def base_policy(folder: Path) -> Policy:
    """Return a starting model without weights."""
    place = folder / "base-model"
    place.mkdir(parents=True, exist_ok=True)
    return Policy("base-model", place)


def make_run(
    folder: Path,
    *,
    task: Task | None = None,
    engine: Any = None,
    script: Script = solve_sum,
    delay: float = 0.0,
    settings: Settings | None = None,
    learner: Any = None,
    accept: Sequence[str] | None = (),
) -> Run:
    """Open a quiet run in `folder/run` with scripted answers and a trainer that trains nothing.

    Args:
        folder: holds the run and its model.
        task: what to solve; additions by default.
        engine: what samples; by default one that answers with `script`.
        script: `(policy, request) -> str`.
        delay: seconds that a training takes.
        settings: of the run.
        learner: what trains; by default policies are made without weights.
        accept: changes to accept.
    """
    return Run(
        folder / "run",
        model=base_policy(folder),
        task=task or make_task(),
        engine=engine or ScriptedEngine(script),
        settings=settings,
        learner=learner or partial(scripted_learner, delay=delay),
        console=Console(quiet=True),
        accept=accept,
    )


class Learner:
    """The scripted trainer, remembering in `given` policies and records, and in `made` what it made of them."""

    def __init__(self) -> None:
        self.given: list[tuple[Policy, list[Any]]] = []
        self.made: list[Policy] = []

    def __call__(self, base: Policy, objective: Any, records: Any, settings: Any, **more: Any) -> Policy:
        """Train. See `scripted_learner`."""
        self.given.append((base, list(records)))
        self.made.append(scripted_learner(base, objective, records, settings, **more))
        return self.made[-1]


class Inverted(Exact):
    """A verifier that calls right what is wrong, and wrong what is right."""

    def __init__(self) -> None:
        super().__init__()
        self.version = "inverted"

    def decide(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Return the opposite of what `Exact` finds."""
        found = super().decide(problem, answer, reference)
        turned = {Verdict.RIGHT: Verdict.WRONG, Verdict.WRONG: Verdict.RIGHT}
        return replace(found, verdict=turned.get(found.verdict, found.verdict), source=self.version)
