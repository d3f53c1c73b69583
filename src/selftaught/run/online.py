"""Online learning: one training, journaled, and what its loop asks of the run."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from selftaught.console import training_progress
from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import identify, require_identity
from selftaught.journal import Usage
from selftaught.learn import Objective
from selftaught.learn.learner import train_policy as local_learner
from selftaught.learn.objectives import grpo
from selftaught.learn.online.config import OnlineConfig
from selftaught.learn.online.rollouts import CreditAssignment, Rollout, outcome_key
from selftaught.learn.online.trainer import dry_run_online, train_online
from selftaught.machine.disk import disk_full_error
from selftaught.models import Policy
from selftaught.models.policy import CONTENT, read_manifest, require_lasting
from selftaught.models.remote import require_trainable
from selftaught.records import Attempt, Problem, content_hash
from selftaught.remarks import remark
from selftaught.run.attempts import solve
from selftaught.run.checks import check_objective, require_all
from selftaught.run.context import RunContext
from selftaught.run.learning import release_memory, train_settings
from selftaught.run.reward_host import RewardHost
from selftaught.run.settings import override, require_positive, split_options
from selftaught.run.solver import SolveBatch, Solver, Subject


def learn_online(
    context: RunContext, policy: Policy, problems: Sequence[Problem], *, solver: Solver | None,
    objective: Objective | None, credit: CreditAssignment, steps: int, samples: int, max_importance_weight: float,
    max_gen_batches: int, reference_decay: float, lr_scale: float, options: Mapping[str, Any],
) -> Policy:  # fmt: skip
    """See `Run.learn_online`."""
    if objective is not None:
        check_objective(objective, "run.learn_online")
    require_trainable(policy)
    require_lasting("learn_online", policy, *([objective.reference, objective.teacher] if objective else []))
    _refuse_notes(policy)
    context.check_budget()
    require_positive("steps", steps)
    require_positive("samples", samples)
    require_all(Problem, problems, "run.learn_online")
    if any(map(context.access.is_held_out, problems)):
        raise BadInput("a problem is of the dev or test split", where="learn_online", fix="use task.train only")
    problems, steps = context.cut.problems(problems), context.cut.steps(steps)
    sampling, training = split_options(options)
    settings = train_settings(context, {"epochs": 1, "schedule": "constant", **training}, lr_scale)
    how = override(context.settings.sampling, {"temperature": 1.0, **sampling})
    by_default = solver is None and context.task.environment is None and credit.outcome_key is outcome_key
    if by_default and credit.advantages is None and how.temperature == 0:
        what = "all samples of a problem are alike at temperature 0: there is nothing to compare"
        raise BadInput(what, where="temperature", fix="sample above 0 (1 is usual)")
    parts = [require_identity(x, "online training").key for x in (solver, *credit.functions)]
    named, cap = content_hash(parts, how), max_importance_weight
    plan = OnlineConfig(
        objective or grpo(), settings, steps, samples, credit, cap, named, context.settings.seed, max_gen_batches,
        reference_decay,
    )  # fmt: skip
    made = _train(context, policy, problems, plan, solver, how)
    manifest = read_manifest(made.path)
    count = manifest.get("records", 0)
    facts = {"policy": made.version, "base": policy.version, "records": count}
    facts |= {CONTENT: manifest[CONTENT]} if CONTENT in manifest else {}
    context.journal.put_new(content_hash("learn", made.version), "learn", facts)
    context.round_facts["records"] = count
    if not count or made.version == policy.version:
        where = f"round {context.round}: " if context.round else ""
        remark(f"{where}no problem had rollouts with different outcomes: nothing was learned")
    return made


def _refuse_notes(policy: Policy) -> None:
    """Online training samples the weights that it trains, which have no notes while they change.

    Raises:
        BadInput: the policy has notes.
    """
    if policy.notes:
        what = f"policy {policy.version} has notes, and weights in training are sampled without any"
        raise BadInput(what, where="learn_online", fix="train policy.weights_policy, and give the notes to the result")


def _train(
    context: RunContext,
    policy: Policy,
    problems: Sequence[Problem],
    plan: OnlineConfig,
    solver: Solver | None,
    how: Sampling,
) -> Policy:
    folder, label = context.policies, context.progress_label("learning online")
    try:
        with training_progress(context.console, label, plan.steps, lambda _: context.record_time()) as progress:
            host = RunHost(context, solver, how, progress, RewardHost.of(context, plan.credit.reward))
            if context.learner is local_learner:
                return train_online(policy, problems, plan, host, folder=folder)
            return dry_run_online(policy, problems, plan, host, context.learner, folder)
    except Exception as error:
        raise disk_full_error(error, folder) or error from None


class RunHost:
    """What online training asks of the run; see `learn.online.host.OnlineHost`.

    Args:
        solver: makes the rollouts.
        how: how they are sampled.
        progress: called after each step with steps done, steps in all, and the loss.
        rewards: computes rewards that are a judge's or asynchronous; None for others.
    """

    def __init__(
        self, context: RunContext, solver: Solver | None, how: Sampling, progress: Callable[[int, int, float], None],
        rewards: RewardHost | None,
    ) -> None:  # fmt: skip
        self._context, self._solver, self._how, self._progress = context, solver, how, progress
        self._rewards = rewards
        self._learning_since = 0.0

    def release_memory(self) -> None:
        """Release the engine's caches and freed heap."""
        release_memory(self._context)

    def start_step(self, facts: dict[str, Any]) -> None:
        """Journal a live policy under its own name before it samples, so that its lineage can be traced."""
        self._context.journal.put_new(facts["live"], "live", facts)

    def collect_rollouts(
        self, policy: Policy, problems: Sequence[Problem], n: int, draw: int = 0
    ) -> list[list[Rollout]]:
        """`n` rollouts of each problem for a draw of one step; those without an answer are left out."""
        context = self._context
        context.check_budget()
        name, counts = identify(self._solver).label + (f"/draw {draw}" if draw else ""), Counter[str]()
        work: list[tuple[Subject, str]] = []
        for problem in problems:
            work += [(problem, f"online/{name}/{counts[problem.id] + i}") for i in range(n)]
            counts[problem.id] += n
        verify = context.uses_verdicts
        batch = SolveBatch("sampling rollouts", policy, self._solver, self._how, verify, work, keep_turns=True)
        batch.finish = partial(self._rewards.finish, policy) if self._rewards else None
        rolled = [
            Rollout(one.attempt, one.turns or (one.attempt,), policy.version, one.rewards, one.reward)
            for one in solve(context, batch)
        ]
        self._learning_since = time.monotonic()
        groups = [rolled[i : i + n] for i in range(0, len(rolled), n)]
        return [[one for one in group if not one.failed] for group in groups]

    def attach_model(self, policy: Policy, model: Any) -> None:
        """Have the engine sample from the weights in training.

        Raises:
            BadInput: it cannot.
        """
        self._context.engine.attach_model(policy, model)

    def sampling_of(self, attempt: Attempt) -> Sampling:
        """How an attempt was sampled, from the journal."""
        found = self._context.journal.get(attempt.id)
        if found is None:
            return self._context.settings.sampling
        fields = found[0]["sampling"]
        return Sampling(**{**fields, "stop": tuple(fields["stop"])})

    def record_step(self, key: str, facts: dict[str, Any] | None, tokens: int) -> None:
        """Journal the outcome of a step and count its cost; without `facts`, count it only."""
        context = self._context
        if facts is not None:
            context.learn_seconds += time.monotonic() - self._learning_since
            if context.journal.get(key) is None:
                context.journal.put(key, "online", facts, Usage(trained=tokens))
        if (found := context.journal.get(key)) is not None:
            context.ledger.count(key, found[1])
        context.record_time()

    def report_progress(self, done: int, total: int, loss: float) -> None:
        """Show the progress."""
        self._progress(done, total, loss)
