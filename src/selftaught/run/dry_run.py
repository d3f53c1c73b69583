"""What a run is going to cost: the method, played through with scripted answers in place of a model."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from selftaught.console import Console
from selftaught.control import Budget
from selftaught.engines import Request, Sample, ScriptedEngine
from selftaught.engines.scripted import scripted_learner
from selftaught.feedback.verifiers import ExtractedAnswer, right_or_wrong
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import Feedback, Problem, Prompt
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.run.solver import JUDGE_ROLES
from selftaught.tasks import Task

MAX_PROBLEMS = 64  # problems of a split that are played through; figures are scaled up from them


def dry_run(method: Method, options: dict[str, Any], task: Task, settings: Settings) -> dict[str, Any]:
    """Play a recipe through without a model, and count what it asks for.

    About half of the answers are right, whatever the problem. No model, network, trainer or verifier is
    touched, and no budget kept. Of more than 64 problems a split, 64 are played and the figures scaled up.

    Returns:
        What the method costs up to the opening of the test split: `requests` by role,
        `max_generated_tokens` and `max_judge_tokens` (every answer as long as allowed), `trainings`,
        and `records` trained from in all.

    Raises:
        BadInput: what the method itself would raise, such as a wrong option.
    """
    cast = _small_task(task)
    with tempfile.TemporaryDirectory(prefix="selftaught-") as scratch, Run(
        Path(scratch) / "run", model=Policy("rehearsal", Path(scratch)), task=cast, engine=HalfRightEngine(cast),
        settings=replace(settings, budget=Budget()), learner=scripted_learner, console=Console(quiet=True),
    ) as run:  # fmt: skip
        method(run, run.base, cast, **options)
        return _cost_estimate(run, {"train": len(task.train), "dev": len(task.dev)})


def _cost_estimate(run: Run, sizes: dict[str, int]) -> dict[str, Any]:
    """What the journal of the rehearsal amounts to, scaled up to the sizes of the real splits."""
    dev = {problem.id for problem in run.task.dev}
    scale = {split: size / max(1, len(run.task.split(split))) for split, size in sizes.items()}
    requests: dict[str, float] = defaultdict(float)
    tokens = {"generated": 0.0, "judge": 0.0}
    for _, _, sample, _ in run.journal.effects("sample"):
        weight = scale["dev" if sample["problem"] in dev else "train"]
        requests[sample["role"]] += weight
        tokens["judge" if sample["role"] in JUDGE_ROLES else "generated"] += weight * sample["sampling"]["max_tokens"]
    trained = [payload["records"] for _, _, payload, _ in run.journal.effects("learn")]
    return {
        "requests": {role: round(count) for role, count in requests.items()},
        "max_generated_tokens": round(tokens["generated"]),
        "max_judge_tokens": round(tokens["judge"]),
        "trainings": len(trained),
        "records": round(scale["train"] * sum(trained)),
    }


class HalfRightEngine(ScriptedEngine):
    """Gives the right answer or another one, as the request's seed has it."""

    def __init__(self, task: Task) -> None:
        super().__init__(self._line)
        self._problems = (*task.train, *task.dev)
        self._right: dict[Prompt, str] = {}

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """An answer at its full length: its bytes are not the tokens that the limit counts."""
        long = replace(request.sampling, max_tokens=1_000_000)
        return await super().sample(policy, replace(request, sampling=long))

    def _line(self, policy: Policy, request: Request) -> str:
        del policy
        if request.seed & 1:
            return f"Answer: {request.seed % 997}"
        if request.prompt not in self._right:
            self._right[request.prompt] = next(
                (right_answer(p) for p in self._problems if any(p.question in m.content for m in request.prompt)), ""
            )  # hints and critiques surround the question with other text
        return self._right[request.prompt]


class StubVerifier:
    """Knows which answer the stage means to be right; runs no verifier of the task's."""

    needs_reference = False
    version = "rehearsal"

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Compare with the right answer."""
        del reference
        return right_or_wrong(answer.text == right_answer(problem), self.version)

    def close(self) -> None:
        """Nothing to stop."""


def right_answer(problem: Problem) -> str:
    """The reply that counts as right in a rehearsal."""
    return f"Answer: {'yes' if problem.reference is None else problem.reference}"


def _small_task(task: Task) -> Task:
    return Task(
        task.name, task.train[:MAX_PROBLEMS], task.dev[:MAX_PROBLEMS], [],
        verifier=StubVerifier(), kind=task.kind, instruction=task.instruction,
    )  # fmt: skip
