"""OpenAI's protocol: requests as JSON, and the meaning of an endpoint's errors.

Source: the API reference of OpenAI (chat completions), and the protocols of vLLM, SGLang and llama.cpp,
which extend it. Data of an endpoint is untrusted: it is checked before use, and made printable before it is shown.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from selftaught.engines.base import Request
from selftaught.errors import BadInput
from selftaught.models.remote import KEY_VARIABLE, URL_VARIABLE

# What servers call themselves in their list of models (`owned_by`), which shows what they support.
PREFIX_SERVERS = frozenset({"vllm", "sglang"})
EXTENDED_SERVERS = PREFIX_SERVERS | {"llamacpp"}
# Disables their defaults, which come from the model's generation_config or from the server.
NEUTRAL_FIELDS: dict[str, Any] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0}
OPTIONAL_FIELDS = ("seed", "logprobs")  # left out from then on if an endpoint refuses them
# Left out, too, if refused: stop strings are also matched here.
DROPPABLE_FIELDS = (*OPTIONAL_FIELDS, "stop", "min_p", "repetition_penalty", "repeat_penalty")
# Sampling parameters are left out only if they have the usual value; else the error says what to use.
SAMPLING_FIELDS: dict[str, tuple[float, str]] = {
    "temperature": (1.0, "use temperature 1 (eval: --temperature 1, a method: --temperature 1)"),
    "top_p": (1.0, "leave top_p at 1"),
    "top_k": (-1, "ask without it (a method: --top-k 0)"),
}
UNSUPPORTED_PATTERN = re.compile(
    r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed", re.I
)
DEFAULT_FIX = "fix the cause and run the same command again: answers so far are kept"

TRANSIENT_STATUSES = frozenset({408, 409, 425, 429})  # and 5xx
REFUSAL_STATUSES = frozenset({400, 413, 422})  # this request is at fault
TIMEOUT_STATUSES = frozenset({408, 504, 524})  # the request may have been processed
ROLE_TOKENS, CHAT_TOKENS = 16, 64  # maximum overhead of a chat template per message, and in all


class ApiKey:
    """An API key that appears in no message, log or record."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        if not all("!" <= c <= "~" for c in self._text):
            raise BadInput(
                "it contains blanks or other characters that no key has", where=KEY_VARIABLE, fix="copy it again"
            )

    def __repr__(self) -> str:
        return "<key>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a key must not be pickled")

    def headers(self) -> dict[str, str]:
        """The authorization header; empty without a key."""
        return {"Authorization": f"Bearer {self._text}"} if self._text else {}

    def redact(self, text: str) -> str:
        """Text of an endpoint for display: without the key, printable, one short line."""
        clean = text.replace(self._text, "<key>") if self._text else text
        shown = "".join(c if c.isprintable() else " " for c in clean[:2000])
        return " ".join(shown.split())[:300]


class TransientError(Exception):
    """A failure that a retry may fix.

    Attributes:
        retry_after: seconds that the endpoint asks to wait, or None.
        billed: whether the endpoint may have processed and billed the request.
        max_tries: number of tries after which it counts as permanent, if fewer than usual.
    """

    def __init__(
        self, what: str, *, retry_after: float | None = None, billed: bool = False, max_tries: int | None = None
    ) -> None:
        super().__init__(what)
        self.retry_after, self.billed, self.max_tries = retry_after, billed, max_tries


class ConnectionFailed(TransientError):
    """The endpoint cannot be reached."""


class UnsupportedField(Exception):
    """The endpoint rejects an optional field; `args[0]` is its name."""


