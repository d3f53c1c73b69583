"""Answers of the task's environment, through the journal."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass, field
from typing import Any

from selftaught.errors import BadInput
from selftaught.feedback.verifiers import unknown_verdict
from selftaught.journal import Journal, Ledger
from selftaught.records import Attempt, Feedback, Problem, as_json, content_hash
from selftaught.run.background import VERIFIER_THREADS, DeadlineExceeded, SharedTasks, call_in_thread
from selftaught.run.counts import RequestCounts
from selftaught.run.solver import SolveBatch
from selftaught.tasks import Task
from selftaught.tasks.environment import (
    AnyEnvironment,
    EpisodeVerifier,
    Turn,
    check_state,
    check_turn,
    episode_feedback,
)

ENVIRONMENT_RAISED = "environment raised"
MAX_SECONDS = 60.0  # that an answer of an environment may take, unless it says so itself


@dataclass(frozen=True, slots=True)
class Observation:
    """What a solver sees of an environment's answer.

    Attributes:
        text: what the policy reads next.
        done: whether the episode is over: it ended, or it is `truncated`.
        truncated: whether the environment's `max_turns` are used up before it ended.
        reward: of the action; None where verdicts are closed to the solver.
        key: of the journaled answer, which names the whole episode so far.
    """

    text: str
    done: bool
    truncated: bool = False
    reward: float | None = None
    key: str = ""


@dataclass(frozen=True, slots=True)
class EpisodeStep:
    """An answer of the environment, and the episode that led to it.

    Attributes:
        key: of the answer in the journal: a hash of the environment, the problem and all actions so far.
        turn: the answer.
        rewards: of all actions so far.
        over: whether nothing more can be done: it ended, failed, or `truncated` it is.
        truncated: whether the environment's `max_turns` are used up.
        failure: why the environment gave no answer; empty if it did.
    """

    key: str
    turn: Turn
    rewards: tuple[float, ...] = ()
    over: bool = False
    truncated: bool = False
    failure: str = ""

    def observation(self, *, reward_visible: bool) -> Observation:
        """What a solver sees of it."""
        reward = self.turn.reward if reward_visible and not self.failure else None
        return Observation(self.turn.observation, self.over, self.truncated, reward, self.key)


@dataclass(slots=True)
class JournaledEnvironment:
    """Plays the task's environment through the journal.

    Attributes:
        task: has the environment, or none.
        journal: where answers are looked up and kept.
        ledger: where they are counted.
        counts: what became of the episodes.
        seed: of the run, from which those of episodes are drawn.
        posed: new problems of the run by id, with the references that solvers do not see.
        seconds: spent in the environment since this start.
    """

    task: Task
    journal: Journal
    ledger: Ledger
    counts: RequestCounts
    seed: int
    posed: Mapping[str, Problem]
    seconds: float = 0.0
    _threads: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(VERIFIER_THREADS))
    _share: SharedTasks = field(default_factory=SharedTasks)

    @property
    def environment(self) -> AnyEnvironment:
        """The task's environment.

        Raises:
            BadInput: it has none.
        """
        if self.task.environment is None:
            fix = "use a task with an environment (see Task)"
            raise BadInput("the task has no environment to act in", where=self.task.name, fix=fix)
        return self.task.environment

    @property
    def decides(self) -> bool:
        """Whether rewards decide the verdict, and no verifier."""
        return isinstance(self.task.verifier, EpisodeVerifier)

    async def start(self, batch: SolveBatch, problem: Problem, episode: str) -> EpisodeStep:
        """The state before the first action.

        Args:
            episode: name of the episode, on which a seeded environment's chance depends.
        """
        environment = self.environment
        true = self.task.known(self.posed.get(problem.id, problem))
        seeds: tuple[int, ...] = ()
        if getattr(environment, "seeded", False):
            seeds = (int(content_hash(self.seed, problem.id, batch.policy.version, episode), 16) >> 1,)
        key = content_hash("env", environment.version, problem.id, as_json(true.reference), *seeds)

        def make() -> Turn:
            state: Any = environment.start(true, *seeds)  # pyright: ignore[reportArgumentType, reportCallIssue]
            return Turn("", state=check_state(state, environment.version))

        payload = await self._payload(batch, key, make, {"problem": problem.id})
        return self._step(key, payload, ())

    async def act(self, batch: SolveBatch, before: EpisodeStep, text: str, attempt: Attempt | None) -> EpisodeStep:
        """The environment's answer to an action.

        Args:
            before: the answer that the action follows.
            text: the action.
            attempt: who acts.

        Raises:
            BadInput: the episode is over, or the answer has another type than it must have.
        """
        environment = self.environment
        if before.failure:
            return before
        if before.over:
            fix = "stop where an observation is done"
            raise BadInput("it acts in an episode that is over", where="ask.act", fix=fix)
        key = content_hash(before.key, text)
        facts = {"before": before.key, "text": text, "turn": len(before.rewards) + 1}
        facts |= {"problem": attempt.problem.id, "attempt": attempt.id} if attempt else {}

        def make() -> Turn:
            state = deepcopy(before.turn.state)  # an earlier one may be gone back to
            return check_turn(environment.act(state, text), environment.version)

        payload = await self._payload(batch, key, make, facts)
        return self._step(key, payload, before.rewards)

    def settle(self, batch: SolveBatch) -> None:
        """Journal the failures of a finished batch; the rerun of an abandoned one tries again."""
        for key, payload in batch.pending_steps.items():
            self.journal.put_new(key, "env", payload)

    def verdict(self, step: EpisodeStep | None) -> Feedback | None:
        """The verdict on the episode that an attempt ended; None where the verifier is asked."""
        version = self.task.verifier.version
        if step is not None and step.failure:
            return unknown_verdict(step.failure, version)
        if not self.decides:
            return None
        if step is None:
            return unknown_verdict("it did not act in the environment (ask.act)", version)
        return episode_feedback(step.rewards, step.turn, version)

    async def _payload(self, batch: SolveBatch, key: str, make: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        if (found := self.journal.get(key)) is None:
            payload = batch.pending_steps.get(key) or await self._share(key, lambda: self._pay(batch, key, make, facts))
        else:
            payload = found[0]
        self.ledger.count_step(key)
        return payload

    async def _pay(self, batch: SolveBatch, key: str, make: Any, facts: Mapping[str, Any]) -> dict[str, Any]:
        """Ask the environment, and journal its answer."""
        environment, began = self.environment, time.monotonic()
        limit = float(getattr(environment, "max_seconds", MAX_SECONDS))
        try:
            async with self._threads:
                turn: Turn = await call_in_thread(make, limit)
        except BadInput:
            raise
        except DeadlineExceeded:
            what, fix = f"it gave no answer in {limit:g} s", "end it, or raise its max_seconds"
            raise BadInput(what, where=f"environment {environment.version}", fix=fix) from None
        except Exception as error:
            failure = f"{ENVIRONMENT_RAISED} {type(error).__name__}: {error}"[:500]
            payload = batch.pending_steps[key] = {**facts, "failure": failure}
            return payload
        finally:
            self.seconds += time.monotonic() - began
        payload = {**facts, **as_json(turn)}
        self.journal.put(key, "env", payload)
        return payload

    def _step(self, key: str, payload: Mapping[str, Any], earlier: tuple[float, ...]) -> EpisodeStep:
        if failure := payload.get("failure", ""):
            return EpisodeStep(key, Turn("", done=True), earlier, over=True, failure=failure)
        turn = Turn(*(payload[name] for name in Turn.__slots__))
        rewards = (*earlier, turn.reward) if "turn" in payload else ()
        spent = not turn.done and len(rewards) >= self.environment.max_turns
        return EpisodeStep(key, turn, rewards, turn.done or spent, spent)
