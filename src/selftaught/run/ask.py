"""`ask`: what a solver samples the policy with."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from selftaught.engines import Request, Sampling
from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.records import Attempt, Message, Problem, Prompt, Record, as_prompt, content_hash
from selftaught.run.ask_reading import AskEffects, AskReading
from selftaught.run.requests import JournaledRequest
from selftaught.run.settings import override
from selftaught.tasks import Task

if TYPE_CHECKING:
    from selftaught.learn import Objective


class Ask(AskReading):
    """Samples one policy during one call of a solver on one problem.

    The same request to the same policy made again is a new sample; its place among the equal requests of this call is
    part of its key, so that a rerun finds it regardless of concurrent requests. Equal requests to one policy from
    concurrent branches are exchangeable: they are numbered in the order in which they are asked.

    Attributes:
        tokens: sampled so far in this call, and trained (`tuned`).
        attempts: all attempts sampled so far in this call, in the order they were requested.
        with_turn: see `Task.turn`.
        steps: how the task's answers are split into steps.
        policy: version of the policy that is sampled.
    """

    def __init__(
        self, effects: AskEffects, policy: Policy, problem: Problem, sampling: Sampling, name: str, task: Task, *,
        top_logprobs: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__(effects, policy, problem, sampling, name, task)
        self._top = top_logprobs
        self._occurrences: Counter[str | tuple[str, str]] = Counter()  # by kind, or by policy and request
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
        if parent:
            content = content_hash(_hash(messages), *_sampling_key(how), role, prefix, _parent_key(parent), *top)
        else:
            content = _first_content(messages, _sampling_key(how), role, prefix, top)
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

        A task whose model knows `phrase` within an answer (`Task.inline`) puts it after the last whole step of the
        reasoning: a step that was cut off and the final answer are taken back, and sampled anew. A task with its own
        wording for `phrase` as a turn puts it as a user's turn after `attempt`; the new attempt is then the answer to
        that turn alone.

        Args:
            phrase: name of the sentence among the task's phrases ("reflect").
            text: the sentence in English, with the white space around it.
            how: see `continue_from`.
        """
        if attempt.failed:
            return attempt
        if own := self._task.inline.get(phrase):
            reasoning = self.steps.reasoning(attempt.text + attempt.stop_text)
            return await self.continue_from(cut_back(attempt, reasoning), own if reasoning else "", **how)
        if phrase not in self._task.phrases:
            return await self.continue_from(attempt, text, **how)
        history = (*attempt.prompt, Message("assistant", attempt.text))
        return await self(self.with_turn(history, phrase, text), parent=attempt, **how)

    async def sample(self, prompt: Any, samples: int, **how: Any) -> list[Attempt]:
        """Sample several independent answers to `prompt` concurrently; for `how` see `__call__`."""
        return list(await asyncio.gather(*(self(prompt, **how) for _ in range(samples))))

    async def tuned(
        self, records: Sequence[Record], objective: Objective, steps: int, *, policy: Policy | None = None,
        **training: Any,
    ) -> Policy:  # fmt: skip
        """Train weights for this answer alone: test-time training, on any split, as no verdict is seen.

        Sample the policy by `ask(..., policy=tuned)`. Its weights are deleted when the solver returns; a run refuses
        it as champion, base of a training, measured policy or result. Training counts as trained tokens.

        Args:
            records: what to learn from; not of another dev or test problem.
            objective: such as `learn.sft()`.
            steps: optimizer steps; the records are cycled through.
            policy: where to start, if not from the policy that solves.
            training: fields of `TrainConfig` to change, without `epochs`.

        Raises:
            BadInput: there are no records, one is of another dev or test problem, an option is wrong, or the model is
                behind an endpoint.
            TrainingFailed: the loss became NaN or infinite.
        """
        if self._effects.tune is None:
            raise BadInput("weights are tuned in runs only", where=self._name, fix="solve by run.attempt or eval")
        made, tokens = await self._effects.tune(policy, objective, records, steps, training)
        self.tokens += tokens
        return made

    def log(self, kind: str, payload: Any) -> str:
        """Journal plain data as an effect that costs nothing, once, however often it is rerun.

        Different data of the same kind has another key.

        Returns:
            The effect's key.
        """
        number = self._occurrences[kind]
        self._occurrences[kind] += 1
        key = content_hash(kind, self.policy, self._problem.id, f"{self._name}#{number}", payload)
        self._effects.log(key, kind, {"problem": self._problem.id, "policy": self.policy, **payload})
        return key

    async def _send(self, request: JournaledRequest) -> Attempt:
        """Sample a request: the next among the equal ones to its policy in this call."""
        same = request.policy.version, request.content_key
        number = self._occurrences[same]
        self._occurrences[same] += 1
        place = len(self._attempts)
        self._attempts.append(None)
        attempt = await self._effects.sample(replace(request, occurrence=f"{self._name}#{number}"))
        self.tokens += attempt.num_tokens
        self._attempts[place] = attempt
        return attempt


def cut_back(attempt: Attempt, text: str) -> Attempt:
    """An attempt as if it had ended after `text`, the beginning of its own, for `Ask.continue_from`."""
    sample = replace(attempt.sample, text=text, token_ids=(), logprobs=(), finish_reason="unfinished", stop_text="")
    return replace(attempt, text=text, sample=sample, prefix_tokens=(), prefix_chars=0)


def top_key(top_logprobs: int | None) -> tuple[int, ...]:
    """What a request's key holds of `top_logprobs`: nothing where none are asked for.

    Raises:
        BadInput: it is negative, or no whole number.
    """
    if top_logprobs is not None and (isinstance(top_logprobs, bool) or not isinstance(top_logprobs, int)):
        what = f"top_logprobs must be a whole number, got {top_logprobs!r:.60}"
        raise BadInput(what, where="top_logprobs", fix="write the number of tokens, such as 5")
    if top_logprobs is not None and top_logprobs < 0:
        what = f"top_logprobs must be ≥ 0, got {top_logprobs}"
        raise BadInput(what, where="top_logprobs", fix="use 0 for entropies without tokens")
    return () if top_logprobs is None else (top_logprobs,)


def _sampling_key(how: Sampling) -> tuple[Any, ...]:
    return (float(how.temperature), float(how.top_p), int(how.top_k), int(how.max_tokens)), how.stop


@lru_cache(maxsize=256)
def _first_content(messages: Prompt, how: tuple[Any, ...], role: str, prefix: str, top: tuple[int, ...]) -> str:
    """The content key of a request without a parent, computed once for the many samples that share it."""
    return content_hash(_hash(messages), *how, role, prefix, None, *top)


def _parent_key(attempt: Attempt) -> list[str]:
    """What a request's key holds of its parent: its text too, which another answer may replace."""
    return [attempt.id, content_hash(attempt.text, attempt.stop_text)]


@lru_cache(maxsize=8192)
def _hash(prompt: Prompt) -> str:
    """Hash of a prompt, computed once for the many samples that share it."""
    return content_hash(prompt)
