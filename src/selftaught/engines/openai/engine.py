"""The engine for models behind an endpoint that speaks OpenAI's protocol: OpenAI, vLLM, SGLang, llama.cpp, ..."""

from __future__ import annotations

import asyncio
import json
import os
import random
import threading
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from selftaught.engines.base import EngineError, Request, RequestRefused, Sample, validate_request
from selftaught.engines.busy import BusyTimer
from selftaught.engines.loop import stop_loop_thread
from selftaught.engines.openai.answers import MALFORMED_TRIES, Answer, read_answer
from selftaught.engines.openai.failure_tracker import FailureTracker, stop_error
from selftaught.engines.openai.limits import CostTracker, Limits, RateLimiter
from selftaught.engines.openai.protocol import (
    PREFIX_SERVERS,
    ApiKey,
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
from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.models.remote import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, base_url, remote_policy
from selftaught.records import Prompt

if TYPE_CHECKING:
    import httpx2

__all__ = ["ApiKey", "Endpoint", "Limits", "OpenAIEngine"]

T = TypeVar("T")

CONNECT_SECONDS = 10.0
INITIAL_BACKOFF, MAX_BACKOFF = (
    0.5,
    60.0,
)  # seconds before the second try, doubled for each further one up to the longest
MAX_RETRY_AFTER = (
    300.0  # most seconds waited because an endpoint says so; longer, and the run is better started again then
)
MAX_RESPONSE_BYTES = 32 << 20  # of one answer, decompressed; the longest ones with log-probabilities take a tenth of it
RETRY_FIX = "run the same command again later: what is paid for is kept"


def _key_from_environment() -> ApiKey:
    return ApiKey(os.environ.get(KEY_VARIABLE, ""))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served, and what is known of the server.

    Attributes:
        url: see `models.remote.base_url`; from `OPENAI_BASE_URL` by default.
        key: from `OPENAI_API_KEY` by default; none is sent where there is none.
        served: the name that the server answers with, where it is another one than it is asked for.
        logprobs: whether to ask for log-probabilities; None: where they are offered; True: a request that
            gets none is refused.
        continues: whether the server continues the last message when asked to (`continue_final_message`);
            None: where it calls itself vLLM or SGLang in its list of models.

    Raises:
        BadInput: no address, or no key for OpenAI's own.
    """

    url: str = field(default_factory=base_url)
    api_key: ApiKey = field(default_factory=_key_from_environment)
    served_model_name: str = ""
    logprobs: bool | None = None
    continue_final_message: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", base_url(self.url))
        if not self.api_key and urlsplit(self.url).hostname == urlsplit(DEFAULT_URL).hostname:
            raise BadInput(
                "there is none",
                where=KEY_VARIABLE,
                fix=f"set it, or {URL_VARIABLE} to the address of an endpoint without",
            )


class OpenAIEngine(BusyTimer):
    """Samples from models behind an endpoint. A thread of its own holds the connections.

    What fails for reasons that may pass (429, 5xx, timeouts, broken connections and answers) is tried again,
    after the time that the endpoint asks for (`Retry-After`) or a random one that doubles from try to try.
    A permanent failure affects only its own request, unless it affects all others as well (see `Standing`): then no
    further one is sent, those under way are answered, and all that wait fail with the reason.
    A policy is sampled only where its version names this endpoint, and only while the endpoint answers with
    the model that it is asked for. Tokens are counted as the endpoint reports them; it tells no token ids,
    and log-probabilities are what it takes them to be. Redirects are not followed.

    Args:
        endpoint: by default that of the environment.
        limits: at a time, a minute, and in money.
        timeout: seconds for one answer, from sending the request to its last byte.
        tries: times a request is sent before its failures are taken for lasting.

    Attributes:
        spent: dollars, as the limits' prices have it. An answer lost on its way counts at its full length.
        retried: how many times a request was sent again.

    Raises:
        BadInput: the HTTP client is not installed, or as `Endpoint`.
    """

    name = "openai"

    def __init__(
        self,
        endpoint: Endpoint | None = None,
        limits: Limits | None = None,
        *,
        timeout: float = 300.0,
        max_tries: int = 8,
    ) -> None:
        if timeout <= 0 or max_tries < 1:
            raise BadInput(f"timeout={timeout}, tries={max_tries}", where="OpenAIEngine", fix="use more than 0")
        self._endpoint, self._limits = endpoint or Endpoint(), limits or Limits()
        self._timeout, self._max_tries = timeout, max_tries
        self._client = _client(self._endpoint.api_key, self._limits.concurrency)
        self._lock = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # The thread's own:
        self._slots, self._identifying = asyncio.Semaphore(self._limits.concurrency), asyncio.Lock()
        self._rate_limiter, self._costs = RateLimiter(self._limits), CostTracker(self._limits)
        self._failures = FailureTracker()
        self._tasks, self._sent, self._started_tasks = (
            set[Any](),
            set[Any](),
            set[Any](),
        )  # tasks: all, in the post, sent once
        self._stop_error: Exception | None = None
        self._task_ended = asyncio.Event()
        self.num_retries = 0
        self._server_name: str | None = None
        self._was_reached = False
        self._model_names: dict[str, str] = {}
        self._omitted_fields = frozenset({"logprobs"}) if self._endpoint.logprobs is False else frozenset[str]()

    @property
    def spent(self) -> float:
        """See `PaidEngine.spent`."""
        return self._costs.spent

    def add_prior_usage(self, prompt_tokens: int, completion_tokens: int) -> None:
        """See `PaidEngine.add_prior_usage`."""
        self._costs.spent += self._limits.cost(prompt_tokens, completion_tokens)
        self._failures.answered_before = completion_tokens > 0

    def cancel_unsent(self, reason: Exception) -> None:
        """See `PaidEngine.cancel_unsent`."""
        with self._lock:
            if self._loop is not None and not self._closed:
                self._loop.call_soon_threadsafe(self._stop_sending, reason)

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """See `Engine.sample`.

        Raises:
            BadInput: the endpoint cannot be used as things stand: not reached, key or model not accepted, cap
                reached, another model than the one asked for, a sampling parameter that it does not support, a
                failure that meets every request. The same request may succeed later.
            RequestRefused: the endpoint does not take this request.
            RequestFailed: the endpoint failed at this request, as often as it was tried.
            EngineError: the engine is closed, or the policy is not one of this endpoint's.
        """
        validate_request(request)
        self._check_policy(policy)
        with self._lock:
            self._check_open()
            future = asyncio.run_coroutine_threadsafe(self._serve(policy, request), self._start_loop())
        found = await asyncio.wrap_future(future)
        if isinstance(found, Exception):
            raise found
        return found

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """Not to be had: the protocol gives log-probabilities of what is sampled only.

        Raises:
            RequestRefused: always.
        """
        del prompt, text
        self._check_open()
        self._check_policy(policy)
        raise RequestRefused("an endpoint gives no log-probabilities of a given text; use an engine that holds weights")

    def _check_policy(self, policy: Policy) -> None:
        url = self._endpoint.url
        if not policy.remote or policy.version != remote_policy(policy.remote, url).version:
            raise EngineError(f"the endpoint {url} does not hold policy {policy.version}")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def _start_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the engine's thread, which runs from the first request on."""
        if self._loop is None:
            self._loop = asyncio.new_event_loop()
            self._thread = threading.Thread(target=self._loop.run_forever, name="selftaught-endpoint", daemon=True)
            self._thread.start()
        return self._loop

    def release(self) -> None:
        """Nothing to give back: the weights are not here."""

    def close(self) -> None:
        """Give up what is under way, which fails with `EngineError`. Closing twice is harmless."""
        with self._lock:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            stop_loop_thread(self._loop, thread, self._shut_down())

    # --- from here on, on the engine's thread ---

    async def _shut_down(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _serve(self, policy: Policy, request: Request) -> Sample | Exception:
        """The sample, or why there is none: handed back, since nobody may be left to raise it to."""
        task = asyncio.current_task()
        self._tasks.add(task)
        try:
            async with self._slots:
                with self._busy():
                    answer = await self._answer(policy.remote, request)
        except asyncio.CancelledError:
            if self._closed:
                return EngineError("the engine was closed")
            if self._stop_error is not None:
                return self._stop_error
            raise
        except BadInput as error:
            self._stop_sending(error)
            return error
        except Exception as error:
            return error
        finally:
            self._forget_task(task)
        logprobs, count = answer.logprobs or (), answer.completion_tokens
        return Sample(
            answer.text, (), logprobs, answer.finish_reason, answer.prompt_tokens, policy.version, num_tokens=count,
            replaced=answer.replaced,
        )  # fmt: skip

    def _stop_sending(self, why: Exception) -> None:
        """Let nothing more of what is asked for be sent. What was sent may be billed, and is waited for."""
        if not self._tasks:
            return
        self._stop_error = self._stop_error or why
        for task in self._tasks - self._sent - {asyncio.current_task()}:
            task.cancel()

    def _forget_task(self, task: Any) -> None:
        self._tasks.discard(task)
        self._started_tasks.discard(task)
        self._task_ended.set()  # wakes those that wait in doubt
        self._task_ended = asyncio.Event()
        if not self._tasks:
            self._stop_error = None
            self._failures.reset()

    async def _wait_while_suspected(self) -> None:
        """Before a request is sent for the first time: wait while it is in doubt whether any would be answered."""
        while self._failures.suspected is not None and self._started_tasks:
            await self._task_ended.wait()
        if self._failures.suspected is not None:
            raise stop_error(self._failures.suspected)
        self._started_tasks.add(asyncio.current_task())

    async def _answer(self, model: str, request: Request) -> Answer:
        """The endpoint's answer, asked without the optional fields that it does not take."""
        async with self._identifying:
            if self._server_name is None:
                self._server_name = await self._identify_server()
        continues = self._endpoint.continue_final_message
        if request.top_logprobs is not None or any(isinstance(piece, int) for piece in request.prefix_tokens):
            raise RequestRefused("an endpoint goes on from text, not from tokens, and names no further tokens")
        if request.prefix_tokens:
            request = replace(request, prefix=request.prefix + "".join(map(str, request.prefix_tokens)), given=())
        if request.prefix and not (self._server_name in PREFIX_SERVERS if continues is None else continues):
            raise RequestRefused("the endpoint does not say that it continues a message, which a prefix needs")
        await self._wait_while_suspected()
        while True:
            if self._endpoint.logprobs and "logprobs" in self._omitted_fields:
                raise RequestRefused("the endpoint gives no log-probabilities")
            try:
                answer = await self._with_retries(lambda: self._send_once(model, request))
            except UnsupportedField as refused:
                self._omitted_fields |= {refused.args[0]}
                continue
            except PermanentError as failure:
                raise self._failures.classify(failure, request) from None
            self._failures.record_answer()
            if self._endpoint.logprobs and answer.logprobs is None:
                self._omitted_fields |= {"logprobs"}
                continue
            return answer

    async def _with_retries(self, once: Callable[[], Awaitable[T]]) -> T:
        """What `once` comes to, tried again while its failures may pass."""
        tried = 0
        while True:
            try:
                return await once()
            except TransientError as trouble:
                tried += 1
                wait = self._retry_delay(trouble, tried)
            if self._stop_error is not None:
                raise self._stop_error
            await asyncio.sleep(wait)
            self.num_retries += 1

    def _retry_delay(self, trouble: TransientError, tried: int) -> float:
        """Seconds to wait before trying again; all requests wait where the endpoint asks for it.

        The random part keeps those that failed together from coming back together.
        """
        where = self._endpoint.url
        if isinstance(trouble, ConnectionFailed) and not self._was_reached:
            raise BadInput(str(trouble), where=where, fix=f"start the server, or mend {URL_VARIABLE}") from None
        if tried >= min(self._max_tries, trouble.max_tries or self._max_tries):
            what, odd = f"{trouble}, and so for {tried} tries", trouble.max_tries is not None
            if isinstance(trouble, ConnectionFailed):
                raise BadInput(what, where=where, fix=RETRY_FIX) from None
            raise PermanentError(
                what,
                where=where,
                fix=RETRY_FIX,
                server_failed=True,
                stop_after=3 if odd else 2,
                until_first_answer=False,
            ) from None
        if (trouble.retry_after or 0.0) > MAX_RETRY_AFTER:
            what = f"{trouble}, and asks to wait for {trouble.retry_after:,.0f} s"
            raise BadInput(what, where=where, fix=RETRY_FIX) from None
        if trouble.retry_after is not None:
            self._rate_limiter.pause(trouble.retry_after)
            return trouble.retry_after + random.uniform(0, INITIAL_BACKOFF)
        return random.uniform(0.5, 1.0) * min(MAX_BACKOFF, INITIAL_BACKOFF * 2 ** (tried - 1))

    async def _identify_server(self) -> str:
        try:
            return await self._with_retries(self._query_server_name)
        except PermanentError as failure:
            raise stop_error(failure) from None

    async def _query_server_name(self) -> str:
        """What the server calls itself in its list of models; empty where it has none or tells nothing."""
        await self._rate_limiter.acquire(0)
        got, body = await self._fetch("GET", "/models")
        text = body.decode("utf-8-sig", "replace")
        if got.status_code == 200:
            return server_name(text)
        trouble = error_from_status(got.status_code, got.headers, text, key=self._endpoint.api_key, body={})
        if isinstance(trouble, TransientError) or got.status_code == 401:
            raise trouble
        return ""

    async def _send_once(self, model: str, request: Request) -> Answer:
        """Send a request once, within the limits."""
        body = request_body(model, request, server=self._server_name or "", omit=self._omitted_fields)
        prompt, completion = max_token_usage(request)
        booking = await self._costs.reserve(prompt, completion)
        try:
            entry = await self._rate_limiter.acquire(prompt + completion)
            booking.cost = booking.max_cost  # until it is known: an answer that is lost may be billed
            got, data = await self._post(body)
            text = data.decode("utf-8-sig", "replace")
            if got.status_code != 200:
                booking.cost = 0.0
                raise error_from_status(got.status_code, got.headers, text, key=self._endpoint.api_key, body=body)
            answer = read_answer(text, request, key=self._endpoint.api_key)
            booking.cost = self._limits.cost(answer.prompt_tokens, answer.completion_tokens)
            entry.amount = answer.prompt_tokens + answer.completion_tokens
        except TransientError as trouble:
            booking.cost = booking.max_cost if trouble.billed else 0.0
            raise
        finally:
            self._costs.settle(booking)
        self._check_model_name(model, answer.model)
        return answer if _is_utf8(data) else replace(answer, replaced=True)

    async def _post(self, body: dict[str, Any]) -> tuple[httpx2.Response, bytes]:
        task = asyncio.current_task()
        self._sent.add(task)
        try:
            return await self._fetch("POST", "/chat/completions", body)
        finally:
            self._sent.discard(task)

    async def _fetch(self, verb: str, path: str, body: dict[str, Any] | None = None) -> tuple[httpx2.Response, bytes]:
        import httpx2

        data = None if body is None else json.dumps(body).encode()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(verb, self._endpoint.url + path, content=data) as got,
            ):
                self._was_reached = True
                return got, await _read_body(got)
        except TimeoutError:
            raise TransientError(f"no answer within {self._timeout:g} s", billed=True) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            why = self._endpoint.api_key.redact(str(error)) or type(error).__name__
            raise ConnectionFailed(f"it cannot be reached ({why})") from None
        except httpx2.RequestError as error:
            raise TransientError(f"the connection broke ({type(error).__name__})", billed=True) from None

    def _check_model_name(self, asked: str, answered: str) -> None:
        """Refuse answers of another model than the one asked for, and one model's answers mixed with another's."""
        shown, where = self._endpoint.api_key.redact(answered), self._endpoint.url
        if not same_model(asked, answered) and answered != self._endpoint.served_model_name:
            fix = f"ask for openai:{shown}, or say that this is the one you mean (served={shown!r}, --served {shown})"
            raise BadInput(f"it answers with model {shown!r} when asked for {asked!r}", where=where, fix=fix)
        if (known := self._model_names.setdefault(asked, answered)) != answered:
            what = f"{asked!r} was {known!r} so far and is {shown!r} now"
            raise BadInput(what, where=where, fix="name the one you mean, and use a new run folder")


def _client(key: ApiKey, connections: int) -> httpx2.AsyncClient:
    try:
        import httpx2
    except ImportError:
        fix = "pip install 'selftaught[openai]'"
        raise BadInput("models behind an endpoint need the package httpx2", where="--model", fix=fix) from None
    return httpx2.AsyncClient(
        headers={"Content-Type": "application/json", **key.headers()},
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=connections),
    )


async def _read_body(got: httpx2.Response) -> bytes:
    """The body of an answer, up to what one may have."""
    body = bytearray()
    async for piece in got.aiter_bytes():
        body += piece
        if len(body) > MAX_RESPONSE_BYTES:
            raise TransientError(
                f"its answer is longer than {MAX_RESPONSE_BYTES >> 20} MiB", billed=True, max_tries=MALFORMED_TRIES
            )
    return bytes(body)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
