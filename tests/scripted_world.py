"""A small world of sums for the whole loop without torch: scripted answers that get better with training."""

from __future__ import annotations

import asyncio
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from selftaught.console import Console
from selftaught.engines import Request, Sample, ScriptedEngine
from selftaught.engines.scripted import Script, scripted_learner
from selftaught.feedback.verifiers import Answer, Exact
from selftaught.learn import Training
from selftaught.models import Policy
from selftaught.records import Attempt, Feedback, Problem, Verdict, content_hash, make_problem
from selftaught.run.run import Run, Settings
from selftaught.tasks import Kind, Task

SKILL = (0.3, 0.97, 0.99)  # share of right answers, by how often a policy was trained


def sums(count: int, start: int = 0) -> list[Problem]:
    """Different additions, `start` telling one split from another."""
    numbers = range(start, start + count)
    return [make_problem(f"What is {i + 11} + {i * 7 % 50 + 10}?", str(i + 11 + i * 7 % 50 + 10)) for i in numbers]


def make_task(train: int = 12, dev: int = 8, test: int = 8, verifier: Any = None) -> Task:
    """Sums cut in three."""
    splits = sums(train), sums(dev, 1000), sums(test, 2000)
    return Task("sums", *splits, verifier=verifier or Exact(), kind=Kind.NUMBER)


def depth(policy: Policy) -> int:
    """How often the policy was trained."""
    return 1 + depth(policy.base) if policy.base else 0


def draw(*what: Any) -> float:
    """A number in [0, 1) that depends on its arguments only."""
    return int(content_hash(*what), 16) / 2**64


def solve_sum(policy: Policy, request: Request) -> str:
    """Add the numbers in the question, rightly as often as the policy's training allows; hints always help."""
    text = request.prompt[-1].content
    a, b = map(int, re.findall(r"(\d+) \+ (\d+)", request.prompt[0].content)[0])
    luck = draw(text, request.seed if request.sampling.temperature else 0)
    if luck < SKILL[min(depth(policy), 2)] or "Hint" in text:
        return f"{a} and {b} make {a + b} (luck {luck:.4f}).\nAnswer: {a + b}"
    return f"I guess (luck {luck:.4f}).\nAnswer: {a + b + 1 + int(luck * 5)}"


class NarrowEngine(ScriptedEngine):
    """Answers few requests at a time, and leaves a byte in `log` when it starts on one, whatever becomes of it."""

    def __init__(self, script: Script = solve_sum, *, delay: float = 0.0, width: int = 4, log: Path) -> None:
        super().__init__(script, delay=delay)
        self._gate = asyncio.Semaphore(width)
        self._log = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """As `ScriptedEngine`, a few at a time."""
        async with self._gate:
            os.write(self._log, b".")
            return await super().sample(policy, request)


def base_policy(folder: Path) -> Policy:
    """A starting model without weights."""
    place = folder / "base-model"
    place.mkdir(parents=True, exist_ok=True)
    return Policy("base-model", place)


def make_run(
    folder: Path, *, task: Task | None = None, engine: Any = None, script: Script = solve_sum, delay: float = 0.0,
    settings: Settings | None = None, learner: Any = None,
) -> Run:  # fmt: skip
    """A quiet run in `folder/run` on the scripted engine and the scripted learner."""
    return Run(
        folder / "run", model=base_policy(folder), task=task or make_task(), engine=engine or ScriptedEngine(script),
        settings=settings, learner=learner or partial(scripted_learner, delay=delay), console=Console(quiet=True),
    )  # fmt: skip


def judged(problem: Problem, answer: str | None, verdict: Verdict = Verdict.UNKNOWN, *, name: str = "") -> Attempt:
    """An attempt as an engine and a verifier would have left it."""
    text = f"Answer: {answer}"
    ident = name or content_hash(problem.id, text)
    feedback = (Feedback(verdict, by="test"),)
    return Attempt(
        ident, problem, problem.prompt, text, answer, (1, 2), (-0.5, -0.5), "stop", "base", feedback=feedback
    )


class Learner:
    """The scripted learner, remembering what it was given."""

    def __init__(self) -> None:
        self.given: list[tuple[Policy, list[Any]]] = []

    def __call__(self, base: Policy, objective: Any, records: Any, settings: Any, **more: Any) -> Policy:
        """See `scripted_learner`."""
        self.given.append((base, list(records)))
        return scripted_learner(base, objective, records, settings, **more)


class Objectives(Learner):
    """Remembers objectives and training settings, too."""

    def __init__(self) -> None:
        super().__init__()
        self.objectives: list[Any] = []
        self.settings: list[Training] = []

    def __call__(self, base: Policy, objective: Any, records: Any, settings: Any, **more: Any) -> Policy:
        """See `Learner`."""
        self.objectives.append(objective)
        self.settings.append(settings)
        return super().__call__(base, objective, records, settings, **more)


class Inverted(Exact):
    """Calls right what is wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.version = "inverted"

    def decide(self, problem: Problem, answer: Answer, reference: str | None) -> Feedback:
        """The opposite of `Exact`."""
        found = super().decide(problem, answer, reference)
        turned = {Verdict.RIGHT: Verdict.WRONG, Verdict.WRONG: Verdict.RIGHT}
        return replace(found, verdict=turned.get(found.verdict, found.verdict), by=self.version)
