"""Learning from records: which records may be used, and one training, journaled."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from selftaught.console import training_progress
from selftaught.curate.keep import record_texts, teaches_false_end
from selftaught.errors import BadInput
from selftaught.journal import Usage
from selftaught.learn import Objective, TrainConfig
from selftaught.learn.learner import policy_version
from selftaught.learn.tracking import curves_of
from selftaught.machine import malloc
from selftaught.machine.disk import disk_full_error
from selftaught.models import Policy
from selftaught.models.policy import CONTENT, load_policy, require_lasting
from selftaught.models.remote import require_trainable
from selftaught.records import Problem, Record, content_hash
from selftaught.run.checks import check_training
from selftaught.run.rounds import truncation_line, wrong_ends_line
from selftaught.run.settings import override

if TYPE_CHECKING:
    from selftaught.run.context import RunContext

ATTEMPT_ROLES = frozenset({"solve", "revise", "critique", "judge"})
"""Roles whose samples are about a problem; those of others may be problems themselves."""


def learn(
    context: RunContext, base: Policy, objective: Objective, records: Sequence[Record], lr_scale: float,
    training: Mapping[str, Any],
) -> Policy:  # fmt: skip
    """See `Run.learn`."""
    base = base.weights_policy
    require_trainable(base)
    context.check_budget()
    check_training(objective, records, "run.learn")
    _check_records(context, records)
    if not records:
        _check_cause(context)
    require_lasting("learn", base, objective.reference, objective.teacher)
    settings = train_settings(context, training, lr_scale)
    settings = replace(settings, steps=context.cut.steps(settings.steps))  # fewer in a round that is cut to fit
    policy = _learned(context, base, objective, records, settings)
    context.round_facts["records"] = len(records)
    context.monitor.observe_training(records, by_verdict=context.uses_verdicts)
    context.record_time()
    return policy


def train_settings(context: RunContext, changes: Mapping[str, Any], lr_scale: float) -> TrainConfig:
    """The run's training settings with some fields changed, and the learning rate multiplied.

    Raises:
        BadInput: there is no such field, or a value is out of its range.
    """
    if not (math.isfinite(lr_scale) and lr_scale > 0):
        raise BadInput(f"lr_scale must be more than 0, got {lr_scale}")
    of_epochs = (
        {"steps": 0} if "epochs" in changes else {}
    )  # what a call asks for counts, not what the run usually does
    settings = override(context.settings.training, of_epochs | dict(changes))
    return replace(settings, learning_rate=settings.learning_rate * lr_scale) if lr_scale != 1.0 else settings


def release_memory(context: RunContext) -> None:
    """Release the engine's caches and freed heap, before and after training."""
    context.engine.release()
    malloc.release_memory()


def check_records_of(context: RunContext, records: Sequence[Record], problem: Problem) -> None:
    """Refuse records of held-out problems other than `problem`, whose own answer they are learned for.

    Raises:
        BadInput: there is one.
    """
    access, mine = context.access, problem.question
    for record in records:
        found = [context.journal.get(attempt) for attempt in record.attempts]
        sources = [one[0] for one in found if one]
        asked = {record.prompt, *(source.get("problem") for source in sources)} - {problem.id, problem.prompt}
        own = record.prompt == problem.prompt or access.is_train(record.prompt)
        texts = [] if own else [access.text_of(record.prompt)]
        texts += [] if _of_attempts(sources) else record_texts(record)
        if asked & access.held_out or any(access.contaminated(text, but=mine) for text in texts):
            raise BadInput("a record is of another dev or test problem", where="ask.tuned", fix="drop it")


def _check_records(context: RunContext, records: Sequence[Record]) -> None:
    """Refuse records of held-out problems; warn of those that teach an end of sequence after a cut-off answer.

    A record is held out if its prompt is a dev or test problem, or if it comes from an attempt at one.
    """
    wrong_ends = 0
    for record in records:
        found = [context.journal.get(attempt) for attempt in record.attempts]
        sources = [one[0] for one in found if one]
        asked = (record.prompt, *(source.get("problem") for source in sources))
        if any(what in context.access.held_out for what in asked):
            raise BadInput("a record is a dev or test problem", where="learn", fix="learn from task.train only")
        if repeated := _repeats(context, record, sources):
            fix = "learn from task.train, and from what run.new_problems returns"
            raise BadInput(f"a record repeats {repeated}", where="learn", fix=fix)
        wrong_ends += teaches_false_end(record, sources)
    counts = {"wrong": wrong_ends, "records": len(records)}
    context.end_counts.update(counts)
    if wrong_ends:
        context.console.print(f"  warning: {wrong_ends_line(counts)}")


def _repeats(context: RunContext, record: Record, sources: Sequence[Mapping[str, Any]]) -> str:
    """The held-out problem in a record's prompt, or in a text that is no attempt at a problem; empty if none."""
    if found := context.access.prompt_repeats(record.prompt):
        return found
    if _of_attempts(sources):
        return ""
    return next(filter(None, map(context.access.contaminated, record_texts(record))), "")


def _of_attempts(sources: Sequence[Mapping[str, Any]]) -> bool:
    """Whether all sources are attempts at problems, and not problems."""
    return bool(sources) and all(source.get("role") in ATTEMPT_ROLES for source in sources)


def _check_cause(context: RunContext) -> None:
    """Without records, stop the run in a method's later round or one that is cut to fit a budget; else, if answers were
    cut off, name that as the cause."""
    if context.method and (context.loop_round > 1 or context.cut.share < 1):
        raise context.stop(f"round {context.round} produced no training records; the run stops here")
    if context.truncation_counts["truncated"]:
        cause = f"nothing to learn from: {truncation_line(context.truncation_counts)} and are not learned from"
        raise BadInput(cause, where="learn", fix="raise max_tokens")


def _learned(
    context: RunContext, base: Policy, objective: Objective, records: Sequence[Record], settings: TrainConfig
) -> Policy:
    """The policy, trained now or found from an earlier start."""
    version = policy_version(base, objective, records, settings, context.settings.seed)
    key = content_hash("learn", version)
    found = context.journal.get(key)
    if found is None or not (context.policies / version).is_dir():
        policy = _train(context, base, objective, records, settings)
    else:
        policy = load_policy(context.policies / version, version)
    if found is None:
        made = json.loads((policy.path / "selftaught.json").read_text("utf-8"))
        facts = {"policy": version, "base": base.version, "records": len(records), "curves": curves_of(made)}
        facts |= {CONTENT: made[CONTENT]} if CONTENT in made else {}
        found = (facts, Usage(trained=made["tokens"]))
        context.journal.put(key, "learn", *found)
    context.ledger.count(key, found[1])
    return policy


def _train(
    context: RunContext, base: Policy, objective: Objective, records: Sequence[Record], settings: TrainConfig
) -> Policy:
    before = context.learn_seconds
    release_memory(context)

    def tick(seconds: float) -> None:
        context.learn_seconds = before + seconds
        context.record_time()

    label = context.progress_label(f"learning from {len(records)}")
    steps = settings.num_steps(len(records))
    how = {"seed": context.settings.seed, "folder": context.policies}
    with training_progress(context.console, label, steps, tick) as progress:
        try:
            return context.learner(base, objective, records, settings, **how, progress=progress)
        except Exception as error:
            raise disk_full_error(error, context.policies) or error from None
        finally:
            malloc.release_memory()
