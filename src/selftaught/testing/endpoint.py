"""An HTTP server on loopback that speaks OpenAI's protocol as a script tells it, to test what runs at endpoints."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

SECRET = "sk-test-0123456789abcdef"  # a key to send


@dataclass(frozen=True)
class Reply:
    """What to answer.

    Attributes:
        body: JSON data, or bytes sent as they are.
        delay: seconds before the first byte.
        drip: seconds between the bytes of the body.
        cut: close the connection without an answer.
    """

    status: int = 200
    body: Any = None
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    drip: float = 0.0
    cut: bool = False


@dataclass(frozen=True)
class Got:
    """A request as it arrived."""

    at: float
    path: str
    headers: dict[str, str]
    body: dict[str, Any]

    @property
    def question(self) -> str:
        """What the user said last."""
        return next(m["content"] for m in reversed(self.body["messages"]) if m["role"] == "user")


Script = Callable[[Got], Reply]


def completion(
    text: str = "Answer: 5", *, model: str = "tiny", finish: str = "stop", prompt: int = 11, tokens: int = 3,
    logprobs: list[float] | None = None, reasoning: str | None = None, **more: Any,
) -> Reply:  # fmt: skip
    """A well-formed answer."""
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
    if reasoning is not None:
        choice["message"]["reasoning_content"] = reasoning
    choice["logprobs"] = None if logprobs is None else {"content": [{"token": "t", "logprob": x} for x in logprobs]}
    usage = {"prompt_tokens": prompt, "completion_tokens": tokens, "total_tokens": prompt + tokens}
    return Reply(
        body={"id": "x", "object": "chat.completion", "model": model, "choices": [choice], "usage": usage}, **more
    )


def error(status: int, message: str, *, headers: dict[str, str] | None = None, **more: Any) -> Reply:
    """An error in OpenAI's form."""
    return Reply(status, {"error": {"message": message, "type": "error", "param": None, **more}}, headers or {})


def sums(got: Got) -> Reply:
    """Adds up the question; costs 10 tokens to read and a token for each letter to write."""
    numbers = [int(sign + digits) for sign, digits in re.findall(r"([-+]?) ?([0-9]+)", got.question)]
    text = f"Answer: {sum(numbers)}"
    return completion(text, prompt=10, tokens=len(text))


class _Server(ThreadingHTTPServer):
    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing of clients that were killed."""


class Endpoint:
    """The server: what it got, and how it is scripted.

    Attributes:
        got: the questions so far; `all` has requests for the list of models, too.
        script: answers a question; a list answers one after the other, and its last one ever after.
        owner: what the server calls itself.
        most: greatest number of questions it had at the same time.
    """

    def __init__(self) -> None:
        self.got: list[Got] = []
        self.all: list[Got] = []
        self.script: Script | list[Reply] = sums
        self.models: Reply | None = None
        self.owner = "openai"
        self.most = self._now = 0
        self._guard = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}/v1"
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._guard:
            self._now += 1
            self.most = max(self.most, self._now)
        try:
            yield
        finally:
            with self._guard:
                self._now -= 1

    def _reply(self, got: Got) -> Reply:
        with self._guard:
            self.all.append(got)
            if got.path == "/v1/models":
                return self.models or Reply(body={"data": [{"id": "tiny", "object": "model", "owned_by": self.owner}]})
            self.got.append(got)
            if isinstance(self.script, list):
                return self.script[min(len(self.got), len(self.script)) - 1]
        return self.script(got)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        endpoint = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def log_message(self, format: str, *args: Any) -> None:
                """Say nothing."""

            def do_GET(self) -> None:
                self._answer({})

            def do_POST(self) -> None:
                self._answer(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))

            def _answer(self, body: dict[str, Any]) -> None:
                headers = {name.lower(): value for name, value in self.headers.items()}
                with endpoint._counted():
                    reply = endpoint._reply(Got(time.monotonic(), self.path, headers, body))
                    time.sleep(reply.delay)
                try:
                    self._send(reply)
                except (BrokenPipeError, ConnectionResetError):
                    self.close_connection = True

            def _send(self, reply: Reply) -> None:
                if reply.cut:
                    self.close_connection = True
                    return
                data = reply.body if isinstance(reply.body, bytes) else json.dumps(reply.body).encode()
                self.send_response(reply.status)
                for name, value in reply.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                for place in range(0, len(data), 1 if reply.drip else max(1, len(data))):
                    time.sleep(reply.drip)
                    self.wfile.write(data[place : place + 1] if reply.drip else data)

        return Handler
