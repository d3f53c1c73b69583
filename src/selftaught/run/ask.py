"""`ask`: what a solver samples the policy with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from functools import lru_cache
from typing import Any, Literal, overload

from selftaught.engines import Likelihood, Request, Sampling
from selftaught.errors import BadInput
from selftaught.models.heads import ScoreAt, has_head
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Feedback, Message, Problem, Prompt, as_prompt, content_hash
from selftaught.run.environment import Observation
from selftaught.run.likelihoods import Choice, Normalize, check_options, choose
from selftaught.run.requests import JournaledRequest
from selftaught.run.settings import override
from selftaught.tasks import Task

SampleFn = Callable[[JournaledRequest], Awaitable[Attempt]]
LikelihoodFn = Callable[[Policy, Problem, Prompt, str], Awaitable[Likelihood]]
VerifyFn = Callable[[Attempt], Awaitable[Feedback]]
ScoreFn = Callable[[Policy, Attempt | Problem, ScoreAt], Awaitable[Any]]
LogFn = Callable[[str, str, Any], None]
ActFn = Callable[[Attempt | str, Observation | None], Awaitable[Observation]]


class Ask:
    """Samples one policy during one call of a solver on one problem.

    The same request made again is a new sample; its place among the equal requests of this call is part of its key,
    so that a rerun finds it regardless of concurrent requests.

    Attributes:
        tokens: sampled so far in this call.
        attempts: all attempts sampled so far in this call, in the order they were requested.
        with_turn: see `Task.turn`.
        steps: how the task's answers are split into steps.
        policy: version of the policy that is sampled.
    """

    def __init__(
        self, sample: SampleFn, policy: Policy, problem: Problem, sampling: Sampling, name: str, task: Task, *,
        verify: VerifyFn | None = None, log: LogFn | None = None, likelihood: LikelihoodFn | None = None,
        score: ScoreFn | None = None, act: ActFn | None = None, top_logprobs: int | None = None,
    ) -> None:  # fmt: skip
        self._sample, self._policy, self._problem, self._sampling = sample, policy, problem, sampling
        self._name, self._verify, self._log, self._top = name, verify, log, top_logprobs
        self._likelihood, self._score, self._act = likelihood, score, act
        self.with_turn, self.steps, self.policy = task.turn, task.steps, policy.version
        self._phrases, self._extract = task.phrases, task.extract
        self._occurrences: Counter[str] = Counter()
        self.tokens = 0
        self._attempts: list[Attempt | None] = []  # None while it is being sampled

    @property
    def attempts(self) -> list[Attempt]:
        """See above."""
        return [attempt for attempt in self._attempts if attempt]

    async def __call__(
        self, prompt: Any, *, role: str = "solve", parent: Attempt | None = None, prefix: str = "",
        policy: Policy | None = None, top_logprobs: int | None = None, **sampling: Any,
    ) -> Attempt:  # fmt: skip
        """Sample one answer to `prompt` (messages, or the text of a user message).

        Args:
            role: "solve" and "revise" count as generated tokens in the ledger, "critique" and "judge" as judge tokens.
            parent: the attempt this one builds on. If its request failed, nothing is sampled and it is returned.
            prefix: text that the answer starts with.
            policy: which policy to sample instead of the one that solves.
            top_logprobs: how many of the most probable tokens to return at each step (`Attempt.top_logprobs`), with
                `Attempt.entropies` and `Attempt.self_certainties`; 0 for those two alone.
            sampling: fields of `Sampling` to change for this request.

        Raises:
            BadInput: `Sampling` has no such field, a value is out of range, or the engine has no `top_logprobs`.
        """
        messages, how = as_prompt(prompt), override(self._sampling, sampling)
        if parent and parent.failed:
            return parent
        top = top_key(self._top if top_logprobs is None else top_logprobs)
        content = content_hash(_hash(messages), *_sampling_key(how), role, prefix, _parent_key(parent), *top)
        request = Request(messages, how, 0, prefix, (), *top)
        who = policy or self._policy
        return await self._send(JournaledRequest(who, self._problem, request, role, parent, content))

    async def continue_from(
        self, attempt: Attempt, text: str = "", *, role: str = "solve", top_logprobs: int | None = None, **sampling: Any
    ) -> Attempt:
        """Sample more of an answer, from the very tokens of `attempt` followed by `text`.

        An endpoint, which reports no tokens, continues from the text.

        Args:
            attempt: a partial or finished answer; its end of sequence is left out. If its request failed, it is
                returned.
            text: inserted after `attempt`, before what is sampled.
            role: see `__call__`.
            top_logprobs: see `__call__`.
            sampling: fields of `Sampling` to change; `max_tokens` counts only the new tokens.

        Returns:
            An attempt whose `text` is the whole answer, whose tokens are the new ones only, and whose parent is
            `attempt`.

        Raises:
            BadInput: `Sampling` has no such field, a value is out of range, or the engine has no `top_logprobs`.
        """
        how = override(self._sampling, sampling)
        if attempt.failed:
            return attempt
        top = top_key(self._top if top_logprobs is None else top_logprobs)
        content = content_hash("go on", *_sampling_key(how), role, _parent_key(attempt), text, *top)
        whole = attempt.text + attempt.stop_text
        if not text:
            whole = whole.rstrip("\ufffd")  # a character cut in two is completed by the new tokens
        own: tuple[int | str, ...] = attempt.token_ids or (whole[attempt.prefix_chars :],)
        pieces = (*attempt.prefix_tokens, *own, *((text,) if text else ()))
        request = Request(attempt.prompt, how, 0, "", pieces, *top)
        made = JournaledRequest(self._policy, self._problem, request, role, attempt, content, "", whole + text, text)
        return await self._send(made)

    async def inject(self, attempt: Attempt, phrase: str, text: str, **how: Any) -> Attempt:
        """Continue an answer after a sentence of the method's, in words that the task's model understands.

        A task with its own wording for `phrase` puts it as a user's turn after `attempt`; the new attempt is then the
        answer to that turn alone.

        Args:
            phrase: name of the sentence among the task's phrases ("reflect").
            text: the sentence in English, with the white space around it.
            how: see `continue_from`.
        """
        if attempt.failed or phrase not in self._phrases:
            return await self.continue_from(attempt, text, **how)
        history = (*attempt.prompt, Message("assistant", attempt.text))
        return await self(self.with_turn(history, phrase, text), parent=attempt, **how)

    async def sample(self, prompt: Any, samples: int, **how: Any) -> list[Attempt]:
        """Sample several independent answers to `prompt` concurrently; for `how` see `__call__`."""
        return list(await asyncio.gather(*(self(prompt, **how) for _ in range(samples))))

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
            BadInput: the engine cannot score a given text (an endpoint).
        """
        if self._likelihood is None:
            raise BadInput("likelihoods are closed to it here", where=self._name)
        return await self._likelihood(policy or self._policy, self._problem, as_prompt(prompt), text)

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
        return self._extract(self._problem, text)

    async def verify(self, attempt: Attempt) -> Feedback:
        """The task's verdict on an attempt, for solvers that search with it; journaled like any other.

        Raises:
            BadInput: the problem is held out, or the method does not declare that it needs a verifier.
        """
        if self._verify is None:
            raise BadInput(
                "verdicts are closed to it here",
                where=self._name,
                fix='declare needs=("verifier",), and attempt training problems only',
            )
        return await self._verify(attempt)

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
        assert self._score is not None
        return await self._score(policy or self._policy, subject, at)

    async def act(self, action: Attempt | str, after: Observation | None) -> Observation:
        """Let the task's environment answer an action; journaled under all actions so far, and asked for only once.

        Acting again after an earlier observation undoes what came since.

        Args:
            action: an attempt, whose text is the action; or a text that no policy wrote.
            after: the observation that it follows; None at the start of the episode.

        Returns:
            The answer; without its reward where verdicts are closed (see `verify`), as on held-out problems.

        Raises:
            BadInput: the task has no environment, the episode is over, or the environment's answer is malformed.
        """
        if self._act is None:
            raise BadInput("there is no environment to act in", where=self._name, fix="use a task with an environment")
        return await self._act(action, after)

    def log(self, kind: str, payload: Any) -> str:
        """Journal plain data as an effect that costs nothing, once, however often it is rerun.

        Different data of the same kind has another key.

        Returns:
            The effect's key.
        """
        number = self._occurrences[kind]
        self._occurrences[kind] += 1
        key = content_hash(kind, self.policy, self._problem.id, f"{self._name}#{number}", payload)
        if self._log:
            self._log(key, kind, {"problem": self._problem.id, "policy": self.policy, **payload})
        return key

    async def _send(self, request: JournaledRequest) -> Attempt:
        """Sample a request: the next among the equal ones of this call."""
        number = self._occurrences[request.content_key]
        self._occurrences[request.content_key] += 1
        place = len(self._attempts)
        self._attempts.append(None)
        attempt = await self._sample(replace(request, occurrence=f"{self._name}#{number}"))
        self.tokens += attempt.num_tokens
        self._attempts[place] = attempt
        return attempt


def top_key(top_logprobs: int | None) -> tuple[int, ...]:
    """What a request's key holds of `top_logprobs`: nothing where none are asked for.

    Raises:
        BadInput: it is negative.
    """
    if top_logprobs is not None and top_logprobs < 0:
        what = f"top_logprobs must be ≥ 0, got {top_logprobs}"
        raise BadInput(what, where="top_logprobs", fix="use 0 for entropies without tokens")
    return () if top_logprobs is None else (top_logprobs,)


def _sampling_key(how: Sampling) -> tuple[Any, ...]:
    return (float(how.temperature), float(how.top_p), int(how.top_k), int(how.max_tokens)), how.stop


def _parent_key(attempt: Attempt | None) -> list[str] | None:
    """What a request's key holds of its parent: its text too, which another answer may replace."""
    return [attempt.id, content_hash(attempt.text, attempt.stop_text)] if attempt else None


@lru_cache(maxsize=8192)
def _hash(prompt: Prompt) -> str:
    """Hash of a prompt, computed once for the many samples that share it."""
    return content_hash(prompt)