class PermanentError(Exception):
    """A failure that a retry of the request will not fix: of this request, or of all.

    Attributes:
        fix: what the user can do.
        where: the setting to check.
        server_failed: whether the endpoint failed at the request; else it refused it.
        affects_all: whether it affects all requests, unless some have been answered.
        stop_after: after this many different requests with similar failures and no answer, it affects all.
        until_first_answer: whether that holds only before the first answer; afterwards, requests are at fault.
    """

    def __init__(
        self, what: str, *, fix: str = DEFAULT_FIX, where: str = URL_VARIABLE, server_failed: bool = False,
        affects_all: bool = False, stop_after: int = 8, until_first_answer: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(what)
        self.fix, self.where, self.server_failed, self.affects_all, self.stop_after, self.until_first_answer = (
            fix, where, server_failed, affects_all, stop_after, until_first_answer,
        )  # fmt: skip


def max_token_usage(request: Request) -> tuple[int, int]:
    """Maximum number of tokens of a request: of its prompt (a token is at least a byte), and of its answer."""
    texts = [message.role + message.content for message in request.prompt] + [request.prefix]
    prompt = sum(len(text.encode(errors="replace")) + ROLE_TOKENS for text in texts)
    return prompt + CHAT_TOKENS, request.sampling.max_tokens


def request_body(model: str, request: Request, *, server: str, omit: frozenset[str]) -> dict[str, Any]:
    """The JSON of a request.

    Args:
        model: its name at the endpoint.
        server: the server's name, see `EXTENDED_SERVERS`.
        omit: optional fields to leave out; `max_tokens` is replaced by `max_completion_tokens`.
    """
    how = request.sampling
    messages = [{"role": message.role, "content": message.content} for message in request.prompt]
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": how.temperature, "top_p": how.top_p}
    body["max_completion_tokens" if "max_tokens" in omit else "max_tokens"] = how.max_tokens
    body |= {"seed": request.seed & 0x7FFFFFFF, "logprobs": True}  # 31 bits: what every endpoint takes
    body |= NEUTRAL_FIELDS if server in EXTENDED_SERVERS else {}
    if how.top_k:
        body["top_k"] = how.top_k
    if how.stop:
        body["stop"] = list(how.stop)
    if request.prefix:
        messages.append({"role": "assistant", "content": request.prefix})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return {name: value for name, value in body.items() if name not in omit}


def error_from_status(
    status: int, headers: Mapping[str, str], text: str, *, key: ApiKey, body: Mapping[str, Any]
) -> Exception:
    """The exception for a status other than success."""
    code, message, param = _parse_error(text)
    said = key.redact(message)
    heard = f"it answered {status}" + (f" ({said})" if said else "")
    if code == "insufficient_quota" or status == 402:
        return BadInput(f"the account has no credit left: {heard}", where=URL_VARIABLE, fix="top it up and run again")
    if status in TRANSIENT_STATUSES or status >= 500:
        return TransientError(heard, retry_after=_retry_after(headers), billed=status in TIMEOUT_STATUSES)
    if status in REFUSAL_STATUSES or status == 403:
        if "max_tokens" in body and re.search(r"max_completion_tokens\W+instead", message):
            return UnsupportedField("max_tokens")
        if (field := _refused_field(message, param, body)) is not None:
            return _unsupported(field, body[field], heard)
    if status == 401:  # its message may hold part of the key
        fix = "set it to a key of this endpoint"
        return PermanentError(
            "the key was not accepted (401)", where=KEY_VARIABLE, fix=fix, affects_all=True, until_first_answer=False
        )
    if status == 404 or code == "model_not_found":
        fix = f"check the model's name, and that {URL_VARIABLE} ends where /chat/completions begins"
        return PermanentError(
            f"there is no model {body.get('model')!r}: {heard}", fix=fix, affects_all=True, until_first_answer=False
        )
    if status in REFUSAL_STATUSES:
        return PermanentError(heard)
    fix = "check the address and what the key may do"
    return PermanentError(heard, fix=fix, affects_all=status != 403, until_first_answer=False)


def _refused_field(message: str, param: str, body: Mapping[str, Any]) -> str | None:
    """The field of the request that a refusal is about, if it is a sampling parameter or optional."""
    names = [name for name in (*DROPPABLE_FIELDS, *SAMPLING_FIELDS) if name in body]
    if param in names:
        return param
    if (
        word := next((f for f in OPTIONAL_FIELDS if f in names and re.search(rf"\b{f}\b", message, re.I)), None)
    ) or param:
        return word
    complains = UNSUPPORTED_PATTERN.search(message)
    for name in names:
        if re.search(rf"[\"'`]{name}[\"'`]", message) or (complains and re.search(rf"\b{name}\b", message)):
            return name
    return None


def _unsupported(field: str, value: Any, heard: str) -> Exception:
    """`UnsupportedField` if leaving the field out changes nothing; else an error that says what to use instead."""
    if field in DROPPABLE_FIELDS or value == SAMPLING_FIELDS[field][0]:
        return UnsupportedField(field)
    usual, fix = SAMPLING_FIELDS[field]
    return BadInput(
        f"the endpoint does not support {field}={value:g}: {heard}", where=URL_VARIABLE, fix=fix.format(usual)
    )


def _parse_error(text: str) -> tuple[str, str, str]:
    """Code, message and field of an error, in the forms that endpoints use."""
    try:
        data = json.loads(text)
        found = data.get("error", data)
        if isinstance(found, str):
            return "", found, ""
        message = found.get("message") or found.get("detail") or ""
        param = found.get("param")
        if isinstance(message, list) and message and isinstance(message[0], dict):  # pydantic's
            param = (message[0].get("loc") or [None])[-1]
        shown = message if isinstance(message, str) else json.dumps(message)
        return str(found.get("code") or ""), shown, param if isinstance(param, str) else ""
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
        return "", "" if "<" in text else text, ""


def _retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait: `retry-after-ms`, or `Retry-After` as seconds or a date (RFC 9110, 10.2.3)."""
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers.get(name, "")) * unit
        except ValueError:
            continue
        return max(0.0, seconds) if math.isfinite(seconds) else None
    try:
        date = parsedate_to_datetime(headers.get("retry-after", ""))
        return max(0.0, (date.replace(tzinfo=date.tzinfo or UTC) - datetime.now(UTC)).total_seconds())
    except (ValueError, TypeError, OverflowError):
        return None


def server_name(text: str) -> str:
    """The server's name in its list of models: one of `EXTENDED_SERVERS`, or empty."""
    try:
        owners = {entry.get("owned_by") for entry in json.loads(text)["data"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return next((name for name in sorted(EXTENDED_SERVERS) if name in owners), "")


def same_model(asked: str, answered: str) -> bool:
    """Whether a name means the requested model: itself, its last part, or a dated snapshot of it."""
    wanted, got = (name.casefold().rpartition("/")[2] for name in (asked, answered))
    return re.fullmatch(re.escape(wanted) + r"([-:@](latest|\d[\d-]*))?", got) is not None
