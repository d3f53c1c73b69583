"""OpenAI's protocol: a request as JSON, and what an answer or an error of an endpoint means.

Source: the API reference of OpenAI (chat completions), and the protocols of vLLM, SGLang and llama.cpp,
which extend it. All that comes from an endpoint is untrusted: it is checked before it is used, and made
printable before it is shown.
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

# What a server names itself in its list of models (`owned_by`), where that tells what it understands.
CONTINUES = frozenset({"vllm", "sglang"})
EXTENDED = CONTINUES | {"llamacpp"}
# Their defaults come from the model's generation_config or from a taste of their own: this is none of it.
NEUTRAL: dict[str, Any] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0}
OPTIONAL = ("seed", "logprobs")  # left out from then on where an endpoint refuses them
FREE = (*OPTIONAL, "stop", "min_p", "repetition_penalty", "repeat_penalty")  # so are these: stops are cut off here too
# What decides how to sample is left out only where it says what is usual, and what else to ask for.
SETTINGS: dict[str, tuple[float, str]] = {
    "temperature": (1.0, "ask at temperature 1 (eval: --heat 1, a method: --temperature 1)"),
    "top_p": (1.0, "leave top_p at 1"),
    "top_k": (-1, "ask without it (a method: --top-k 0)"),
}
COMPLAINT = re.compile(r"unsupported|not support|unknown|unrecogni[sz]ed|unexpected|not permitted|not allowed", re.I)
MEND = "mend what it says and run the same command again: what was answered is kept"

PASSING = frozenset({408, 409, 425, 429})  # beside 5xx: worth another try
REFUSALS = frozenset({400, 413, 422})  # what is wrong is this one request
SLOW = frozenset({408, 504, 524})  # the endpoint may have worked all the while
ROLE_TOKENS, CHAT_TOKENS = 16, 64  # most tokens that a chat template puts around a message, and around them all


class Key:
    """An API key that shows in no message, log or record."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text.strip()
        if not all("!" <= c <= "~" for c in self._text):
            raise BadInput("it is no key: it holds blanks or other characters that no key has", where=KEY_VARIABLE)

    def __repr__(self) -> str:
        return "<key>"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __reduce__(self) -> Any:
        raise TypeError("a key is not to be pickled")

    def header(self) -> dict[str, str]:
        """The header that carries it."""
        return {"Authorization": f"Bearer {self._text}"} if self._text else {}

    def hidden(self, text: str) -> str:
        """Text of an endpoint, fit to be shown: without the key, printable, one line, not long."""
        clean = text.replace(self._text, "<key>") if self._text else text
        shown = "".join(c if c.isprintable() else " " for c in clean[:2000])
        return " ".join(shown.split())[:300]


class Passing(Exception):
    """A failure that another try may mend.

    Attributes:
        after: seconds to wait that the endpoint asks for, or None.
        billed: whether the endpoint may have worked on the request, and bill it.
        most: tries after which it is taken for lasting, where that is fewer than usual.
    """

    def __init__(self, what: str, *, after: float | None = None, billed: bool = False, most: int | None = None) -> None:
        super().__init__(what)
        self.after, self.billed, self.most = after, billed, most


class Unreached(Passing):
    """No connection could be made."""


class Unsupported(Exception):
    """The endpoint does not take a field that it can be asked without; `args[0]` names it."""


class Lasting(Exception):
    """A failure that another try of the same request will not mend: its own, or one that meets every request.

    Attributes:
        fix: what to do about it.
        where: the setting to look at.
        failed: whether the endpoint failed at it; else it refused it.
        everyone: whether it meets every request, unless some have been answered.
        most: so many different requests that it meets alike, with no answer among them, are taken for all of them.
        early: whether this holds only until the first answer, since then it is the request that is at fault.
    """

    def __init__(
        self, what: str, *, fix: str = MEND, where: str = URL_VARIABLE, failed: bool = False, everyone: bool = False,
        most: int = 8, early: bool = True,
    ) -> None:  # fmt: skip
        super().__init__(what)
        self.fix, self.where, self.failed, self.everyone, self.most, self.early = (
            fix, where, failed, everyone, most, early,
        )  # fmt: skip


def most_tokens(request: Request) -> tuple[int, int]:
    """Most tokens that a request takes: of its prompt (a token is at least a byte), and of its answer."""
    texts = [message.role + message.content for message in request.prompt] + [request.prefix]
    prompt = sum(len(text.encode(errors="replace")) + ROLE_TOKENS for text in texts)
    return prompt + CHAT_TOKENS, request.sampling.max_tokens


