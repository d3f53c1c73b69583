"""Plain data as JSON: numbers, text, bytes, lists, tuples, dicts, sets and iterators, told apart and built anew.

What is rebuilt has the base type, never a class of the sender's, whose `__eq__` might say what it likes.
"""

import json
import sys
from collections import deque
from typing import Any

LARGEST = 4_000_000
"""Characters of a message."""
MOST_ITEMS = 100_000
"""Items of an iterator that are sent; who asks for more gets an exception."""
LONGEST_RANGE = 10_000_000

_SEQUENCES: tuple[tuple[str, Any], ...] = (
    ("list", list), ("tuple", tuple), ("set", set), ("frozenset", frozenset), ("deque", deque),
)  # fmt: skip
_VIEWS = (type({}.keys()), type({}.values()), type({}.items()))
_BY_TEXT = ("decimal.Decimal", "fractions.Fraction")


class NotPlain(TypeError):
    """A value that is no plain data."""


def dumps(value: Any, *, iterators: bool = True) -> str:
    """One line of JSON.

    Args:
        iterators: whether iterators are sent, which uses them up.

    Raises:
        NotPlain: it is no plain data, is nested too deeply, or is longer than `LARGEST`.
    """
    try:
        line = json.dumps(_encoded(value, iterators))
    except RecursionError:
        raise NotPlain("what is nested too deeply, or contains itself") from None
    if len(line) > LARGEST:
        raise NotPlain(f"more than {LARGEST:,} characters")
    return line


def loads(line: str) -> Any:
    """The value of a line of `dumps`."""
    return _decoded(json.loads(line))


def _encoded(value: Any, iterators: bool) -> Any:
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
        return {"dict": [[_encoded(k, iterators), _encoded(v, iterators)] for k, v in dict.items(value)]}
    for name, kind in _SEQUENCES:
        if isinstance(value, kind):
            return {name: [_encoded(one, iterators) for one in kind.__iter__(value)]}
    if isinstance(value, range) and len(value) <= LONGEST_RANGE:
        return {"range": [value.start, value.stop, value.step]}
    for name in _BY_TEXT:
        if isinstance(value, _known(name)):
            return {name: str(value)}
    if iterators and (hasattr(value, "__next__") or isinstance(value, _VIEWS)):
        items = [_encoded(one, iterators) for one, _ in zip(value, range(MOST_ITEMS + 1), strict=False)]
        return {"iterator": items}
    raise NotPlain(f"a {type(value).__name__}")


def _known(name: str) -> Any:
    """A type by its module and name, if its module is loaded."""
    module, _, kind = name.partition(".")
    return getattr(sys.modules.get(module), kind, ())


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
    if kind in _BY_TEXT:
        module, _, name = kind.partition(".")
        return getattr(__import__(module), name)(inner)
    items = [_decoded(one) for one in inner]
    return _iterator(items) if kind == "iterator" else dict(_SEQUENCES)[kind](items)


def _iterator(items: list[Any]) -> Any:
    yield from items[:MOST_ITEMS]
    if len(items) > MOST_ITEMS:
        raise OverflowError(f"more than {MOST_ITEMS:,} items were asked of an iterator")
