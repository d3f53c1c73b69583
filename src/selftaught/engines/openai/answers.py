"""Parse and check an endpoint's answers, and separate reasoning from the answer.

Source: OpenAI's API reference (chat completions, responses), and what vLLM, SGLang, DeepSeek, OpenRouter, Mistral and
Ollama send instead. All data is untrusted.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from selftaught.engines.base import Request, truncate_at_stop
from selftaught.engines.openai.protocol import ApiKey, PermanentError, TransientError
from selftaught.samples import well_formed

MALFORMED_TRIES = 3  # a malformed answer may be billed, and is mostly repeated in the same form
MAX_TOKEN_COUNT = 2**31  # larger counts are wrong
STOP_REASONS = frozenset({"stop", "eos", "eos_token", "end_turn", "stop_sequence", "completed"})
TEXT_PART_TYPES = frozenset({"text", "output_text", "input_text"})
REASONING_PART_TYPES = frozenset({"thinking", "reasoning", "reasoning.text", "reasoning.summary", "summary_text"})
HIDDEN_PART_TYPES = frozenset({"redacted_thinking", "reasoning.encrypted"})
REASONING_FIELDS = ("reasoning_content", "reasoning", "thinking", "reasoning_details")
OPEN, CLOSE = "<think>", "</think>"


@dataclass(frozen=True, slots=True)
class Answer:
    """An endpoint's answer, checked.

    Attributes:
        text: the answer, after `<think>...</think>` if the endpoint returns reasoning.
        finish_reason: "stop", or "length" for any other reason (including a content filter).
        logprobs: None if the endpoint returned none.
        model: the name of the model that answered.
        replaced: whether invalid characters became U+FFFD.
    """

    text: str
    finish_reason: str
    logprobs: tuple[float, ...] | None
    prompt_tokens: int
    completion_tokens: int
    model: str
    replaced: bool = False


@dataclass(frozen=True, slots=True)
class MessageText:
    """A message's content and its reasoning."""

    content: str = ""
    reasoning: str = ""


def read_answer(text: str, request: Request, *, key: ApiKey) -> Answer:
    """Parse and check the body of a successful response.

    Raises:
        TransientError: it violates the protocol, or the model's provider failed.
        PermanentError: it lacks token counts, the model's name, or an answer after the reasoning.
    """
    try:
        data = json.loads(text)
    except (ValueError, RecursionError):
        raise _malformed(f"no JSON (it begins with {key.redact(text[:60])!r})" if text.strip() else "empty") from None
    if not isinstance(data, dict):
        raise _malformed("no JSON object")
    choice = _choice(data, key)
    said = _message_text(choice)
    ended = choice.get("finish_reason")
    if not isinstance(ended, str):
        raise _malformed(f"without a finish_reason ({json.dumps(ended):.40})")
    logprobs = _logprobs(choice.get("logprobs"))
    prompt, completion, model = _usage(data)
    _check_not_empty(said, ended, request)
    stopped = truncate_at_stop(said.content, request.sampling.stop)
    finish = "stop" if ended.casefold() in STOP_REASONS or stopped is not None else "length"
    found = _join_reasoning(
        replace(said, content=said.content if stopped is None else stopped), truncated=finish == "length"
    )
    clean = well_formed(found)
    return Answer(clean, finish, logprobs, prompt, completion, model, replaced=clean != found)


def _malformed(what: str) -> TransientError:
    return TransientError(f"its answer violates the protocol: {what}", billed=True, max_tries=MALFORMED_TRIES)


def _choice(data: Mapping[str, Any], key: ApiKey) -> Mapping[str, Any]:
    """The first choice, unless the response reports an error."""
    choices = data.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    found = choice if isinstance(choice, dict) else {}
    error = data.get("error") or found.get("error")
    if error or found.get("finish_reason") == "error":
        why = error.get("message") if isinstance(error, dict) else error
        tells = f" ({key.redact(str(why))})" if why else ""
        raise TransientError(f"the model's provider failed{tells}", billed=True, max_tries=MALFORMED_TRIES)
    if not found:
        raise _malformed("it has no choices")
    return found


