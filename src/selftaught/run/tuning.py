"""Weights that live for one answer: trained inside a solver call, and deleted when it ends."""

from __future__ import annotations

import asyncio
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from selftaught.engines import Likelihood
from selftaught.errors import BadInput
from selftaught.journal import Usage
from selftaught.learn import Objective, TrainConfig
from selftaught.learn.learner import head_entry, policy_version
from selftaught.machine import malloc
from selftaught.machine.disk import disk_full_error
from selftaught.models import Policy
from selftaught.models.policy import ONE_ANSWER, TUNED_FIX, read_manifest
from selftaught.models.remote import require_trainable
from selftaught.records import Attempt, Problem, Record, content_hash
from selftaught.run.ask_reading import AskEffects
from selftaught.run.checks import check_training
from selftaught.run.learning import check_records_of, train_settings
from selftaught.run.requests import JournaledRequest
from selftaught.run.settings import require_positive

if TYPE_CHECKING:
    from selftaught.run.context import RunContext


class Tuner:
    """Opens a `TuningSession` for each solver call; trainings wait for each other."""

    def __init__(self, context: RunContext) -> None:
        self.context, self.lock = context, asyncio.Lock()
        self.folder = context.folder / ONE_ANSWER
        self._sessions: dict[Path, TuningSession] = {}

    def session(self, policy: Policy, problem: Problem, name: str) -> TuningSession:
        """The session of one solver call, of which `name` and problem make the key."""
        folder = self.folder / content_hash(name, policy.version, problem.id)
        made = self._sessions[folder] = TuningSession(self, policy, problem, name, folder)
        return made

    async def make_ready(self, policy: Policy) -> None:
        """Make the weights of a policy of an open session, where they are about to be read."""
        if session := self._sessions.get(policy.path.parent):
            await session.make_ready(policy)

    def forget(self, folder: Path) -> None:
        """Have a session's policies no longer made ready."""
        self._sessions.pop(folder, None)

    def close(self) -> None:
        """Delete what killed processes left."""
        shutil.rmtree(self.folder, ignore_errors=True)


class TuningSession:
    """The policies tuned in one solver call."""

    def __init__(self, tuner: Tuner, policy: Policy, problem: Problem, name: str, folder: Path) -> None:
        self._tuner, self._context = tuner, tuner.context
        self._policy, self._problem, self._name, self._folder = policy, problem, name, folder
        self._recipes: dict[str, tuple[Policy, Objective, list[Record], TrainConfig]] = {}

    def opened(self, effects: AskEffects) -> AskEffects:
        """The effects of this call, with `tune`; they refuse policies tuned for other answers."""

        async def sample(asked: JournaledRequest) -> Attempt:
            self._check(asked.policy)
            return await effects.sample(asked)

        async def loglikelihood(policy: Policy, *of: Any) -> Likelihood:
            self._check(policy)
            return await effects.loglikelihood(policy, *of)

        async def score(policy: Policy, *of: Any) -> Any:
            self._check(policy)
            return await effects.score(policy, *of, self._head(policy))

        return replace(effects, sample=sample, loglikelihood=loglikelihood, score=score, tune=self.tune)

    async def tune(
        self, base: Policy | None, objective: Objective, records: Sequence[Record], steps: int,
        training: Mapping[str, Any],
    ) -> tuple[Policy, int]:  # fmt: skip
        """See `Ask.tuned`; returns the policy and the tokens that training it takes."""
        context, base = self._context, base or self._policy
        notes, base = base.notes, base.weights_policy
        require_trainable(base)
        for needed in _read_by_training(base, objective):
            self._check(needed)
        require_positive("steps", steps)
        check_training(objective, records, "ask.tuned")
        if not records:
            raise BadInput("nothing to learn from", where="ask.tuned", fix="tune where there are records")
        check_records_of(context, records, self._problem)
        settings = _settings(context, training, len(records))
        rows = [records[i % len(records)] for i in range(steps * settings.batch_size)]
        version = policy_version(base, objective, rows, settings, context.settings.seed)
        self._recipes[version] = (base, objective, rows, settings)
        key = content_hash("tune", version, self._problem.id, self._name)
        found = context.journal.get(key)
        if found is None:
            await self._train(version)
            attempts = list(dict.fromkeys(id for record in records for id in record.attempts))
            facts = {"policy": version, "base": base.version, "records": len(records), "steps": steps}
            facts |= {"problem": self._problem.id, "attempts": attempts, "objective": objective.name}
            found = (facts, Usage(trained=read_manifest(self._folder / version)["tokens"]))
            context.journal.put(key, "tune", *found)
        context.ledger.count(key, found[1])
        tuned = Policy(version, self._folder / version, base, adapter=bool(settings.lora_rank))
        return tuned.with_notes(notes), found[1].trained

    def _check(self, policy: Policy) -> None:
        """Refuse a policy that was tuned for another answer."""
        version = policy.weights_policy.version
        if policy.temporary and (version not in self._recipes or not policy.path.is_relative_to(self._folder)):
            raise BadInput(f"policy {policy.version} was tuned for another answer", where=self._name, fix=TUNED_FIX)

    def _head(self, policy: Policy) -> dict[str, Any] | None:
        """What its manifest says of a tuned policy's head, whether or not its weights are there; None for others."""
        if not policy.temporary:
            return None
        return head_entry(self._recipes[policy.weights_policy.version][1]).get("head", {})

    async def make_ready(self, policy: Policy) -> None:
        """Train a policy of this session again if a killed process had it; called only where it is to be read.

        Raises:
            BadInput: the policy was tuned for another answer.
        """
        self._check(policy)
        version = policy.weights_policy.version
        if policy.temporary and not read_manifest(self._folder / version):
            await self._train(version)

    async def _train(self, version: str) -> None:
        """Train, unless it was done while waiting; in a thread, so that other answers go on."""
        context, folder = self._context, self._folder
        base, objective, rows, settings = self._recipes[version]
        for needed in _read_by_training(base, objective):
            await self.make_ready(needed)
        async with self._tuner.lock:
            started = time.monotonic()
            if read_manifest(folder / version):
                return
            try:
                await asyncio.to_thread(
                    context.learner, base, objective, rows, settings, seed=context.settings.seed, folder=folder
                )
            except Exception as error:
                raise disk_full_error(error, folder) or error from None
            finally:
                malloc.release_memory()
                context.learn_seconds += time.monotonic() - started
                context.record_time()

    def close(self) -> None:
        """Delete the weights."""
        self._tuner.forget(self._folder)
        if self._recipes:
            shutil.rmtree(self._folder, ignore_errors=True)


def _read_by_training(base: Policy, objective: Objective) -> list[Policy]:
    """The policies whose weights a training reads."""
    return [one for one in (base, objective.reference, objective.teacher) if isinstance(one, Policy)]


def _settings(context: RunContext, training: Mapping[str, Any], records: int) -> TrainConfig:
    """The training settings; steps stand in place of epochs."""
    if "epochs" in training:
        raise BadInput("its length is given in steps", where="ask.tuned", fix="leave epochs out")
    settings = train_settings(context, {"epochs": 1, **training}, 1.0)
    return replace(settings, batch_size=min(settings.batch_size, records))
