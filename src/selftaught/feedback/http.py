"""A verifier behind an address: each answer is posted to it as JSON."""

from __future__ import annotations

import json
import os
import threading
import time
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit, urlunsplit

from selftaught.errors import BadInput
from selftaught.feedback.verdicts import parse_verifier_result
from selftaught.feedback.verifiers import ExtractedAnswer, unknown_verdict
from selftaught.records import Feedback, Problem, Verdict, as_json, content_hash

if TYPE_CHECKING:
    import httpx2

TOKEN_VARIABLE = "SELFTAUGHT_VERIFIER_TOKEN"
TRIES = 4
FIRST_WAIT = 0.5  # seconds before the second try, doubled for each further one
LARGEST = 1_000_000  # bytes of a response


class HttpVerifier:
    """Posts `{"prompt", "completion", "answer", "reference", "row"}` and reads `{"score"}`, and perhaps `"text"`.

    `prompt` is a list of messages, `completion` the whole reply, `answer` what the task extracts from it, `row` the
    other fields of the data. `score` (or `reward`) is a number, true, false or null, which is UNKNOWN; only a full
    score (>= 1) is RIGHT. Requests without a response, and those answered 429 or 5xx, are sent again, up to 4 times in
    all; then the answer is UNKNOWN. The token in the environment variable `SELFTAUGHT_VERIFIER_TOKEN`, if there is one,
    is sent as a bearer token.

    Args:
        url: http or https, without a user's name or password.
        timeout: seconds for a whole response.

    Raises:
        BadInput: httpx2 is not installed, or the address holds a name or password.
    """

    needs_reference = False

    def __init__(self, url: str, *, timeout: float = 30.0) -> None:
        try:
            import httpx2
        except ImportError:
            fix = "pip install 'selftaught[openai]'"
            raise BadInput("a verifier behind an address needs the package httpx2", where="verifier", fix=fix) from None
        parts = urlsplit(url)
        if parts.username or parts.password or not parts.hostname:
            what = "the address of a verifier is not of the form http://host/path"
            raise BadInput(what, where="verifier", fix=f"give a password as a token, in {TOKEN_VARIABLE}")
        shown = urlunsplit((parts.scheme, parts.netloc, parts.path, "", ""))  # a query may hold a secret
        self.shown = shown if shown == url else f"{shown}?{content_hash(url)[:6]}"
        self.url, self.version, self._timeout = url, f"http@{self.shown}", timeout
        token = os.environ.get(TOKEN_VARIABLE, "")
        self._headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {token}"} if token else {})
        self._errors, self._made = (httpx2.HTTPError, httpx2.InvalidURL), httpx2.Client
        self._client: httpx2.Client | None = None
        self._lock = threading.Lock()

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:  # noqa: ARG002
        """Post the answer, and read its score."""
        asked = {
            "prompt": [{"role": m.role, "content": m.content} for m in problem.prompt], "completion": answer.text,
            "answer": answer.raw, "reference": as_json(problem.reference), "row": as_json(dict(problem.meta)),
        }  # fmt: skip
        body = json.dumps(asked, default=str).encode("utf-8", "replace")
        why = ""
        for attempt in range(TRIES):
            if attempt:
                time.sleep(FIRST_WAIT * 2 ** (attempt - 1))
            try:
                status, said = self._post(body)
            except (TimeoutError, *self._errors) as error:
                why = f"no response ({type(error).__name__})"
                continue
            if status == 200:
                return self._read(said)
            why = f"it answers {status}"
            if status != 429 and status < 500:
                break
        return unknown_verdict(f"verifier raised: {self.shown}: {why}", self.version)

    def _post(self, body: bytes) -> tuple[int, bytes]:
        """Status and body of a response, of which a little more than `LARGEST` bytes are read.

        Raises:
            TimeoutError: it takes too long, however often some of it comes.
        """
        with self._lock:
            self._client = self._client or self._made(timeout=self._timeout, follow_redirects=False)
            client = self._client
        said, deadline = bytearray(), time.monotonic() + self._timeout
        with client.stream("POST", self.url, content=body, headers=self._headers) as response:
            for piece in response.iter_bytes():
                said += piece
                if time.monotonic() > deadline:
                    raise TimeoutError
                if len(said) > LARGEST:
                    break
            return response.status_code, bytes(said)

    def _read(self, said: bytes) -> Feedback:
        try:
            found: Any = json.loads(said) if len(said) <= LARGEST else None
        except (ValueError, RecursionError):
            found = None
        score = found.get("score", found.get("reward", "")) if isinstance(found, dict) else ""
        if not isinstance(score, bool | int | float | None):
            what = f'its response is not {{"score": …}} of at most {LARGEST:,} bytes'
            return unknown_verdict(f"verifier raised: {self.shown}: {what}", self.version)
        verdict, number, why = parse_verifier_result(score)
        return Feedback(Verdict(verdict), number, why or str(found.get("text", ""))[:10_000], self.version)

    def close(self) -> None:
        """Close the connections."""
        with self._lock:
            if self._client:
                self._client.close()
            self._client = None
