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

from selftaught.engines.base import EngineError, Request, RequestRefused, Sample, check_request
from selftaught.engines.busy import Busy
from selftaught.engines.loop import end_loop
from selftaught.engines.openai.answers import FORM_TRIES, Answer, read_answer
from selftaught.engines.openai.limits import Limits, Pace, Spending
from selftaught.engines.openai.protocol import (
    CONTINUES,
    Key,
    Lasting,
    Passing,
    Unreached,
    Unsupported,
    body_of,
    failure,
    most_tokens,
    same_model,
    server_of,
)
from selftaught.engines.openai.standing import Standing, stop
from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.models.remote import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, base_url, remote_policy
from selftaught.records import Prompt

if TYPE_CHECKING:
    import httpx2

__all__ = ["Endpoint", "Key", "Limits", "OpenAIEngine"]

T = TypeVar("T")

CONNECT_SECONDS = 10.0
BACKOFF, LONGEST_BACKOFF = 0.5, 60.0  # seconds before the second try, doubled for each further one up to the longest
PATIENCE = 300.0  # most seconds waited because an endpoint says so; longer, and the run is better started again then
MOST_BYTES = 32 << 20  # of one answer, decompressed; the longest ones with log-probabilities take a tenth of it
AGAIN = "run the same command again later: what is paid for is kept"


def _key_of_environment() -> Key:
    return Key(os.environ.get(KEY_VARIABLE, ""))


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
    key: Key = field(default_factory=_key_of_environment)
    served: str = ""
    logprobs: bool | None = None
    continues: bool | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "url", base_url(self.url))
        if not self.key and urlsplit(self.url).hostname == urlsplit(DEFAULT_URL).hostname:
            raise BadInput(
                "there is none",
                where=KEY_VARIABLE,
                fix=f"set it, or {URL_VARIABLE} to the address of an endpoint without",
            )


