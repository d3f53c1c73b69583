"""The episodes of one call of a solver: which attempt led to which answer of the environment."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from selftaught.errors import BadInput
from selftaught.records import Attempt, Feedback, Problem, content_hash
from selftaught.run.environment import EpisodeStep, JournaledEnvironment, Observation
from selftaught.run.solver import SolveBatch


@dataclass(slots=True)
class Episodes:
    """Acts in the environment for one call of a solver.

    Attributes:
        environment: answers, through the journal.
        batch: of the call.
        problem: that is solved.
        name: of the call.
    """

    environment: JournaledEnvironment
    batch: SolveBatch
    problem: Problem
    name: str
    _by_key: dict[str, EpisodeStep] = field(default_factory=dict)
    _by_attempt: dict[str, EpisodeStep] = field(default_factory=dict)
    _starts: Counter[str] = field(default_factory=Counter[str])

    async def act(self, action: Attempt | str, after: Observation | None) -> Observation:
        """See `Ask.act`."""
        if after is None:
            before = await self.environment.start(self.batch, self.problem, self._next_episode(action))
        elif (found := self._by_key.get(after.key)) is not None:
            before = found
        else:
            fix = "pass what ask.act returned, or None at the start"
            raise BadInput("it acts after an observation of another episode", where="ask.act", fix=fix)
        attempt = action if isinstance(action, Attempt) else None
        text = action if isinstance(action, str) else action.text
        step = await self.environment.act(self.batch, before, text, attempt)
        self._by_key[step.key] = step
        if attempt is not None:
            self._by_attempt[attempt.id] = step
        return step.observation(reward_visible=self.batch.verdicts_visible)

    def _next_episode(self, action: Attempt | str) -> str:
        """The name of a new episode: call, sampling, first action, and its place among those that start alike.

        By the first action, so that a rerun finds it regardless of concurrent episodes.
        """
        first = ("attempt", action.id) if isinstance(action, Attempt) else ("text", action)
        start = content_hash(self.name, self.batch.sampling, first)
        self._starts[start] += 1
        return f"{start}#{self._starts[start] - 1}"

    def step(self, attempt: Attempt) -> EpisodeStep | None:
        """The environment's answer to an attempt; None if it did not act."""
        return self._by_attempt.get(attempt.id)

    def verdict(self, attempt: Attempt) -> Feedback | None:
        """The verdict on the episode that an attempt ended; None where the verifier is asked."""
        return self.environment.verdict(self.step(attempt))

    def reward(self, attempt: Attempt) -> float | None:
        """The reward of an attempt's action; None if it did not act, or the environment failed."""
        step = self.step(attempt)
        return None if step is None or step.failure else step.turn.reward
