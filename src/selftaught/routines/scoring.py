"""Score attempts by their outcome and their worst step, and turn selected ones into training records."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal

from selftaught.control.balance import ScoredAttempt
from selftaught.curate.keep import source_ids
from selftaught.errors import BadInput
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Verdict
from selftaught.refine import score_steps, step_scores

if TYPE_CHECKING:
    from selftaught.run.run import Run
    from selftaught.tasks import Task

StepReward = Literal["model", "exact", "none"]
"""Who judges the steps: a prompted model, the task's exact verdicts, or nobody."""

STEP_WEIGHT = 0.2
"""Weight of the worst step's reward beside the outcome's, as in the authors' code of 2412.17256."""


def score_attempts(
    run: Run, judge: Policy, task: Task, attempts: Sequence[Attempt], step_reward: StepReward
) -> list[ScoredAttempt]:
    """Reward each attempt: 1 where it is right, plus 0.2 times the reward of its worst step, -1..1.

    Source: Zeng et al., 2412.17256, section 3.

    Args:
        judge: scores the steps where `step_reward` is "model".
        attempts: judged attempts.
        step_reward: who judges the steps.

    Raises:
        BadInput: `step_reward` is "exact" and the task has no verdicts on steps.
    """
    if step_reward == "model":
        worst = _judged_steps(run, judge, attempts)
    else:
        worst = {_key(one): _exact_steps(task, one) if step_reward == "exact" else 0.0 for one in attempts}
    return [ScoredAttempt(one, float(one.right) + STEP_WEIGHT * worst[_key(one)]) for one in attempts]


def _key(attempt: Attempt) -> tuple[str, str]:
    return attempt.problem.id, attempt.text


def _judged_steps(run: Run, judge: Policy, attempts: Sequence[Attempt]) -> dict[tuple[str, str], float]:
    """The worst step by the judge's scores, each distinct text scored once; 0 where a reply has none."""
    texts = {_key(one): one for one in attempts}
    replies = run.attempt(judge, list(texts.values()), solver=score_steps, temperature=0.0)
    found = zip(texts, map(step_scores, replies), strict=True)
    return {text: 2 * min(steps) - 1 if steps else 0.0 for text, steps in found}


def _exact_steps(task: Task, attempt: Attempt) -> float:
    if (steps := task.step_verdicts(attempt.problem, attempt.text)) is None:
        raise BadInput("this task has no verdicts on steps", where="step_reward", fix='use "model" or "none"')
    return 1.0 if all(step is Verdict.RIGHT for step in steps) else -1.0


def selected_demos(selected: Mapping[str, Sequence[ScoredAttempt]]) -> list[Demo]:
    """The selected attempts of each problem, to imitate under the problem's own prompt."""
    attempts = [one.attempt for answers in selected.values() for one in answers]
    return [Demo(a.problem.prompt, a.text, attempts=source_ids(a)) for a in attempts]