class OpenAIEngine(Busy):
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
        self, endpoint: Endpoint | None = None, limits: Limits | None = None, *, timeout: float = 300.0, tries: int = 8
    ) -> None:
        if timeout <= 0 or tries < 1:
            raise BadInput(f"timeout={timeout}, tries={tries}", where="OpenAIEngine", fix="use more than 0")
        self._endpoint, self._limits = endpoint or Endpoint(), limits or Limits()
        self._timeout, self._tries = timeout, tries
        self._client = _client(self._endpoint.key, self._limits.concurrency)
        self._guard = threading.Lock()
        self._closed = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        # The thread's own:
        self._slots, self._asking = asyncio.Semaphore(self._limits.concurrency), asyncio.Lock()
        self._pace, self._spending = Pace(self._limits), Spending(self._limits)
        self._standing = Standing()
        self._here, self._sent, self._begun = set[Any](), set[Any](), set[Any]()  # tasks: all, in the post, sent once
        self._over: Exception | None = None
        self._ended = asyncio.Event()
        self.retried = 0
        self._server: str | None = None
        self._reached = False
        self._names: dict[str, str] = {}
        self._without = frozenset({"logprobs"}) if self._endpoint.logprobs is False else frozenset[str]()

    @property
    def spent(self) -> float:
        """See `Paid.spent`."""
        return self._spending.spent

    def carry_over(self, prompt: int, completion: int) -> None:
        """See `Paid.carry_over`."""
        self._spending.spent += self._limits.dollars(prompt, completion)
        self._standing.before = completion > 0

    def wind_up(self, why: Exception) -> None:
        """See `Paid.wind_up`."""
        with self._guard:
            if self._loop is not None and not self._closed:
                self._loop.call_soon_threadsafe(self._stop, why)

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
        check_request(request)
        self._check(policy)
        with self._guard:
            self._check_open()
            future = asyncio.run_coroutine_threadsafe(self._serve(policy, request), self._started())
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
        self._check(policy)
        raise RequestRefused("an endpoint gives no log-probabilities of a given text; use an engine that holds weights")

    def _check(self, policy: Policy) -> None:
        url = self._endpoint.url
        if not policy.remote or policy.version != remote_policy(policy.remote, url).version:
            raise EngineError(f"the endpoint {url} does not hold policy {policy.version}")

    def _check_open(self) -> None:
        if self._closed:
            raise EngineError("the engine is closed")

    def _started(self) -> asyncio.AbstractEventLoop:
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
        with self._guard:
            self._closed = True
            thread, self._thread = self._thread, None
        if thread is not None and self._loop is not None:
            end_loop(self._loop, thread, self._wind_up())

    # --- from here on, on the engine's thread ---

    async def _wind_up(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await self._client.aclose()

    async def _serve(self, policy: Policy, request: Request) -> Sample | Exception:
        """The sample, or why there is none: handed back, since nobody may be left to raise it to."""
        task = asyncio.current_task()
        self._here.add(task)
        try:
            async with self._slots:
                with self._busy():
                    answer = await self._answer(policy.remote, request)
        except asyncio.CancelledError:
            if self._closed:
                return EngineError("the engine was closed")
            if self._over is not None:
                return self._over
            raise
        except BadInput as error:
            self._stop(error)
            return error
        except Exception as error:
            return error
        finally:
            self._leave(task)
        logprobs, count = answer.logprobs or (), answer.completion_tokens
        return Sample(
            answer.text, (), logprobs, answer.finish_reason, answer.prompt_tokens, policy.version, counted=count,
            replaced=answer.replaced,
        )  # fmt: skip

    def _stop(self, why: Exception) -> None:
        """Let nothing more of what is asked for be sent. What was sent may be billed, and is waited for."""
        if not self._here:
            return
        self._over = self._over or why
        for task in self._here - self._sent - {asyncio.current_task()}:
            task.cancel()

    def _leave(self, task: Any) -> None:
        self._here.discard(task)
        self._begun.discard(task)
        self._ended.set()  # wakes those that wait in doubt
        self._ended = asyncio.Event()
        if not self._here:
            self._over = None
            self._standing.forget()

    async def _begin(self) -> None:
        """Before a request is sent for the first time: wait while it is in doubt whether any would be answered."""
        while self._standing.doubt is not None and self._begun:
            await self._ended.wait()
        if self._standing.doubt is not None:
            raise stop(self._standing.doubt)
        self._begun.add(asyncio.current_task())

    async def _answer(self, model: str, request: Request) -> Answer:
        """The endpoint's answer, asked without the optional fields that it does not take."""
        async with self._asking:
            if self._server is None:
                self._server = await self._recognised()
        continues = self._endpoint.continues
        if request.top is not None or any(isinstance(piece, int) for piece in request.given):
            raise RequestRefused("an endpoint goes on from text, not from tokens, and names no further tokens")
        if request.given:
            request = replace(request, prefix=request.prefix + "".join(map(str, request.given)), given=())
        if request.prefix and not (self._server in CONTINUES if continues is None else continues):
            raise RequestRefused("the endpoint does not say that it continues a message, which a prefix needs")
        await self._begin()
        while True:
            if self._endpoint.logprobs and "logprobs" in self._without:
                raise RequestRefused("the endpoint gives no log-probabilities")
            try:
                answer = await self._retried(lambda: self._once(model, request))
            except Unsupported as refused:
                self._without |= {refused.args[0]}
                continue
            except Lasting as failure:
                raise self._standing.weigh(failure, request) from None
            self._standing.answered()
            if self._endpoint.logprobs and answer.logprobs is None:
                self._without |= {"logprobs"}
                continue
            return answer

    async def _retried(self, once: Callable[[], Awaitable[T]]) -> T:
        """What `once` comes to, tried again while its failures may pass."""
        tried = 0
        while True:
            try:
                return await once()
            except Passing as trouble:
                tried += 1
                wait = self._wait(trouble, tried)
            if self._over is not None:
                raise self._over
            await asyncio.sleep(wait)
            self.retried += 1

    def _wait(self, trouble: Passing, tried: int) -> float:
        """Seconds to wait before trying again; all requests wait where the endpoint asks for it.

        The random part keeps those that failed together from coming back together.
        """
        where = self._endpoint.url
        if isinstance(trouble, Unreached) and not self._reached:
            raise BadInput(str(trouble), where=where, fix=f"start the server, or mend {URL_VARIABLE}") from None
        if tried >= min(self._tries, trouble.most or self._tries):
            what, odd = f"{trouble}, and so for {tried} tries", trouble.most is not None
            if isinstance(trouble, Unreached):
                raise BadInput(what, where=where, fix=AGAIN) from None
            raise Lasting(what, where=where, fix=AGAIN, failed=True, most=3 if odd else 2, early=False) from None
        if (trouble.after or 0.0) > PATIENCE:
            what = f"{trouble}, and asks to wait for {trouble.after:,.0f} s"
            raise BadInput(what, where=where, fix=AGAIN) from None
        if trouble.after is not None:
            self._pace.hold(trouble.after)
            return trouble.after + random.uniform(0, BACKOFF)
        return random.uniform(0.5, 1.0) * min(LONGEST_BACKOFF, BACKOFF * 2 ** (tried - 1))

    async def _recognised(self) -> str:
        try:
            return await self._retried(self._who)
        except Lasting as failure:
            raise stop(failure) from None

    async def _who(self) -> str:
        """What the server calls itself in its list of models; empty where it has none or tells nothing."""
        await self._pace.go(0)
        got, body = await self._fetch("GET", "/models")
        text = body.decode("utf-8-sig", "replace")
        if got.status_code == 200:
            return server_of(text)
        trouble = failure(got.status_code, got.headers, text, key=self._endpoint.key, body={})
        if isinstance(trouble, Passing) or got.status_code == 401:
            raise trouble
        return ""

    async def _once(self, model: str, request: Request) -> Answer:
        """Send a request once, within the limits."""
        body = body_of(model, request, server=self._server or "", without=self._without)
        prompt, completion = most_tokens(request)
        booking = await self._spending.book(prompt, completion)
        try:
            entry = await self._pace.go(prompt + completion)
            booking.cost = booking.most  # until it is known: an answer that is lost may be billed
            got, data = await self._post(body)
            text = data.decode("utf-8-sig", "replace")
            if got.status_code != 200:
                booking.cost = 0.0
                raise failure(got.status_code, got.headers, text, key=self._endpoint.key, body=body)
            answer = read_answer(text, request, key=self._endpoint.key)
            booking.cost = self._limits.dollars(answer.prompt_tokens, answer.completion_tokens)
            entry.amount = answer.prompt_tokens + answer.completion_tokens
        except Passing as trouble:
            booking.cost = booking.most if trouble.billed else 0.0
            raise
        finally:
            self._spending.settle(booking)
        self._check_name(model, answer.model)
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
                self._reached = True
                return got, await _read(got)
        except TimeoutError:
            raise Passing(f"no answer within {self._timeout:g} s", billed=True) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            why = self._endpoint.key.hidden(str(error)) or type(error).__name__
            raise Unreached(f"it cannot be reached ({why})") from None
        except httpx2.RequestError as error:
            raise Passing(f"the connection broke ({type(error).__name__})", billed=True) from None

    def _check_name(self, asked: str, answered: str) -> None:
        """Refuse answers of another model than the one asked for, and one model's answers mixed with another's."""
        shown, where = self._endpoint.key.hidden(answered), self._endpoint.url
        if not same_model(asked, answered) and answered != self._endpoint.served:
            fix = f"ask for openai:{shown}, or say that this is the one you mean (served={shown!r}, --served {shown})"
            raise BadInput(f"it answers with model {shown!r} when asked for {asked!r}", where=where, fix=fix)
        if (known := self._names.setdefault(asked, answered)) != answered:
            what = f"{asked!r} was {known!r} so far and is {shown!r} now"
            raise BadInput(what, where=where, fix="name the one you mean, and use a new run folder")


def _client(key: Key, connections: int) -> httpx2.AsyncClient:
    try:
        import httpx2
    except ImportError:
        fix = "pip install 'selftaught[openai]'"
        raise BadInput("models behind an endpoint need the package httpx2", where="--model", fix=fix) from None
    return httpx2.AsyncClient(
        headers={"Content-Type": "application/json", **key.header()},
        timeout=httpx2.Timeout(None, connect=CONNECT_SECONDS),
        limits=httpx2.Limits(max_connections=None, max_keepalive_connections=connections),
    )


async def _read(got: httpx2.Response) -> bytes:
    """The body of an answer, up to what one may have."""
    body = bytearray()
    async for piece in got.aiter_bytes():
        body += piece
        if len(body) > MOST_BYTES:
            raise Passing(f"its answer is longer than {MOST_BYTES >> 20} MiB", billed=True, most=FORM_TRIES)
    return bytes(body)


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
