"""Score attempts by their outcome and their worst step, and turn selected ones into training records."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Literal

from selftaught.control.balance import Groups, ScoredAttempt, dynamics
from selftaught.curate.keep import source_ids
from selftaught.errors import BadInput
from selftaught.learn.objectives import prm
from selftaught.measure import auroc
from selftaught.models import Policy
from selftaught.records import Attempt, Demo, Problem, Verdict
from selftaught.refine import score_steps, step_scores
from selftaught.search import StepRollouts, scored_steps

if TYPE_CHECKING:
    from selftaught.control.tuning import SampleFn
    from selftaught.run.run import Run
    from selftaught.tasks import Task

StepReward = Literal["trained", "model", "exact", "none"]
"""Who judges the steps: a trained process reward model, a prompted model, the task's exact verdicts, or nobody."""

MAX_LOG_ODDS = 5.0  # beyond which a step counts as certain; the authors' code gives -5 where it finds no score
PRM_EPOCHS = 2  # as in the authors' script
PRM_STEPS = 300  # at least, as a new head learns little from the two passes over a small set


def step_judge(
    run: Run, base: Policy, task: Task, step_reward: StepReward, solutions: int, rollouts: int
) -> Policy:  # fmt: skip
    """The policy that scores steps for `score_attempts`: a process reward model trained from `base`, or `base` itself.

    Args:
        solutions: see `train_process_reward`.
        rollouts: see `train_process_reward`.
    """
    return train_process_reward(run, base, task, solutions, rollouts) if step_reward == "trained" else base


def train_process_reward(
    run: Run, base: Policy, task: Task, solutions: int = 8, rollouts: int = 8, *, soft: bool = False,
    min_steps: int = PRM_STEPS,
) -> Policy:  # fmt: skip
    """Train a process reward model on Monte Carlo labels of the steps of the base model's own solutions.

    Source: Wang et al., Math-Shepherd, 2312.08935, section 3, as used by Zeng et al., 2412.17256: a value head with a
    cross-entropy loss, read at the end of each step (`run.score(policy, attempts, at="steps")`). It is trained for two
    passes over the labeled solutions, as in the latter's script, or longer.

    Args:
        base: writes solutions and rollouts, and is what the model is trained from.
        solutions: per train problem.
        rollouts: from the end of each step (see `search.StepRollouts`).
        soft: learn the share of right rollouts, not whether any is right.
        min_steps: optimizer steps, at least, for which the solutions are cycled through.

    Raises:
        BadInput: no solution could be labeled.
    """
    found = run.search(base, task.train, solver=StepRollouts(solutions, rollouts))
    records = [record for one in found for record in scored_steps(one, soft=soft)]
    usual = replace(run.settings.training, epochs=PRM_EPOCHS, steps=0).num_steps(len(records))
    return run.learn(base, prm(), records, steps=max(min_steps, usual))


def score_attempts(
    run: Run, judge: Policy, task: Task, attempts: Sequence[Attempt], step_reward: StepReward
) -> list[ScoredAttempt]:
    """Reward each attempt: 1 where it is right, plus the process reward of its worst step, -1..1.

    Source: Zeng et al., 2412.17256, section 3. As in the authors' code, the process reward is a fifth of the log-odds
    that the step is right, so that a step that is certainly wrong weighs as much as the outcome; here the log-odds are
    clipped to -5..5. A verdict of the task on a step counts as log-odds of 1 or -1.

    Args:
        judge: scores the steps where `step_reward` is "trained" (a policy with a value head) or "model".
        attempts: judged attempts.
        step_reward: who judges the steps.

    Raises:
        BadInput: `step_reward` is "exact" and the task has no verdicts on steps, or "trained" and `judge` has no head.
    """
    texts = {_key(one): one for one in attempts}
    worst = dict(zip(texts, _worst_steps(run, judge, task, list(texts.values()), step_reward), strict=True))
    return [ScoredAttempt(one, float(one.right) + worst[_key(one)]) for one in attempts]


def scored_sampler(run: Run, policy: Policy, judge: Policy, task: Task, step_reward: StepReward) -> SampleFn:
    """A function that samples a policy and scores its attempts (`score_attempts`), for a `BalanceTuner`."""

    def sample(problems: Sequence[Problem], temperature: float, n: int) -> list[ScoredAttempt]:
        tried = run.attempt(policy, problems, samples=n, temperature=temperature)
        return score_attempts(run, judge, task, tried, step_reward)

    return sample


def _key(attempt: Attempt) -> tuple[str, str]:
    return attempt.problem.id, attempt.text


def _worst_steps(
    run: Run, judge: Policy, task: Task, attempts: Sequence[Attempt], step_reward: StepReward
) -> list[float]:
    """The process reward of each attempt's worst step."""
    if step_reward == "none":
        return [0.0] * len(attempts)
    if step_reward == "exact":
        return [_exact_steps(task, one) for one in attempts]
    if step_reward == "trained":
        return [_process_reward(scores) for scores in run.score(judge, attempts, at="steps")]
    replies = run.attempt(judge, attempts, solver=score_steps, temperature=0.0)
    return [_process_reward(scores) if (scores := step_scores(one)) else 0.0 for one in replies]


def _process_reward(probabilities: Iterable[float]) -> float:
    """A fifth of the lowest log-odds; -1 where a step has no probability, or there is no step."""
    worst = min((-MAX_LOG_ODDS if math.isnan(p) else _log_odds(p) for p in probabilities), default=-MAX_LOG_ODDS)
    return worst / MAX_LOG_ODDS


def _log_odds(probability: float) -> float:
    if not 0 < probability < 1:
        return MAX_LOG_ODDS if probability > 0 else -MAX_LOG_ODDS
    return max(-MAX_LOG_ODDS, min(MAX_LOG_ODDS, math.log(probability / (1 - probability))))


def _exact_steps(task: Task, attempt: Attempt) -> float:
    if (steps := task.step_verdicts(attempt.problem, attempt.text)) is None:
        raise BadInput(
            "this task has no verdicts on steps", where="step_reward", fix='use "trained", "model" or "none"'
        )
    return (1.0 if all(step is Verdict.RIGHT for step in steps) else -1.0) / MAX_LOG_ODDS


def balance_metrics(groups: Groups, threshold: float, target: int, size: float) -> dict[str, float]:
    """Exploration and exploitation of a round to log: `balance.dynamics`, and how well the process reward judges.

    Reference solutions count, as in the authors' code of 2412.17256. "process_auroc" is the probability that a right
    answer has a better worst step than a wrong one; it is left out where all answers are right, or all wrong, or no
    steps were judged.

    Args:
        target: n*.
        size: answers to select per problem, on average.
    """
    found = asdict(dynamics(groups, threshold, target, size, reference=True))
    scored = [one for group in groups.values() for one in group]
    process, right = [round(one.reward - one.attempt.right, 9) for one in scored], [one.attempt.right for one in scored]
    if len(set(right)) > 1 and any(process):
        found["process_auroc"] = auroc(process, right)
    return found


def selected_demos(selected: Mapping[str, Sequence[ScoredAttempt]]) -> list[Demo]:
    """The selected attempts of each problem, to imitate under the problem's own prompt."""
    attempts = [one.attempt for answers in selected.values() for one in answers]
    return [Demo(a.problem.prompt, a.text, attempts=source_ids(a)) for a in attempts]
