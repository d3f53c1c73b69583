"""Convert the fields of a row to plain data: numbers of any library, and text in any format of message content."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable, Mapping, Sequence
from decimal import Decimal
from fractions import Fraction
from typing import Any

from selftaught.errors import BadInput
from selftaught.records import Message

CHAT_ROLES = {"human": "user", "gpt": "assistant", "bot": "assistant", "model": "assistant", "chatgpt": "assistant"}
"""Names of chat roles in other formats."""

_SHORT = ("float16", "float32", "bfloat16")
_MISSING = ("NAType", "NaTType")  # pandas
_WORDS = ("text", "content", "value", "parts")
_THOUGHT = ("thinking", "reasoning", "redacted_thinking")


def plain_data(value: Any) -> Any:
    """A value as text, numbers, lists and mappings; None if it is missing (null, NaN).

    NumPy and torch numbers become Python numbers. Those of less than double precision become their shortest
    decimal (123.45, not 123.44999694824219); a `Decimal` is kept as written.
    """
    name = type(value).__name__
    if value is None or isinstance(value, (str, bool, int)):
        return value
    if name in _SHORT:
        return plain_data(float(str(value)))
    if name in _MISSING or (isinstance(value, (float, Decimal)) and math.isnan(value)):
        return None
    if isinstance(value, float):
        return float(value)
    if isinstance(value, Decimal):
        return f"{value:f}"
    if isinstance(value, (datetime.date, datetime.time, Fraction)):
        return str(value)
    if isinstance(value, Mapping):
        return {str(k): plain_data(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)) or (hasattr(value, "tolist") and getattr(value, "shape", ())):
        return [plain_data(v) for v in value]
    return plain_data(value.item()) if hasattr(value, "item") else value


def kind_name(value: Any) -> str:
    """The type of a value in words, for messages."""
    names = {dict: "an object", list: "a list", str: "text", bool: "true or false", type(None): "null"}
    return names.get(type(value), "a number" if isinstance(value, (int, float)) else f"a {type(value).__name__}")


def content_text(value: Any, name: str, where: str) -> str:
    """The text of a message's content: text, null, a part `{"type": "text", "text": ...}`, or a list of parts.

    Raises:
        BadInput: a part is not text.
    """
    if value is None or isinstance(value, str):
        return value or ""
    if isinstance(value, Mapping):
        if value.get("type") in _THOUGHT:
            return ""
        held = next((value[key] for key in _WORDS if value.get(key) is not None), None)
        if held is not None or value.get("type") == "text":
            return content_text(held, name, where)
        what = f"a part of type {value['type']!r}" if value.get("type") else "an object without text"
        raise BadInput(f"{name!r} holds {what}, expected text", where=where, fix="leave such rows out")
    if isinstance(value, Sequence):
        return "\n".join(filter(None, (content_text(part, name, where) for part in value)))
    raise BadInput(f"{name!r} holds {kind_name(value)}, expected text", where=where)


def messages(value: Iterable[Any], name: str, where: str) -> list[Message]:
    """A list of `{"role", "content"}`, or of `{"from", "value"}` (ShareGPT), as messages.

    Raises:
        BadInput: it is something else, or a message contains more than text.
    """
    found = []
    for one in value:
        role = one.get("role") or one.get("from") if isinstance(one, Mapping) else None
        if not isinstance(role, str) or not any(key in one for key in _WORDS):
            found.clear()
            break
        if one.get("tool_calls"):
            raise BadInput(f"a message of {name!r} calls tools", where=where, fix="leave such rows out")
        content = next((one[key] for key in _WORDS if one.get(key) is not None), None)
        found.append(Message(CHAT_ROLES.get(role.lower(), role.lower()), content_text(content, name, where)))
    if not found:
        raise BadInput(
            f"{name!r} is not a list of messages", where=where, fix='write [{"role": "user", "content": ...}]'
        )
    return found
