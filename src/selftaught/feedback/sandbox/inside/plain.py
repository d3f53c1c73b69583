"""Plain data as JSON: numbers, text, bytes, lists, tuples, dicts, sets and iterators, told apart and built anew.

What is rebuilt has the base type, never a class of the sender's, whose `__eq__` might say what it likes.
"""

import json
from typing import Any

LARGEST = 1_000_000
"""Bytes of a message."""


_SEQUENCES: tuple[tuple[str, Any], ...] = (("list", list), ("tuple", tuple), ("set", set), ("set", frozenset))


class NotPlain(TypeError):
    """A value that is no plain data."""


def dumps(value: Any) -> str:
    """One line of JSON.

    Raises:
        NotPlain: it is no plain data, is nested too deeply, or is longer than `LARGEST`.
    """
    try:
        line = json.dumps(_encoded(value))
    except RecursionError:
        raise NotPlain("nested too deeply, or contains itself") from None
    if len(line) > LARGEST:
        raise NotPlain(f"longer than {LARGEST:,} characters")
    return line


def loads(line: str) -> Any:
    """The value of a line of `dumps`."""
    return _decoded(json.loads(line))


def _encoded(value: Any) -> Any:
    if value is None or value is True or value is False:
        return value
    if isinstance(value, int):
        number = int.__int__(value)
        return {"int": hex(number)} if abs(number) >> 63 else number
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, complex):
        return {"complex": [value.real, value.imag]}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": bytes(value).hex()}
    if isinstance(value, dict):
        return {"dict": [[_encoded(k), _encoded(v)] for k, v in dict.items(value)]}
    for name, kind in _SEQUENCES:
        if isinstance(value, kind):
            return {name: [_encoded(one) for one in kind.__iter__(value)]}
    if isinstance(value, range):
        return {"range": [value.start, value.stop, value.step]}
    if hasattr(value, "__next__"):
        return {"iterator": [_encoded(one) for one, _ in zip(value, range(LARGEST), strict=False)]}
    raise NotPlain(f"a {type(value).__name__}")


def _decoded(value: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, inner),) = value.items()
    if kind == "int":
        return int(inner, 16)
    if kind == "complex":
        return complex(*inner)
    if kind == "bytes":
        return bytes.fromhex(inner)
    if kind == "range":
        return range(*inner)
    if kind == "dict":
        return {_decoded(k): _decoded(v) for k, v in inner}
    items = [_decoded(one) for one in inner]
    return {"list": list, "tuple": tuple, "set": set, "iterator": iter}[kind](items)
