"""Learning from records: what may be learned from, and one training, journalled."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from selftaught.console import shown
from selftaught.curate.keep import teaches_false_end
from selftaught.errors import BadInput
from selftaught.journal import Usage
from selftaught.learn import Objective, Training
from selftaught.learn.learner import policy_version
from selftaught.learn.tracking import curves_of
from selftaught.machine.disk import disk_full_error
from selftaught.machine.malloc import release_memory
from selftaught.models import Policy
from selftaught.models.policy import load_policy
from selftaught.models.remote import require_trainable
from selftaught.records import content_hash
from selftaught.run.context import RunContext
from selftaught.run.rounds import cut_line, ends_line
from selftaught.run.settings import training_settings


def learn(
    context: RunContext,
    base: Policy,
    objective: Objective,
    records: Sequence[Any],
    lr_scale: float,
    training: Mapping[str, Any],
) -> Policy:
    """See `Run.learn`."""
    require_trainable(base)
    context.check_budget()
    _check_records(context, records)
    if not records:
        _check_cause(context)
    settings = training_settings(context.settings.training, lr_scale, training)
    policy = _learned(context, base, objective, records, settings)
    context.facts["records"] = len(records)
    context.watch.observe_training(records, by_verdict=context.by_verdict)
    context.clock()
    return policy


def make_room(context: RunContext) -> None:
    """Memory for weights in training, or given back after it."""
    context.engine.release()
    release_memory()


def _check_records(context: RunContext, records: Sequence[Any]) -> None:
    """Refuse records of held-out problems, and say how many teach an end behind an answer that was cut off.

    A record is held out where it asks a dev or test problem, or comes from an attempt at one, however reworded.
    """
    wrong_ends = 0
    for record in records:
        found = [context.journal.get(attempt) for attempt in getattr(record, "attempts", ())]
        sources = [one[0] for one in found if one]
        asked = (getattr(record, "prompt", None), *(source.get("problem") for source in sources))
        if any(what in context.walls.held_out for what in asked):
            raise BadInput("a record is a dev or test problem", where="learn", fix="learn from task.train only")
        wrong_ends += teaches_false_end(record, sources)
    counts = {"wrong": wrong_ends, "records": len(records)}
    context.ends.update(counts)
    if wrong_ends:
        context.console.say(f"  warning: {ends_line(counts)}")


def _check_cause(context: RunContext) -> None:
    """Without records: a method's later round ends the run; answers that were all cut off are named as the cause."""
    if context.method and context.number > 1:
        raise context.end(f"round {context.round} left nothing to learn from; the run ends here")
    if context.cut["truncated"]:
        cause = f"nothing to learn from: {cut_line(context.cut)} and are not learned from"
        raise BadInput(cause, where="learn", fix="raise max_tokens")


def _learned(
    context: RunContext, base: Policy, objective: Objective, records: Sequence[Any], settings: Training
) -> Policy:
    """The policy as it was trained before, or trained now."""
    version = policy_version(base, objective, records, settings, context.settings.seed)
    key = content_hash("learn", version)
    found = context.journal.get(key)
    if found is None or not (context.policies / version).is_dir():
        policy = _train(context, base, objective, records, settings)
    else:
        policy = load_policy(context.policies / version)
    if found is None:
        made = json.loads((policy.path / "selftaught.json").read_text("utf-8"))
        facts = {"policy": version, "base": base.version, "records": len(records), "curves": curves_of(made)}
        found = (facts, Usage(trained=made["tokens"]))
        context.journal.put(key, "learn", *found)
    context.ledger.count(key, found[1])
    return policy


def _train(
    context: RunContext, base: Policy, objective: Objective, records: Sequence[Any], settings: Training
) -> Policy:
    before = context.learn_seconds
    make_room(context)

    def tick(seconds: float) -> None:
        context.learn_seconds = before + seconds
        context.clock()

    what, steps = context.doing(f"learning from {len(records)}"), settings.epochs * -(-len(records) // settings.batch)
    how = {"seed": context.settings.seed, "folder": context.policies}
    with shown(context.console, what, steps, tick) as progress:
        try:
            return context.learner(base, objective, records, settings, **how, progress=progress)
        except Exception as error:
            raise disk_full_error(error, context.policies) or error from None
        finally:
            release_memory()
