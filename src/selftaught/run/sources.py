"""Where a sample that is not in the journal comes from: the engine, a teacher's, or the task's annotator."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from selftaught.engines import Engine, EngineError, RequestRefused, Sample
from selftaught.tasks.annotator import written

if TYPE_CHECKING:
    from selftaught.run.requests import JournaledEngine, JournaledRequest


@dataclass(slots=True)
class Beside:
    """The engine of a teacher behind an endpoint, once a run has one."""

    engine: Engine | None = None

    @property
    def engines(self) -> list[Engine]:
        """It alone, or none."""
        return [self.engine] if self.engine else []


def seed_of(key: str) -> int:
    """The seed of the request that has this key in the journal."""
    return int(key, 16) >> 1


async def sample_of(source: JournaledEngine, key: str, asked: JournaledRequest) -> Sample:
    """One new sample; of the annotator's policy what the task's annotator writes, which is no tokens.

    Raises:
        RequestRefused: the engine has no answer, or the annotator nothing to write.
    """
    if asked.policy.annotator:
        return _annotation(source, asked)
    weights, prompt = await source.model_reads(asked.policy, asked.request.prompt)
    engine = source.beside.engine if source.beside.engine and weights.remote else source.engine
    sample = await engine.sample(weights, replace(asked.request, prompt=prompt, seed=seed_of(key)))
    if sample.policy != weights.version:
        what = f"sampled policy {sample.policy}, expected {weights.version}"
        raise EngineError(f"engine {engine.name} {what}")
    return sample


def _annotation(source: JournaledEngine, asked: JournaledRequest) -> Sample:
    problem = source.task.known(asked.problem)
    if not (text := written(source.task.annotator, problem, asked.role, asked.request.prompt)):
        raise RequestRefused(f"the task's annotator has nothing to write for role {asked.role}")
    return Sample(text, policy=asked.policy.version)
