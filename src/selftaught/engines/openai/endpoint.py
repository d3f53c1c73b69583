"""An endpoint: its address, its key, and HTTP requests to it."""

from __future__ import annotations

import asyncio
import json
import os
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from selftaught.engines.openai.answers import MALFORMED_TRIES
from selftaught.engines.openai.protocol import ApiKey, ConnectionFailed, TransientError
from selftaught.errors import BadInput
from selftaught.models.remote import DEFAULT_URL, KEY_VARIABLE, URL_VARIABLE, base_url

if TYPE_CHECKING:
    import httpx2

CONNECT_SECONDS = 10.0
MAX_RESPONSE_BYTES = 32 << 20  # decompressed; the longest answers with log-probabilities take a tenth of it


def _key_from_environment() -> ApiKey:
    return ApiKey(os.environ.get(KEY_VARIABLE, ""))


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a model is served, and what is known of the server.

    Attributes:
        url: see `models.remote.base_url`; from `OPENAI_BASE_URL` by default.
        api_key: from `OPENAI_API_KEY` by default; may be empty.
        served_model_name: the name that the server answers with, if not the one requested.
        logprobs: whether to request log-probabilities; None: if the endpoint offers them; True: refuse a request
            that gets none.
        continue_final_message: whether the server continues the last message on request; None: if it calls itself
            vLLM or SGLang in its list of models.

    Raises:
        BadInput: a bad address, or no key for OpenAI's own endpoint.
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
                fix=f"set it, or set {URL_VARIABLE} to an endpoint that needs no key",
            )


@dataclass(frozen=True, slots=True)
class Response:
    """A response of the endpoint: its body as bytes, and as text with invalid bytes replaced."""

    status: int
    headers: Any
    data: bytes

    @property
    def text(self) -> str:
        """The body decoded as UTF-8; U+FFFD for what is not."""
        return self.data.decode("utf-8-sig", "replace")

    @property
    def valid_utf8(self) -> bool:
        """Whether the body is valid UTF-8."""
        try:
            self.data.decode()
        except UnicodeDecodeError:
            return False
        return True


class HttpClient:
    """HTTP connections to an endpoint. Redirects are not followed.

    Args:
        timeout: seconds for one response, from sending the request to its last byte.
        connections: how many to keep open.

    Attributes:
        connected: whether the endpoint has responded at least once.

    Raises:
        BadInput: the HTTP client is not installed.
    """

    def __init__(self, endpoint: Endpoint, timeout: float, connections: int) -> None:
        self._endpoint, self._timeout = endpoint, timeout
        self._client = _client(endpoint.api_key, connections)
        self.connected = False

    async def fetch(self, verb: str, path: str, body: dict[str, Any] | None = None, *, key: str = "") -> Response:
        """Send one request.

        Args:
            key: sent as `Idempotency-Key`, which servers without it ignore.

        Raises:
            ConnectionFailed: no connection could be made.
            TransientError: the connection broke, the response took too long, or was too large.
        """
        import httpx2

        data = None if body is None else json.dumps(body).encode()
        headers = {"Idempotency-Key": key} if key else None
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream(verb, self._endpoint.url + path, content=data, headers=headers) as got,
            ):
                self.connected = True
                return Response(got.status_code, got.headers, await _read_body(got))
        except TimeoutError:
            raise TransientError(f"no answer within {self._timeout:g} s", billed=True) from None
        except (httpx2.ConnectError, httpx2.ConnectTimeout, httpx2.ProxyError) as error:
            why = self._endpoint.api_key.redact(str(error)) or type(error).__name__
            raise ConnectionFailed(f"it cannot be reached ({why})") from None
        except httpx2.RequestError as error:
            raise TransientError(f"the connection broke ({type(error).__name__})", billed=True) from None

    async def close(self) -> None:
        """Close all connections."""
        await self._client.aclose()


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
    """The body of a response, up to `MAX_RESPONSE_BYTES`."""
    body = bytearray()
    async for piece in got.aiter_bytes():
        body += piece
        if len(body) > MAX_RESPONSE_BYTES:
            what = f"its answer is longer than {MAX_RESPONSE_BYTES >> 20} MiB"
            raise TransientError(what, billed=True, max_tries=MALFORMED_TRIES)
    return bytes(body)
