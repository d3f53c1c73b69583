"""Samples and log-likelihoods through the journal: found there, or asked of the engine and kept."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Hashable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache, partial
from typing import Any

from selftaught.engines import Engine, Likelihood, Request, RequestRefused, Sampling
from selftaught.engines.base import RequestFailed
from selftaught.errors import BadInput
from selftaught.journal import Journal, Ledger, Usage
from selftaught.models import Policy
from selftaught.packed_numbers import pack_decimals, unpack
from selftaught.records import Attempt, Feedback, Problem, Prompt, as_json, content_hash
from selftaught.run.background import SharedTasks
from selftaught.run.counts import RequestCounts
from selftaught.run.kept_samples import NO_ANSWER, from_payload, is_failure, no_answer, readable, to_payload
from selftaught.run.solver import JUDGE_ROLES
from selftaught.run.sources import Beside, sample_of, seed_of
from selftaught.tasks import Task

Pay = Callable[[], Coroutine[Any, Any, tuple[dict[str, Any], Usage]]]


@dataclass(frozen=True, slots=True)
class JournaledRequest:
    """One request to the engine, and what its journal entry is keyed by.

    Attributes:
        request: what the engine gets, but for the seed, which comes of the key.
        content_key: hash of all that the engine and the reader of the answer see: prompt, sampling, prefix, role,
            parent, and injected text.
        occurrence: the solver call that asks, and the place of this request among its equal ones to the same policy.
        prefix_text: the text that the answer continues.
        injected_text: the end of `prefix_text`, where no model wrote it.
    """

    policy: Policy
    problem: Problem
    request: Request
    role: str
    parent: Attempt | None
    content_key: str
    occurrence: str = ""
    prefix_text: str = ""
    injected_text: str = ""

    def key(self, seed: int) -> str:
        """Content key of the effect: policy, problem, request, seed, occurrence."""
        return content_hash("sample", self.policy.version, self.problem.id, self.content_key, seed, self.occurrence)

    def payload(self) -> dict[str, Any]:
        """What the journal keeps of the request."""
        parent = self.parent.id if self.parent else None
        found = {"problem": self.problem.id, "policy": self.policy.version, "role": self.role, "parent": parent}
        found["sampling"] = _as_json(self.request.sampling)
        prefix = {"prefix_chars": len(self.prefix_text), "injected": self.injected_text}
        return found | (prefix if self.prefix_text else {})

    def is_failure(self, payload: Any) -> bool:
        """See `kept_samples.is_failure`."""
        prefixed = bool(self.request.prefix or self.request.prefix_tokens)
        return is_failure(payload, self.request.sampling, remote=bool(self.policy.remote), prefixed=prefixed)


@dataclass(slots=True)
class JournaledEngine:
    """Samples an engine through the journal.

    Attributes:
        engine: where tokens come from.
        beside: the engine of a teacher behind an endpoint, if the first cannot sample it.
        task: extracts answers.
        journal: where effects are looked up and kept.
        ledger: where their cost is counted.
        counts: what became of the requests.
        seed: of sampling.
        model_input: `(policy, prompt)` -> the policy whose weights the engine samples, and the messages they read.
        failure: set while a batch is given up: nothing further is paid for.
        refusals: requests without an answer, by key; not journaled, so another start asks again.
        make_ready: makes the weights of a temporary policy, wherever they are about to be read.
    """

    engine: Engine
    task: Task
    journal: Journal
    ledger: Ledger
    counts: RequestCounts
    seed: int
    model_input: Callable[[Policy, Prompt], tuple[Policy, Prompt]]
    failure: BaseException | None = None
    refusals: dict[str, RequestRefused] = field(default_factory=dict)
    make_ready: Callable[[Policy], Awaitable[None]] | None = None
    beside: Beside = field(default_factory=Beside)
    _share: SharedTasks = field(default_factory=SharedTasks)

    async def sample(self, asked: JournaledRequest) -> Attempt:
        """One attempt; where the request is refused or fails, an attempt that says so.

        Raises:
            BadInput: the engine has no `Request.top_logprobs`, which are asked for.
        """
        if asked.request.top_logprobs is not None:
            self.require("top_logprobs", "it returns no token distributions")
        key = asked.key(self.seed)
        try:
            if key in self.refusals:
                raise self.refusals[key]
            found = self.journal.get(key)
            if found is None or asked.is_failure(found[0]):
                found = await self._share(key, lambda failed=found: self._pay(key, asked, failed))
            payload, usage = found
        except RequestRefused as error:
            self._note_refusal(key, error)
            return self._attempt(key, asked, NO_ANSWER, feedback=no_answer(error, self.engine.name))
        attempt = self._attempt(key, asked, payload, usage.prompt)
        self._count(attempt, asked, payload, usage)
        return attempt

    async def nll(self, policy: Policy, attempt: Attempt) -> float:
        """Negative log-likelihood of an attempt's text, in nats; NaN where the engine refuses to read it.

        Costs prompt tokens, those of its prompt and its text.
        """
        key = content_hash("nll", policy.version, attempt.prompt, attempt.text)
        try:
            payload = await self.effect(key, lambda: self._read(key, policy, attempt))
        except RequestRefused:
            return math.nan
        with readable("likelihood", key, self.journal.path):
            return float(payload["nats"])

    async def effect(self, key: str, pay: Pay, prompt: Hashable = None) -> dict[str, Any]:
        """The payload of an effect that reads text: from the journal, or paid for once.

        Args:
            pay: has the engine read, and journals the result under `key`.
            prompt: who reads what before the text, where the payload has its `prompt_tokens`; see `Ledger.count`.

        Raises:
            RequestRefused: the engine refuses to read it; counted among the refusals.
        """
        try:
            payload, usage = self.journal.get(key) or await self._share(key, pay)
        except RequestRefused as error:
            self._note_refusal(key, error)
            raise
        with readable("reading", key, self.journal.path):
            self.ledger.count(key, usage, prompt=prompt, shared=payload.get("prompt_tokens"))
        return payload

    async def loglikelihood(self, policy: Policy, problem: Problem, prompt: Prompt, text: str) -> Likelihood:
        """The likelihood of `text` as the beginning of the answer to `prompt`; NaN where the engine refuses to read it.

        Raises:
            BadInput: the engine cannot score a given text.
        """
        self.require("logprobs", "it cannot score a given text")
        key = content_hash("loglikelihood", policy.version, problem.id, prompt, text)
        try:
            pay = partial(self._score, key, policy, problem, prompt, text)
            payload = await self.effect(key, pay, (policy.version, prompt, ""))
        except RequestRefused:
            return Likelihood((math.nan,))
        with readable("likelihood", key, self.journal.path):
            return Likelihood(unpack(payload["logprobs"]), payload["prompt_tokens"])

    def require(self, capability: str, what: str) -> None:
        """Refuse, before anything is paid, what the engine does not support.

        Raises:
            BadInput: it lacks the capability.
        """
        if not getattr(self.engine.capabilities, capability):
            fix = "use an engine that holds the weights (--engine local)"
            raise BadInput(what, where=f"engine {self.engine.name}", fix=fix)

    async def model_reads(self, policy: Policy, prompt: Prompt) -> tuple[Policy, Prompt]:
        """What `model_input` returns, where the engine is about to be paid, with the weights in place.

        Raises:
            BaseException: `failure`, if the batch is given up.
        """
        if policy.temporary and self.make_ready and self.failure is None:
            await self.make_ready(policy)
        if self.failure is not None:
            raise self.failure
        return self.model_input(policy, prompt)

    def _count(self, attempt: Attempt, asked: JournaledRequest, payload: Mapping[str, Any], usage: Usage) -> None:
        key, sample, sampling = attempt.id, attempt.sample, asked.request.sampling
        size = sample.num_tokens or len(sample.token_ids)
        if sample.finish_reason == "length" and 0 < size < sampling.max_tokens:
            self.counts.context_full.add(key)
        if payload.get("thinking_only") and not sampling.stop:
            self.counts.thinking_only.add(key)
        prompt = (asked.policy.version, asked.request.prompt, asked.prefix_text)
        if self.ledger.count(key, usage, prompt=prompt, cached=min(usage.prompt, self._cached_by_parent(asked))):
            self.counts.add("answered")
            self.counts.add("replaced", payload.get("replaced", False))

    def _cached_by_parent(self, asked: JournaledRequest) -> int:
        """Prompt tokens that the parent's request and answer left in a prefix cache; 0 where it is another text's."""
        parent, prompt = asked.parent, asked.request.prompt
        if parent is None or parent.policy != asked.policy.version or not self.ledger.counted(parent.id):
            return 0
        if prompt == parent.prompt:  # the answer goes on, or again from the middle
            own = asked.prefix_text.removesuffix(asked.injected_text)
            follows = bool(own) and (own.startswith(parent.text) or parent.text.startswith(own))
        else:
            turn = len(parent.prompt)
            follows = prompt[:turn] == parent.prompt and prompt[turn : turn + 1] == (("assistant", parent.text),)
        return parent.sample.prompt_tokens + parent.num_tokens if follows else 0

    def _note_refusal(self, key: str, error: RequestRefused) -> None:
        if key not in self.refusals:
            self.refusals[key] = error
            self.counts.add("failed" if isinstance(error, RequestFailed) else "refused", reason=str(error))

    def _attempt(
        self, key: str, asked: JournaledRequest, payload: Mapping[str, Any], prompt_tokens: int = 0,
        feedback: tuple[Feedback, ...] = (),
    ) -> Attempt:  # fmt: skip
        sample = from_payload(payload, asked.policy.version, prompt_tokens, key, self.journal.path)
        request = asked.request
        text = asked.prefix_text + sample.text
        return Attempt(
            id=key,
            problem=asked.problem,
            prompt=request.prompt,
            text=text,
            answer=None if payload is NO_ANSWER else self.task.extract(asked.problem, text),
            sample=sample,
            role=asked.role,
            parent=asked.parent.id if asked.parent else None,
            feedback=feedback,
            prefix_tokens=request.prefix_tokens or ((request.prefix,) if request.prefix else ()),
            prefix_chars=len(asked.prefix_text),
        )

    async def _pay(
        self, key: str, asked: JournaledRequest, failed: tuple[dict[str, Any], Usage] | None
    ) -> tuple[dict[str, Any], Usage]:
        """Sample, and journal the answer. A request without one is not kept: the next start asks again.

        Args:
            failed: what the journal holds in the answer's place.

        Raises:
            RequestRefused: there is no answer.
        """
        sample = await sample_of(self, key, asked)
        payload = asked.payload() | to_payload(sample, asked.prefix_text)
        count, judges = sample.tokens, asked.role in JUDGE_ROLES
        usage = Usage(sample.prompt_tokens, judge=count) if judges else Usage(sample.prompt_tokens, generated=count)
        if failed is None:
            self.journal.put(key, "sample", payload, usage, settles=seed_of(key))
        else:
            usage += failed[1]  # it was paid for, too
            self.journal.replace(key, payload, usage, settles=seed_of(key))
        return payload, usage

    async def _read(self, key: str, policy: Policy, attempt: Attempt) -> tuple[dict[str, Any], Usage]:
        weights, prompt = await self.model_reads(policy, attempt.prompt)
        found = await self.engine.loglikelihood(weights, prompt, attempt.text)
        payload = {"attempt": attempt.id, "policy": policy.version, "nats": round(-sum(found.logprobs), 4)}
        usage = Usage(prompt=found.prompt_tokens + found.num_tokens)
        self.journal.put(key, "nll", payload, usage)
        return payload, usage

    async def _score(
        self, key: str, policy: Policy, problem: Problem, prompt: Prompt, text: str
    ) -> tuple[dict[str, Any], Usage]:
        weights, messages = await self.model_reads(policy, prompt)
        found = await self.engine.loglikelihood(weights, messages, text)
        payload: dict[str, Any] = {"problem": problem.id, "policy": policy.version, "text": text}
        payload |= {"logprobs": pack_decimals(found.logprobs), "prompt_tokens": found.prompt_tokens}
        usage = Usage(prompt=found.prompt_tokens + found.num_tokens)
        self.journal.put(key, "loglikelihood", payload, usage)
        return payload, usage


@lru_cache(maxsize=256)
def _as_json(sampling: Sampling) -> Any:
    return as_json(sampling)
