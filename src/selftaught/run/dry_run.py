"""Estimate what a run will cost: run the method with scripted answers in place of a model."""

from __future__ import annotations

import tempfile
from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

from selftaught.console import Console
from selftaught.control import Budget
from selftaught.engines import Request, Sample, ScriptedEngine
from selftaught.engines.scripted import scripted_judgment, scripted_learner
from selftaught.feedback.verifiers import ExtractedAnswer, right_or_wrong
from selftaught.method import Method
from selftaught.models import Policy
from selftaught.records import Feedback, Problem, Prompt
from selftaught.run.run import Run
from selftaught.run.settings import Settings
from selftaught.run.solver import JUDGE_ROLES
from selftaught.tasks import Task, with_retries

MAX_PROBLEMS = 64  # problems per split; counts are scaled up from them


def dry_run(method: Method, options: dict[str, Any], task: Task, settings: Settings) -> dict[str, Any]:
    """Run a recipe without a model, and count its requests.

    About half of the answers are right, for any problem; the first right one ends an episode. No model, network,
    trainer, verifier or environment is used, and no budget applies. Of a split with more than 64 problems 64 are used,
    and the counts are scaled up.

    Returns:
        What the method costs before the test split is opened: `requests` by role, `max_generated_tokens` and
        `max_judge_tokens` (if every answer is as long as allowed), `trainings`, and `records` trained on in all;
        where there are any, `policies_with_notes`.

    Raises:
        BadInput: what the method raises, such as for a wrong option.
    """
    small = _small_task(task)
    with tempfile.TemporaryDirectory(prefix="selftaught-") as scratch, Run(
        Path(scratch) / "run", model=Policy("dry-run", Path(scratch)), task=small, engine=HalfRightEngine(small),
        settings=replace(settings, budget=Budget()), learner=scripted_learner, console=Console(quiet=True),
    ) as run:  # fmt: skip
        method(run, run.base, small, **options)
        return _cost_estimate(run, {"train": len(task.train), "dev": len(task.dev)})


def _cost_estimate(run: Run, sizes: dict[str, int]) -> dict[str, Any]:
    """The cost of a dry run by its journal, scaled up to the sizes of the real splits."""
    dev = {problem.id for problem in run.task.dev}
    scale = {split: size / max(1, len(run.task.split(split))) for split, size in sizes.items()}
    requests: dict[str, float] = defaultdict(float)
    tokens = {"generated": 0.0, "judge": 0.0}
    for _, _, sample, _ in run.journal.effects("sample"):
        weight = scale["dev" if sample["problem"] in dev else "train"]
        requests[sample["role"]] += weight
        tokens["judge" if sample["role"] in JUDGE_ROLES else "generated"] += weight * sample["sampling"]["max_tokens"]
    trained = [payload["records"] for kind in ("learn", "tune") for _, _, payload, _ in run.journal.effects(kind)]
    noted = sum(1 for _ in run.journal.effects("notes"))
    return {
        "requests": {role: round(count) for role, count in requests.items()},
        "max_generated_tokens": round(tokens["generated"]),
        "max_judge_tokens": round(tokens["judge"]),
        "trainings": len(trained),
        "records": round(scale["train"] * sum(trained)),
        **({"policies_with_notes": noted} if noted else {}),
    }


class HalfRightEngine(ScriptedEngine):
    """Answers right or wrong, depending on the request's seed."""

    def __init__(self, task: Task) -> None:
        super().__init__(self._line)
        self._problems = (*task.train, *task.dev)
        self._right: dict[Prompt, str] = {}

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """An uncut answer: its bytes are not tokens that `max_tokens` counts."""
        long = replace(request.sampling, max_tokens=1_000_000)
        return await super().sample(policy, replace(request, sampling=long))

    def _line(self, policy: Policy, request: Request) -> str:
        del policy
        good = not request.seed & 1
        if len(request.prompt) > 2 and (said := scripted_judgment(request.prompt[-1].content, good)):
            return said
        if not good:
            return f"Answer: {request.seed % 997}"
        if request.prompt not in self._right:
            self._right[request.prompt] = next(
                (right_answer(p) for p in self._problems if any(p.question in m.content for m in request.prompt)), ""
            )  # hints and critiques surround the question with other text
        return self._right[request.prompt]


class DryRunVerifier:
    """Accepts the right answers of `HalfRightEngine`, in place of the task's verifier."""

    needs_reference = False
    version = "dry-run"

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """Compare with the right answer."""
        del reference
        return right_or_wrong(answer.text == right_answer(problem), self.version)

    def close(self) -> None:
        """Nothing to stop."""


class DryRunAnnotator:
    """Writes the right answers of `HalfRightEngine`, in place of the task's annotator."""

    version = "dry-run"

    def critique(self, problem: Problem, text: str) -> str:
        """The right answer as the first step, or that nothing is wrong."""
        right = right_answer(problem)
        return "no mistakes" if text == right else f"step 1: {right}"

    def revision(self, problem: Problem, text: str) -> str:
        """The right answer."""
        del text
        return right_answer(problem)

    def solution(self, problem: Problem) -> str:
        """The right answer."""
        return right_answer(problem)


def right_answer(problem: Problem) -> str:
    """The reply that counts as right in a dry run."""
    return f"Answer: {'yes' if problem.reference is None else problem.reference}"


def _small_task(task: Task) -> Task:
    small = Task(
        task.name, task.train[:MAX_PROBLEMS], task.dev[:MAX_PROBLEMS], [],
        verifier=DryRunVerifier(), kind=task.kind, instruction=task.instruction,
        shown=DryRunVerifier() if task.shown else None, annotator=DryRunAnnotator() if task.annotator else None,
    )  # fmt: skip
    return with_retries(small, task.environment.max_turns) if task.environment else small
