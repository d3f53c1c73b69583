"""The engine for models behind an endpoint that speaks OpenAI's protocol: OpenAI, vLLM, SGLang, llama.cpp, ..."""

from __future__ import annotations

import asyncio
import threading

from selftaught.engines.base import (
    Accounts,
    BaseEngine,
    Capabilities,
    EngineError,
    Likelihood,
    Request,
    Sample,
    validate_request,
)
from selftaught.engines.busy_timer import BusyTimer
from selftaught.engines.loop_thread import LoopThread, cancel_other_tasks
from selftaught.engines.openai.answers import Answer
from selftaught.engines.openai.endpoint import Endpoint, HttpClient
from selftaught.engines.openai.limits import Limits
from selftaught.engines.openai.protocol import ApiKey
from selftaught.engines.openai.request_gate import RequestGate
from selftaught.engines.openai.sender import NoAccounts, RequestSender
from selftaught.errors import BadInput
from selftaught.models.policy import Policy, require_weights
from selftaught.models.remote import remote_policy
from selftaught.records import Prompt

__all__ = ["ApiKey", "Endpoint", "Limits", "OpenAIEngine"]


class OpenAIEngine(BusyTimer, BaseEngine):
    """Samples from models behind an endpoint. A thread of its own holds the connections.

    Transient failures (429, 5xx, timeouts, broken connections and answers) are retried after the time that the
    endpoint asks for (`Retry-After`), or after exponential backoff with jitter. A permanent failure affects only its
    own request, unless it affects all others as well (see `FailureTracker`): then no further request is sent, those
    in flight are answered, and all others fail with the reason.
    A policy is sampled only if its version names this endpoint, and only while the endpoint answers with the
    requested model. Tokens are counted as the endpoint reports them; it returns no token ids, and its
    log-probabilities are passed on unchecked. Redirects are not followed.

    Args:
        endpoint: by default that of the environment.
        limits: of concurrency, rate and cost.
        timeout: seconds for one answer, from sending the request to its last byte.
        max_tries: how often a request is sent before its failure counts as permanent.

    Raises:
        BadInput: the HTTP client is not installed, a value is out of range, or as `Endpoint`.
    """

    name = "openai"

    def __init__(
        self, endpoint: Endpoint | None = None, limits: Limits | None = None, *, timeout: float = 300.0,
        max_tries: int = 8,
    ) -> None:  # fmt: skip
        if timeout <= 0 or max_tries < 1:
            what = f"timeout must be > 0 and max_tries ≥ 1, got {timeout} and {max_tries}"
            raise BadInput(what, where="OpenAIEngine", fix="leave them at their defaults")
        self._endpoint, limits = endpoint or Endpoint(), limits or Limits()
        self.capabilities = Capabilities(prefix=self._endpoint.continue_final_message is not False, endpoints=True)
        self._client = HttpClient(self._endpoint, timeout, limits.concurrency)
        self._limits, self._lock, self._closed = limits, threading.Lock(), False
        self._thread = LoopThread("selftaught-endpoint")
        # Used by the thread only:
        self._slots = asyncio.Semaphore(limits.concurrency)
        self._gate = RequestGate()
        self._sender = RequestSender(self._endpoint, self._client, limits, self._gate, max_tries)

    @property
    def spent(self) -> float:
        """See `PaidEngine.spent`; an answer that was lost counts at its maximum length."""
        return self._sender.costs.spent

    @property
    def num_retries(self) -> int:
        """See `Engine`."""
        return self._sender.num_retries

    @property
    def in_flight(self) -> int:
        """See `PaidEngine.in_flight`."""
        return self._gate.num_in_flight

    def add_prior_usage(self, prompt_tokens: int, completion_tokens: int, *, answered: bool = True) -> None:
        """See `PaidEngine.add_prior_usage`."""
        self._sender.costs.spent += self._limits.cost(prompt_tokens, completion_tokens)
        self._gate.failures.answered_before |= answered and completion_tokens > 0

    def keep_accounts(self, accounts: Accounts | None) -> None:
        """See `PaidEngine.keep_accounts`."""
        if accounts is not None and not isinstance(self._sender.accounts, NoAccounts):
            fix = "give each run an engine of its own, or close the other run first"
            raise BadInput("the engine keeps the accounts of another run", where="engine", fix=fix)
        self._sender.accounts = accounts or NoAccounts()

    def cancel_unsent(self, reason: BaseException) -> None:
        """See `PaidEngine.cancel_unsent`."""
        with self._lock:
            if (loop := self._thread.loop) is not None and not self._closed:
                loop.call_soon_threadsafe(self._gate.stop, reason)

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`.

        Raises:
            BadInput: the endpoint cannot be used as configured: it cannot be reached, rejects the key or the model,
                answers with another model, does not support a sampling parameter, would exceed the cost limit, or
                fails at every request. The same request may succeed later.
            RequestRefused: the endpoint does not accept this request.
            RequestFailed: the endpoint failed at this request in every try.
            EngineError: the engine is closed, or the policy is not one of this endpoint's.
        """
        validate_request(request)
        self._check_policy(policy)
        with self._lock:
            self._check_open()
            future = asyncio.run_coroutine_threadsafe(self._serve(policy, request), self._thread.start())
        found = await asyncio.wrap_future(future)
        if isinstance(found, BaseException):
            raise found
        return found

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """Not supported: the protocol returns log-probabilities of sampled tokens only.

        Raises:
            RequestRefused: always.
        """
        self._check_open()
        self._check_policy(policy)
        return await super().loglikelihood(policy, prompt, text)

    def _check_policy(self, policy: Policy) -> None:
        require_weights(policy)
        url = self._endpoint.url
        if not policy.remote or policy.version != remote_policy(policy.remote, url).version:
            raise EngineError(f"the endpoint {url} does not hold policy {policy.version}")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def close(self) -> None:
        """Cancel what is in progress, which fails with `EngineError`. Idempotent."""
        with self._lock:
            self._closed = True
        self._thread.stop(self._shut_down())

    # --- from here on, on the engine's thread ---

    async def _shut_down(self) -> None:
        await cancel_other_tasks()
        await self._client.close()

    async def _serve(self, policy: Policy, request: Request) -> Sample | BaseException:
        """The sample, or why there is none: returned, since the caller may be gone."""
        with self._gate.request():
            try:
                async with self._slots:
                    with self._busy():
                        return _sample(policy, await self._sender.answer(policy.remote, request))
            except asyncio.CancelledError:
                if self._closed:
                    return EngineError("the engine was closed")
                if self._gate.stop_error is not None:
                    return self._gate.stop_error
                raise
            except BadInput as error:
                self._gate.stop(error)
                return error
            except Exception as error:
                return error


def _sample(policy: Policy, answer: Answer) -> Sample:
    return Sample(
        answer.text, (), answer.logprobs or (), answer.finish_reason, answer.prompt_tokens, policy.version,
        num_tokens=answer.completion_tokens, replaced=answer.replaced,
    )  # fmt: skip
