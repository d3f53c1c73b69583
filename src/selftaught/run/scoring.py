"""Scoring attempts with a policy's value head: where it is read, and the journal entry of each reading."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING, Any, NamedTuple

from selftaught.engines import RequestRefused
from selftaught.errors import BadInput
from selftaught.journal import Usage
from selftaught.models import Policy
from selftaught.models.heads import ScoreAt, head_config
from selftaught.models.policy import require_lasting
from selftaught.records import Attempt, Prompt, content_hash
from selftaught.run.checks import SUBJECTS, require_all
from selftaught.run.requests import JournaledEngine
from selftaught.run.solver import Subject, problem_of
from selftaught.tasks.steps import StepFormat

if TYPE_CHECKING:
    from selftaught.run.context import RunContext

Score = float | tuple[float, ...]
"""One number, or for "steps" one for each step."""


class HeadReading(NamedTuple):
    """One reading of a value head.

    Attributes:
        policy: whose head is read.
        text: what it reads after `prompt`.
        ends: characters of `text` that it has seen at each place.
        source: id of the attempt or problem, for the journal.
    """

    policy: Policy
    prompt: Prompt
    text: str
    ends: tuple[int, ...]
    source: str

    @property
    def key(self) -> str:
        """Content key of the effect: equal questions to the same head are read once."""
        return content_hash("score", self.policy.version, self.prompt, self.text, self.ends)


def score(context: RunContext, policy: Policy, subjects: Sequence[Subject], at: ScoreAt) -> list[Any]:
    """See `Run.score`."""
    context.check_budget()
    require_all(SUBJECTS, subjects, "run.score")
    context.access.check_not_test(context.method, subjects)
    require_lasting("score", policy)
    head_config(policy, at)
    return context.sampler.score(policy, subjects, at)


async def score_one(
    engine: JournaledEngine, steps: StepFormat, policy: Policy, subject: Subject, at: ScoreAt,
    head: Mapping[str, Any] | None = None,
) -> Score:  # fmt: skip
    """The score of one attempt or problem, through the journal; NaN where there is no answer or the engine refuses.

    Args:
        steps: how answers are split into steps.
        head: see `head_config`.
    """
    config, reading = head_config(policy, at, head), _reading(policy, subject, at, steps)
    values = await _values(engine, reading) if reading else ()
    scores = tuple(config.score(value) for value in values)
    return scores if at == "steps" else scores[0] if scores else math.nan


def _reading(policy: Policy, subject: Subject, at: ScoreAt, steps: StepFormat) -> HeadReading | None:
    """What to read for a score; None where there is nothing to read."""
    if at == "question":
        problem = problem_of(subject)
        return HeadReading(policy, problem.prompt, "", (0,), problem.id)
    if not isinstance(subject, Attempt):
        raise BadInput("a problem has no answer to score", where=f"at={at!r}", fix='pass attempts, or at="question"')
    ends = (len(subject.text),) if at == "end" else tuple(accumulate(map(len, steps.split(subject.text))))
    return HeadReading(policy, subject.prompt, subject.text, ends, subject.id) if ends and not subject.failed else None


async def _values(engine: JournaledEngine, reading: HeadReading) -> tuple[float, ...]:
    """The head's numbers, from the journal or the engine; all NaN where the engine refuses to read the text."""

    async def read() -> tuple[dict[str, Any], Usage]:
        weights, prompt = await engine.model_reads(reading.policy, reading.prompt)
        found = await engine.engine.scores(weights, prompt, reading.text, reading.ends)
        values = [round(value, 6) for value in found.values]
        payload = {"of": reading.source, "policy": reading.policy.version, "values": values}
        usage = Usage(found.prompt_tokens)
        engine.journal.put(reading.key, "score", payload, usage)
        return payload, usage

    try:
        payload = await engine.effect(reading.key, read)
    except RequestRefused:
        return (math.nan,) * len(reading.ends)
    return tuple(payload["values"])
