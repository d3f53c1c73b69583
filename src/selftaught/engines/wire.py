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
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from selftaught.engines.base import Request, RequestRefused, cut_at_stop
from selftaught.errors import BadInput
from selftaught.models.remote import KEY, URL

# What a server names itself in its list of models (`owned_by`), where that tells what it understands.
CONTINUES = frozenset({"vllm", "sglang"})
EXTENDED = CONTINUES | {"llamacpp"}
# Their defaults come from the model's generation_config or from a taste of their own: this is none of it.
NEUTRAL: dict[str, Any] = {"top_k": -1, "min_p": 0.0, "repetition_penalty": 1.0, "repeat_penalty": 1.0}
OPTIONAL = ("seed", "logprobs")  # left out from then on where an endpoint refuses them

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
            raise BadInput("it is no key: it holds blanks or other characters that no key has", where=KEY)

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
        return "".join(c if c.isprintable() else " " for c in " ".join(clean.split()))[:300]


class Passing(Exception):
    """A failure that another try may mend.

    Attributes:
        after: seconds to wait that the endpoint asks for, or None.
        billed: whether the endpoint may have worked on the request, and bill it.
    """

    def __init__(self, what: str, *, after: float | None = None, billed: bool = False) -> None:
        super().__init__(what)
        self.after, self.billed = after, billed


class Unreached(Passing):
    """No connection could be made."""


class Unsupported(Exception):
    """The endpoint does not take a field that it can be asked without; `args[0]` names it."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What an endpoint answered, checked.

    Attributes:
        finish_reason: "stop", or "length" for whatever else cut it short (a content filter, too).
        logprobs: None where the endpoint gave none.
        model: the name of the model that answered.
    """

    text: str
    finish_reason: str
    logprobs: tuple[float, ...] | None
    prompt_tokens: int
    completion_tokens: int
    model: str


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


def read_answer(text: str, request: Request) -> Answer:
    """Check and take apart the body of a successful answer.

    Raises:
        Passing: it is not what the protocol has.
        BadInput: it lacks what cannot be done without.
    """
    try:
        data = json.loads(text)
        choice, said = data["choices"][0], data["choices"][0]["message"]
        found = said.get("content") or said.get("refusal") or ""
        ended = choice["finish_reason"]
        logprobs = _logprobs(choice.get("logprobs"))
        usage, model = data.get("usage"), data.get("model")
        if not isinstance(found, str) or not isinstance(ended, str):
            raise TypeError
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        raise Passing("an answer that is not what the protocol has", billed=True) from None
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    if not all(type(count) is int and count >= 0 for count in counts) or not isinstance(model, str):
        lacks = "how many tokens it took (usage)" if isinstance(model, str) else "which model gave it (model)"
        raise BadInput(f"its answers do not say {lacks}", where=URL, fix="use an endpoint that counts and names")
    stopped = cut_at_stop(found, request.sampling.stop)
    finish = "stop" if ended == "stop" or stopped is not None else "length"
    return Answer(found if stopped is None else stopped, finish, logprobs, counts[0] or 0, counts[1] or 0, model)


def _logprobs(given: Any) -> tuple[float, ...] | None:
    content = given.get("content") if given else None
    if content is None:
        return None
    values = tuple(float(token["logprob"]) for token in content)
    if not all(math.isfinite(value) and value < 1e-6 for value in values):
        raise ValueError
    return values


def failure(status: int, headers: Mapping[str, str], text: str, *, key: Key, body: Mapping[str, Any]) -> Exception:
    """What a status other than success means, as the exception to raise."""
    code, message = _error(text)
    said = key.hidden(message)
    heard = f"it answered {status}" + (f" ({said})" if said else "")
    if code == "insufficient_quota" or status == 402:
        return BadInput(f"the account has no credit left: {heard}", where=URL, fix="top it up and run again")
    if status in PASSING or status >= 500:
        return Passing(heard, after=_retry_after(headers), billed=status in SLOW)
    if status in REFUSALS or status == 403:
        if "max_tokens" in body and re.search(r"max_completion_tokens\W+instead", message):
            return Unsupported("max_tokens")
        if field := next((f for f in OPTIONAL if f in body and re.search(rf"\b{f}\b", message, re.IGNORECASE)), None):
            return Unsupported(field)
    if status == 401:  # its message may hold part of the key
        return BadInput("the key was not accepted (401)", where=KEY, fix="set it to a key of this endpoint")
    if status == 404 or code == "model_not_found":
        fix = f"check the model's name, and that {URL} ends where /chat/completions begins"
        return BadInput(f"there is no model {body.get('model')!r}: {heard}", where=URL, fix=fix)
    if status in REFUSALS:
        return RequestRefused(heard)
    return BadInput(heard, where=URL, fix="check the address and what the key may do")


def _error(text: str) -> tuple[str, str]:
    """Code and message of an error, in the forms that endpoints give it."""
    try:
        data = json.loads(text)
        found = data.get("error", data)
        if isinstance(found, str):
            return "", found
        message = found.get("message") or found.get("detail") or ""
        return str(found.get("code") or ""), message if isinstance(message, str) else json.dumps(message)
    except (ValueError, AttributeError, RecursionError):
        return "", "" if "<" in text else text


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