def body_of(model: str, request: Request, *, server: str, without: frozenset[str]) -> dict[str, Any]:
    """The JSON of a request.

    Args:
        model: the endpoint's name for it.
        server: what it calls itself, see `EXTENDED`.
        without: optional fields that it does not take; `max_tokens`: it wants `max_completion_tokens` instead.
    """
    how = request.sampling
    messages = [{"role": message.role, "content": message.content} for message in request.prompt]
    body: dict[str, Any] = {"model": model, "messages": messages, "temperature": how.temperature, "top_p": how.top_p}
    body["max_completion_tokens" if "max_tokens" in without else "max_tokens"] = how.max_tokens
    body |= {"seed": request.seed & 0x7FFFFFFF, "logprobs": True}  # 31 bits: what every endpoint takes
    body |= NEUTRAL if server in EXTENDED else {}
    if how.top_k:
        body["top_k"] = how.top_k
    if how.stop:
        body["stop"] = list(how.stop)
    if request.prefix:
        messages.append({"role": "assistant", "content": request.prefix})
        body |= {"continue_final_message": True, "add_generation_prompt": False}
    return {name: value for name, value in body.items() if name not in without}


def failure(status: int, headers: Mapping[str, str], text: str, *, key: Key, body: Mapping[str, Any]) -> Exception:
    """What a status other than success means, as the exception to raise."""
    code, message, param = _error(text)
    said = key.hidden(message)
    heard = f"it answered {status}" + (f" ({said})" if said else "")
    if code == "insufficient_quota" or status == 402:
        return BadInput(f"the account has no credit left: {heard}", where=URL_VARIABLE, fix="top it up and run again")
    if status in PASSING or status >= 500:
        return Passing(heard, after=_retry_after(headers), billed=status in SLOW)
    if status in REFUSALS or status == 403:
        if "max_tokens" in body and re.search(r"max_completion_tokens\W+instead", message):
            return Unsupported("max_tokens")
        if (field := _field(message, param, body)) is not None:
            return _left_out(field, body[field], heard)
    if status == 401:  # its message may hold part of the key
        fix = "set it to a key of this endpoint"
        return Lasting("the key was not accepted (401)", where=KEY_VARIABLE, fix=fix, everyone=True, early=False)
    if status == 404 or code == "model_not_found":
        fix = f"check the model's name, and that {URL_VARIABLE} ends where /chat/completions begins"
        return Lasting(f"there is no model {body.get('model')!r}: {heard}", fix=fix, everyone=True, early=False)
    if status in REFUSALS:
        return Lasting(heard)
    fix = "check the address and what the key may do"
    return Lasting(heard, fix=fix, everyone=status != 403, early=False)


def _field(message: str, param: str, body: Mapping[str, Any]) -> str | None:
    """The field of the request that a refusal is about, where it is one that decides how to sample."""
    names = [name for name in (*FREE, *SETTINGS) if name in body]
    if param in names:
        return param
    if (word := next((f for f in OPTIONAL if f in names and re.search(rf"\b{f}\b", message, re.I)), None)) or param:
        return word
    complains = COMPLAINT.search(message)
    for name in names:
        if re.search(rf"[\"'`]{name}[\"'`]", message) or (complains and re.search(rf"\b{name}\b", message)):
            return name
    return None


def _left_out(field: str, value: Any, heard: str) -> Exception:
    """Ask without a field whose absence changes nothing; otherwise say what to ask for instead."""
    if field in FREE or value == SETTINGS[field][0]:
        return Unsupported(field)
    usual, fix = SETTINGS[field]
    return BadInput(
        f"the endpoint does not support {field}={value:g}: {heard}", where=URL_VARIABLE, fix=fix.format(usual)
    )


def _error(text: str) -> tuple[str, str, str]:
    """Code and message of an error, and the field it is about, in the forms that endpoints give it."""
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


def server_of(text: str) -> str:
    """What a server calls itself in its list of models: one of `EXTENDED`, or nothing."""
    try:
        owners = {entry.get("owned_by") for entry in json.loads(text)["data"]}
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        return ""
    return next((name for name in sorted(EXTENDED) if name in owners), "")


def same_model(asked: str, answered: str) -> bool:
    """Whether a name stands for the model asked for: itself, its last part, or a dated snapshot of it."""
    wanted, got = (name.casefold().rpartition("/")[2] for name in (asked, answered))
    return re.fullmatch(re.escape(wanted) + r"([-:@](latest|\d[\d-]*))?", got) is not None
