"""Learning online: what the loop asks of the run, and one training, journalled."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from selftaught.console import shown
from selftaught.engines import Sampling
from selftaught.errors import BadInput
from selftaught.identity import identify, known
from selftaught.journal import Usage
from selftaught.learn import Objective
from selftaught.learn.learner import learn as local_learner
from selftaught.learn.objectives import grpo
from selftaught.learn.online.loop import played_through, reinforce
from selftaught.learn.online.plan import Plan
from selftaught.learn.online.rollouts import Crediting, Rollout
from selftaught.machine.disk import disk_full_error
from selftaught.models import Policy
from selftaught.models.policy import read_manifest
from selftaught.models.remote import require_trainable
from selftaught.records import Attempt, Problem, content_hash
from selftaught.run.attempts import solve
from selftaught.run.context import RunContext
from selftaught.run.learning import make_room
from selftaught.run.sampling import Batch, Subject
from selftaught.run.settings import at_least_one, changed, training_settings


def learn_online(
    context: RunContext, policy: Policy, problems: Sequence[Problem], *, rollout: Any, objective: Objective | None,
    credit: Crediting, steps: int, n: int, cap: float, lr_scale: float, sampling: Mapping[str, Any],
    training: Mapping[str, Any],
) -> Policy:  # fmt: skip
    """See `Run.reinforce`."""
    require_trainable(policy)
    context.check_budget()
    for name, value in (("steps", steps), ("n", n)):
        at_least_one(name, value)
    if any(map(context.walls.hold_out, problems)):
        raise BadInput("a problem is of the dev or test split", where="reinforce", fix="use task.train only")
    online = {"epochs": 1, "schedule": "constant", **training}
    settings = training_settings(context.settings.training, lr_scale, online)
    how = changed(context.settings.sampling, {"temperature": 1.0, **sampling})
    named = content_hash([known(x, "online training").key for x in (rollout, *credit.parts)], how)
    plan = Plan(objective or grpo(), settings, steps, n, credit, cap, named, context.settings.seed)
    made = _trained(context, policy, problems, plan, rollout, how)
    count = read_manifest(made.path).get("records", 0)
    facts = {"policy": made.version, "base": policy.version, "records": count}
    context.note(content_hash("learn", made.version), "learn", facts)
    context.facts["records"] = count
    return made


def _trained(
    context: RunContext, policy: Policy, problems: Sequence[Problem], plan: Plan, rollout: Any, how: Sampling
) -> Policy:
    folder = context.policies
    try:
        with shown(context.console, context.doing("reinforcing"), plan.steps, lambda _: context.clock()) as progress:
            services = RunServices(context, rollout, how, progress)
            if context.learner is local_learner:
                return reinforce(policy, problems, plan, services, folder=folder)
            return played_through(policy, problems, plan, services, context.learner, folder)
    except Exception as error:
        raise disk_full_error(error, folder) or error from None


class RunServices:
    """What an online training asks of the run; see `learn.online.loop.Services`.

    Args:
        rollout: the solver.
        how: how rollouts are sampled.
        progress: called after each step with steps done, steps in all, and the loss.
    """

    def __init__(
        self, context: RunContext, rollout: Any, how: Sampling, progress: Callable[[int, int, float], None]
    ) -> None:
        self._context, self._rollout, self._how, self._progress = context, rollout, how, progress
        self._learning_since = 0.0

    def room(self) -> None:
        """Memory for weights in training, or given back after it."""
        make_room(self._context)

    def begin(self, facts: dict[str, Any]) -> None:
        """Journal a live policy under its own name before it writes anything, so that it can be walked back from."""
        self._context.note(facts["live"], "live", facts)

    def roll(self, policy: Policy, problems: Sequence[Problem], n: int) -> list[list[Rollout]]:
        """`n` rollouts of each problem, for a step of an online training; those without an answer are left out."""
        context = self._context
        context.check_budget()
        name, met = identify(self._rollout).label, Counter[str]()
        work: list[tuple[Subject, str]] = []
        for problem in problems:
            work += [(problem, f"online/{name}/{met[problem.id] + i}") for i in range(n)]
            met[problem.id] += n
        batch = Batch("rolling out", policy, self._rollout, self._how, context.by_verdict, work, turns=True)
        rolled = [Rollout(one.attempt, one.turns or (one.attempt,)) for one in solve(context, batch)]
        self._learning_since = time.monotonic()
        groups = [rolled[i : i + n] for i in range(0, len(rolled), n)]
        return [[one for one in group if not one.failed] for group in groups]

    def serve(self, policy: Policy, model: Any) -> None:
        """Have the engine sample from weights in training.

        Raises:
            BadInput: it cannot.
        """
        engine = self._context.engine
        adopt = getattr(engine, "attach_model", None)
        if adopt is None:
            raise BadInput(
                "it cannot sample from weights in training", where=f"engine {engine.name}", fix="use LocalEngine"
            )
        adopt(policy, model)

    def sampling(self, attempt: Attempt) -> Sampling:
        """How an attempt was sampled, as the journal has it."""
        found = self._context.journal.get(attempt.id)
        if found is None:
            return self._context.settings.sampling
        fields = found[0]["sampling"]
        return Sampling(**{**fields, "stop": tuple(fields["stop"])})

    def note(self, key: str, facts: dict[str, Any] | None, tokens: int) -> None:
        """Journal what a step came to, and count what it cost; without `facts` it is counted alone."""
        context = self._context
        if facts is not None:
            context.learn_seconds += time.monotonic() - self._learning_since
            if context.journal.get(key) is None:
                context.journal.put(key, "online", facts, Usage(trained=tokens))
        if (found := context.journal.get(key)) is not None:
            context.ledger.count(key, found[1])
        context.clock()

    def progress(self, done: int, total: int, loss: float) -> None:
        """Show how far it is."""
        self._progress(done, total, loss)
