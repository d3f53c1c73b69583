"""Send requests to an endpoint: within its limits, with retries, without the fields that it does not accept."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, TypeVar

from selftaught.engines.base import Accounts, Request, RequestRefused
from selftaught.engines.openai.answers import Answer, read_answer
from selftaught.engines.openai.endpoint import Endpoint, HttpClient
from selftaught.engines.openai.failure_tracker import stop_error
from selftaught.engines.openai.limits import CostTracker, Limits, RateLimiter
from selftaught.engines.openai.protocol import (
    PREFIX_SERVERS,
    ConnectionFailed,
    PermanentError,
    TransientError,
    UnsupportedField,
    error_from_status,
    max_token_usage,
    request_body,
    same_model,
    server_name,
)
from selftaught.engines.openai.request_gate import RequestGate
from selftaught.errors import BadInput
from selftaught.models.remote import URL_VARIABLE
from selftaught.records import content_hash

T = TypeVar("T")

INITIAL_BACKOFF, MAX_BACKOFF = 0.5, 60.0  # seconds before the second try, doubled for each further one
MAX_RETRY_AFTER = 300.0  # seconds; if the endpoint asks for a longer wait, the run ends and can be started again
RETRY_FIX = "run the same command again later: what is paid for is kept"


class NoAccounts:
    """Books nothing."""

    def book(self, request: int, prompt: int, completion: int) -> None:
        """Nothing."""

    def release(self, request: int) -> None:
        """Nothing."""

    def lose(self, request: int) -> None:
        """Nothing."""


class Unbilled(Exception):
    """A request failed, and costs nothing.

    Attributes:
        cause: the failure.
    """

    def __init__(self, cause: Exception) -> None:
        super().__init__(str(cause))
        self.cause = cause


class RequestSender:
    """Sends requests to one endpoint. For one event loop.

    Args:
        max_tries: how often a request is sent before its failure counts as permanent.

    Attributes:
        costs: money spent and reserved.
        accounts: where each request is booked before it is sent.
        num_retries: how many times a request was sent again.
    """

    def __init__(
        self, endpoint: Endpoint, client: HttpClient, limits: Limits, gate: RequestGate, max_tries: int
    ) -> None:
        self._endpoint, self._client, self._limits, self._gate = endpoint, client, limits, gate
        self._max_tries = max_tries
        self.accounts: Accounts = NoAccounts()
        self._rate_limiter, self.costs = RateLimiter(limits), CostTracker(limits)
        self.num_retries = 0
        self._identifying = asyncio.Lock()
        self._server_name: str | None = None
        self._model_names: dict[str, str] = {}
        self._omitted_fields = frozenset({"logprobs"}) if endpoint.logprobs is False else frozenset[str]()

    async def answer(self, model: str, request: Request) -> Answer:
        """The endpoint's answer.

        Raises:
            BadInput: see `OpenAIEngine.sample`, and so for the following.
            RequestRefused: the endpoint does not accept the request.
            RequestFailed: it failed at the request.
        """
        async with self._identifying:
            if self._server_name is None:
                self._server_name = await self._identify_server()
        request = self._with_text_prefix(request)
        await self._gate.wait_while_suspected()
        while True:
            if self._endpoint.logprobs and "logprobs" in self._omitted_fields:
                raise RequestRefused("the endpoint gives no log-probabilities")
            try:
                answer = await self._with_retries(lambda: self._send_once(model, request))
            except UnsupportedField as refused:
                self._omitted_fields |= {refused.args[0]}
                continue
            except PermanentError as failure:
                raise self._gate.failures.classify(failure, request) from None
            self._gate.failures.record_answer()
            if self._endpoint.logprobs and answer.logprobs is None:
                self._omitted_fields |= {"logprobs"}
                self.accounts.lose(request.seed)
                continue
            return answer

    def _with_text_prefix(self, request: Request) -> Request:
        """The request with all that it continues in `prefix`."""
        supported = self._endpoint.continue_final_message
        if request.top_logprobs is not None or any(isinstance(piece, int) for piece in request.prefix_tokens):
            raise RequestRefused("an endpoint continues text, not tokens, and returns no top log-probabilities")
        if request.prefix_tokens:
            prefix = request.prefix + "".join(map(str, request.prefix_tokens))
            request = replace(request, prefix=prefix, prefix_tokens=())
        if request.prefix and not (self._server_name in PREFIX_SERVERS if supported is None else supported):
            raise RequestRefused("the endpoint does not say that it continues a message, which a prefix needs")
        return request

    # --- retries ---

    async def _with_retries(self, send: Callable[[], Awaitable[T]]) -> T:
        """Await `send()`, again while its failures are transient."""
        tried = 0
        while True:
            try:
                return await send()
            except TransientError as error:
                tried += 1
                wait = self._retry_delay(error, tried)
            if self._gate.stop_error is not None:
                raise self._gate.stop_error
            await asyncio.sleep(wait)
            self.num_retries += 1

    def _retry_delay(self, error: TransientError, tried: int) -> float:
        """Seconds until the next try; all requests wait if the endpoint asks for it.

        A random part keeps requests that failed together from being retried together.
        """
        where = self._endpoint.url
        if isinstance(error, ConnectionFailed) and not self._client.connected:
            raise BadInput(str(error), where=where, fix=f"start the server, or correct {URL_VARIABLE}") from None
        if tried >= min(self._max_tries, error.max_tries or self._max_tries):
            raise self._give_up(error, tried) from None
        if (error.retry_after or 0.0) > MAX_RETRY_AFTER:
            what = f"{error}, and asks to wait for {error.retry_after:,.0f} s"
            raise BadInput(what, where=where, fix=RETRY_FIX) from None
        if error.retry_after is not None:
            self._rate_limiter.pause(error.retry_after)
            return error.retry_after + random.uniform(0, INITIAL_BACKOFF)
        return random.uniform(0.5, 1.0) * min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** (tried - 1))

    def _give_up(self, error: TransientError, tried: int) -> Exception:
        what, where = f"{error}, and so for {tried} tries", self._endpoint.url
        if isinstance(error, ConnectionFailed):
            return BadInput(what, where=where, fix=RETRY_FIX)
        stop_after = 2 if error.max_tries is None else 3
        return PermanentError(
            what, where=where, fix=RETRY_FIX, server_failed=True, stop_after=stop_after, until_first_answer=False
        )

    # --- the server ---

    async def _identify_server(self) -> str:
        try:
            return await self._with_retries(self._query_server_name)
        except PermanentError as failure:
            raise stop_error(failure) from None

    async def _query_server_name(self) -> str:
        """What the server calls itself in its list of models; empty if it has no list or gives no name."""
        await self._rate_limiter.acquire(0)
        got = await self._client.fetch("GET", "/models")
        if got.status == 200:
            return server_name(got.text)
        error = error_from_status(got.status, got.headers, got.text, key=self._endpoint.api_key, body={})
        if isinstance(error, TransientError) or got.status == 401:
            raise error
        return ""

    async def _send_once(self, model: str, request: Request) -> Answer:
        """Send a request once, within the limits."""
        body = request_body(model, request, server=self._server_name or "", omit=self._omitted_fields)
        prompt, completion = max_token_usage(request)
        reservation = await self.costs.reserve(prompt, completion)
        try:
            usage = await self._rate_limiter.acquire(prompt + completion)
            reservation.cost = reservation.max_cost  # until it is known: a lost answer may be billed
            self.accounts.book(request.seed, prompt, completion)
            answer = await self._answer_to(request, body)
            reservation.cost = self._limits.cost(answer.prompt_tokens, answer.completion_tokens)
            usage.amount = answer.prompt_tokens + answer.completion_tokens
            self._check_model_name(model, answer.model)
        except Unbilled as error:
            reservation.cost = 0.0
            self.accounts.release(request.seed)
            raise error.cause from None
        except BaseException:  # also where it is cancelled
            self.accounts.lose(request.seed)
            raise
        finally:
            self.costs.settle(reservation)
        return answer

    async def _answer_to(self, request: Request, body: dict[str, Any]) -> Answer:
        """The answer to one request.

        Raises:
            Unbilled: there is none, and it costs nothing.
            Exception: there is none, and it may be billed.
        """
        key = self._endpoint.api_key
        try:
            with self._gate.sending():
                got = await self._client.fetch("POST", "/chat/completions", body, key=content_hash(request.seed, body))
        except TransientError as error:
            raise (error if error.billed else Unbilled(error)) from None
        if got.status != 200:
            error = error_from_status(got.status, got.headers, got.text, key=key, body=body)
            raise error if isinstance(error, TransientError) and error.billed else Unbilled(error)
        answer = read_answer(got.text, request, key=key)
        return answer if got.valid_utf8 else replace(answer, replaced=True)

    def _check_model_name(self, requested: str, answered: str) -> None:
        """Refuse answers of a model other than the one requested, and answers of two models in one run."""
        shown, where = self._endpoint.api_key.redact(answered), self._endpoint.url
        if not same_model(requested, answered) and answered != self._endpoint.served_model_name:
            fix = f"request openai:{shown}, or accept this name with --served-model-name {shown}"
            raise BadInput(f"it answers with model {shown!r} when asked for {requested!r}", where=where, fix=fix)
        if (known := self._model_names.setdefault(requested, answered)) != answered:
            what = f"{requested!r} was {known!r} so far and is {shown!r} now"
            raise BadInput(what, where=where, fix="name the one you mean, and use a new run folder")
