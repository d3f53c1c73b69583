"""What a solver reads besides samples: likelihoods, scores, verdicts, and the environment's answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any, Literal, overload

from selftaught.engines import Likelihood, Sampling
from selftaught.errors import BadInput
from selftaught.models.heads import ScoreAt, has_head
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Feedback, Problem, Prompt, as_prompt
from selftaught.run.checks import require_a
from selftaught.run.environment import Observation
from selftaught.run.likelihoods import Choice, Normalize, check_options, choose
from selftaught.run.requests import JournaledRequest
from selftaught.tasks import Task


@dataclass(frozen=True, slots=True)
class AskEffects:
    """What `Ask` has the run do; each effect is journaled.

    Attributes:
        sample: one request to the engine.
        loglikelihood: reads a text after a prompt.
        score: reads a policy's value head.
        log: keeps plain data under a key and a kind.
        verify: the task's verdict; None where verdicts are closed.
        verify_shown: the verdict of the verifier that the task shows; None where there is no run.
        act: the answer of the task's environment; None without one.
        tune: trains weights for one answer, and returns the tokens that it takes too; None where that is closed.
    """

    sample: Callable[[JournaledRequest], Awaitable[Attempt]]
    loglikelihood: Callable[[Policy, Problem, Prompt, str], Awaitable[Likelihood]]
    score: Callable[..., Coroutine[Any, Any, Any]]
    log: Callable[[str, str, Any], None]
    verify: Callable[[Attempt], Awaitable[Feedback]] | None = None
    verify_shown: Callable[[Attempt], Awaitable[Feedback]] | None = None
    act: Callable[[Attempt | str, Observation | None], Awaitable[Observation]] | None = None
    tune: Callable[..., Awaitable[tuple[Policy, int]]] | None = None


class AskReading:
    """The part of `Ask` that samples nothing."""

    def __init__(
        self, effects: AskEffects, policy: Policy, problem: Problem, sampling: Sampling, name: str, task: Task
    ) -> None:
        self._effects, self._policy, self._problem, self._sampling = effects, policy, problem, sampling
        self._name, self._task = name, task
        self.with_turn, self.steps, self.policy = task.turn, task.steps, policy.version

    async def loglikelihood(self, prompt: Any, text: str, *, policy: Policy | None = None) -> Likelihood:
        """How probable `text` is as the beginning of the answer to `prompt`, in nats, at temperature 1.

        The text is tokenized by itself, and no end of sequence follows it. Journaled; costs prompt tokens, those of
        `prompt` and `text`, which no budget counts.

        Args:
            policy: which policy reads it instead of the one that solves.

        Returns:
            The log-probability of each token, and their sum; NaN (`Likelihood.failed`) if the engine refuses to read
            it, as where it does not fit the context.

        Raises:
            BadInput: `text` is no text, or the engine cannot score a given text (an endpoint).
        """
        require_a(str, text, "ask.loglikelihood", "pass the text to read")
        return await self._effects.loglikelihood(policy or self._policy, self._problem, as_prompt(prompt), text)

    async def choose(
        self, prompt: Any, options: Sequence[str], *, normalize: Normalize = "none", premise: Any = "",
        policy: Policy | None = None,
    ) -> Choice:  # fmt: skip
        """How probable each of several answers to `prompt` is among them: the softmax of their log-likelihoods.

        The options are read concurrently; an engine that holds the weights reads the prompt once. For the cost see
        `loglikelihood`.

        Args:
            options: texts that the answer may begin with.
            normalize: "none": the log-likelihood log p(option | prompt); of it, "tokens": the mean per token, "bytes":
                the mean per byte of UTF-8 (both for options of different length); "pmi": log p(option | prompt) -
                log p(option | premise), for options that are probable whatever is asked (Holtzman et al., 2104.08315).
            premise: prompt without the question, for "pmi".
            policy: which policy reads them instead of the one that solves.

        Raises:
            BadInput: no options, an empty one, two equal ones, an unknown `normalize`, or an engine that cannot score
                a given text (an endpoint).
        """
        check_options(options, normalize)
        prompts = [prompt, premise] if normalize == "pmi" else [prompt]
        asked = [self.loglikelihood(about, option, policy=policy) for about in prompts for option in options]
        found = list(await asyncio.gather(*asked))
        return choose(options, found[: len(options)], found[len(options) :], normalize)

    def extract_answer(self, text: str) -> str | None:
        """The final answer in a text, as the task extracts it; None if there is none."""
        return self._task.extract(self._problem, text)

    async def verify(self, attempt: Attempt) -> Feedback:
        """The task's verdict on an attempt, for solvers that search with it; journaled like any other.

        Raises:
            BadInput: the problem is held out, the method does not declare that it needs a verifier, or the attempt is
                at another problem than this call.
        """
        if self._effects.verify is None:
            raise BadInput(
                "verdicts are closed to it here",
                where=self._name,
                fix='declare needs=("verifier",), and attempt training problems only',
            )
        return await self._effects.verify(attempt)

    async def verify_shown(self, attempt: Attempt) -> Feedback:
        """The verdict of the verifier that the task shows to solvers (`Task.shown`), such as visible unit tests.

        Open on every split; journaled. It is no verdict of the task: neither `Attempt.right` nor a measurement
        depends on it.

        Returns:
            Feedback of kind "shown".

        Raises:
            BadInput: the task shows none, or the attempt is at another problem than this call.
        """
        if self._effects.verify_shown is None:
            raise BadInput("nothing is verified here", where=self._name, fix="solve by run.attempt or eval")
        return await self._effects.verify_shown(attempt)

    @property
    def shows_verdicts(self) -> bool:
        """Whether the task shows verdicts to solvers, which `verify_shown` returns."""
        return self._task.shown is not None

    @property
    def has_head(self) -> bool:
        """Whether the policy that solves has a value head of its own, which `score` reads by default."""
        return has_head(self._policy)

    @overload
    async def score(
        self, subject: Attempt | Problem, policy: Policy | None = None, *, at: Literal["end", "question"] = "end"
    ) -> float: ...

    @overload
    async def score(
        self, subject: Attempt, policy: Policy | None = None, *, at: Literal["steps"]
    ) -> tuple[float, ...]: ...

    async def score(self, subject: Attempt | Problem, policy: Policy | None = None, *, at: ScoreAt = "end") -> Any:
        """The score of an attempt by the value head of a policy, as `Run.score` returns it.

        Args:
            policy: whose head is read; by default the policy that solves.
            at: "end", "steps" or "question".

        Raises:
            BadInput: the policy has no head that is read there, or the engine reads none.
        """
        return await self._effects.score(policy or self._policy, subject, at)

    async def act(self, action: Attempt | str, after: Observation | None) -> Observation:
        """Let the task's environment answer an action; journaled under all actions so far, and asked for only once.

        Acting again after an earlier observation undoes what came since; acting after None begins another episode, of
        which a `SeededEnvironment` throws its dice anew.

        Args:
            action: an attempt, whose text is the action; or a text that no policy wrote.
            after: the observation that it follows; None at the start of the episode.

        Returns:
            The answer; without its reward where verdicts are closed (see `verify`), as on held-out problems.

        Raises:
            BadInput: the task has no environment, the episode is over, or the environment's answer is malformed.
        """
        if self._effects.act is None:
            raise BadInput("there is no environment to act in", where=self._name, fix="use a task with an environment")
        require_a((Attempt, str), action, "ask.act", "pass an attempt, or the text of an action")
        if after is not None:
            require_a(Observation, after, "ask.act", "pass the observation itself, or None at the start")
        return await self._effects.act(action, after)
