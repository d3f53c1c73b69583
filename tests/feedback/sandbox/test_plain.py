"""Plain data crosses as JSON and comes back as it was, of base types alone."""

from __future__ import annotations

import importlib.util
import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from selftaught.feedback.sandbox.bubblewrap import INSIDE

_spec = importlib.util.spec_from_file_location("plain_inside", INSIDE / "plain.py")
assert _spec
assert _spec.loader
plain = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(plain)

keys = st.none() | st.booleans() | st.integers() | st.text() | st.binary() | st.floats(allow_nan=False)
values = st.recursive(
    keys | st.complex_numbers(allow_nan=False),
    lambda inner: st.lists(inner) | st.tuples(inner, inner) | st.dictionaries(keys, inner) | st.sets(keys),
    max_leaves=20,
)


def alike(a: Any, b: Any) -> bool:
    """Equal, and of the same types throughout."""
    if type(a) is not type(b):
        return False
    if isinstance(a, (list, tuple)):
        return len(a) == len(b) and all(map(alike, a, b))
    if isinstance(a, dict):
        return len(a) == len(b) and all(map(alike, a.items(), b.items()))
    return a == b


@given(values)
def test_it_comes_back(value: Any) -> None:
    line = plain.dumps(value)
    assert "\n" not in line
    assert alike(plain.loads(line), value)


def test_what_is_of_a_class_of_its_own_comes_back_as_its_base() -> None:
    class Liar(int):
        def __eq__(self, other: object) -> bool:
            return True

        __hash__ = int.__hash__

    class List(list[int]):
        def __iter__(self) -> Any:
            return iter([9])

    assert type(plain.loads(plain.dumps(Liar(3)))) is int
    assert plain.loads(plain.dumps(Liar(3))) != 4
    assert plain.loads(plain.dumps(List([1, 2]))) == [1, 2]
    assert math.isnan(plain.loads(plain.dumps(math.nan)))
    assert list(plain.loads(plain.dumps(iter([1, 2])))) == [1, 2]


@pytest.mark.parametrize("value", [object(), len, type, [object()], {"a": {1: object()}}])
def test_anything_else_is_refused(value: Any) -> None:
    with pytest.raises(plain.NotPlain):
        plain.dumps(value)


def test_what_contains_itself_or_is_too_long_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    for value in (loop, "x" * 5_000_000):
        with pytest.raises(plain.NotPlain):
            plain.dumps(value)