def _message_text(choice: Mapping[str, Any]) -> MessageText:
    """Content and reasoning of a choice: a message, or the text of an older protocol."""
    message = choice.get("message", choice if isinstance(choice.get("text"), str) else None)
    if not isinstance(message, dict):
        raise _malformed("no message" + (", but a piece of a stream" if "delta" in choice else ""))
    said = _content_text(message.get("content", message.get("text")))
    refusal = message.get("refusal")
    content = said.content or (refusal if isinstance(refusal, str) else "")
    beside = next((thought for name in REASONING_FIELDS if (thought := _part_text(message.get(name)))), "")
    return MessageText(content, said.reasoning or beside)


def _content_text(content: Any) -> MessageText:
    """Content in any of its forms: text, null, or a list of parts."""
    if content is None or isinstance(content, str):
        return MessageText(content or "")
    if not isinstance(content, list | dict):
        raise _malformed(f"its content is {json.dumps(content):.20}")
    parts = content if isinstance(content, list) else [content]
    texts, thoughts, unread = [], [], []
    for part in parts:
        kind = part.get("type", "text") if isinstance(part, dict) else "text"
        text = _part_text(part)
        if kind in REASONING_PART_TYPES:
            thoughts.append(text or "")
        elif text is not None and kind in (*TEXT_PART_TYPES, "refusal"):
            texts.append(text)
        elif kind not in HIDDEN_PART_TYPES:
            unread.append(str(kind))
    if unread and not texts:
        raise _malformed(f"its content has parts of type {', '.join(sorted(set(unread)))[:60]}, and no text")
    return MessageText("".join(texts), "\n".join(filter(None, thoughts)))


def _part_text(part: Any, depth: int = 8) -> str | None:
    """The text of a part, which has several possible names and may consist of parts."""
    if isinstance(part, str):
        return part
    if isinstance(part, list) and depth:
        return "".join(filter(None, (_part_text(one, depth - 1) for one in part)))
    if isinstance(part, dict) and depth:
        names = ("text", "thinking", "reasoning", "summary", "refusal", "value", "content")
        return next((text for name in names if (text := _part_text(part.get(name), depth - 1)) is not None), None)
    return None


def _join_reasoning(said: MessageText, *, truncated: bool) -> str:
    """Reasoning and answer as one text, as models write them."""
    thought, content = said.reasoning.strip(), said.content
    if not thought or OPEN in content or CLOSE in content:
        return content
    if not content and truncated:  # cut off during the reasoning
        return f"{OPEN}\n{thought}"
    return f"{OPEN}\n{thought}\n{CLOSE}\n\n{content}"


def _check_not_empty(said: MessageText, ended: str, request: Request) -> None:
    """Refuse an empty answer, unless the model may have sampled it."""
    if said.content or request.sampling.stop or request.prefix:
        return
    if ended == "content_filter":
        raise PermanentError("the endpoint's content filter held the answer back")
    if ended.casefold() not in STOP_REASONS:
        if ended in ("tool_calls", "function_call"):
            raise TransientError(
                "the model called a tool in place of an answer", billed=True, max_tries=MALFORMED_TRIES
            )
        return  # cut off before the answer
    if said.reasoning:
        fix = "turn off the server's reasoning parser, or the model's thinking"
        raise PermanentError(
            f"it answers in reasoning_content alone, without content: {fix}", server_failed=True, stop_after=3
        )
    raise TransientError("its answer is empty", billed=True, max_tries=MALFORMED_TRIES)


def _usage(data: Mapping[str, Any]) -> tuple[int, int, str]:
    usage, model = data.get("usage"), data.get("model")
    counts = [usage.get(name) if isinstance(usage, dict) else None for name in ("prompt_tokens", "completion_tokens")]
    good = [count for count in counts if type(count) is int and 0 <= count < MAX_TOKEN_COUNT]
    if len(good) < len(counts) or not isinstance(model, str):
        lacks = "how many tokens it took (usage)" if isinstance(model, str) else "which model gave it (model)"
        raise PermanentError(
            f"its answers do not say {lacks}", fix="use an endpoint that counts and names", affects_all=True
        )
    return good[0], good[1], model


def _logprobs(given: Any) -> tuple[float, ...] | None:
    try:
        content = given.get("content") if given else None
        if content is None:
            return None
        values = tuple(float(token["logprob"]) for token in content)
    except (ValueError, LookupError, TypeError, AttributeError, OverflowError):
        raise _malformed("its log-probabilities are none") from None
    if not all(math.isfinite(value) and value < 1e-6 for value in values):
        raise _malformed("its log-probabilities are none")
    return values
