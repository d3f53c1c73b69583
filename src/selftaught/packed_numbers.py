"""Token ids and log-probabilities as short text: a letter for the size of a number, and base64 of all of them.

`B`, `H` and `I` are unsigned whole numbers of 1, 2 and 4 bytes; `m` are millionths in 4 bytes with a sign, exactly what
six decimals say. Little-endian on every machine. Lists, as an earlier version wrote them, are read too.
"""

from __future__ import annotations

import sys
from array import array
from binascii import a2b_base64, b2a_base64
from collections.abc import Sequence
from typing import Any

SIZES = {"B": 2**8, "H": 2**16, "I": 2**32}
MILLION = 1_000_000
MOST = 2147.0  # absolute value of a number of millionths that fits


def pack_integers(values: Sequence[int]) -> str | list[int]:
    """Whole numbers as text; a list where one is negative or does not fit."""
    if not values:
        return ""
    most, least = max(values), min(values)
    code = next((code for code, size in SIZES.items() if most < size), "")
    return _text(code, array(code, values)) if code and least >= 0 else list(values)


def pack_decimals(values: Sequence[float]) -> str | list[float]:
    """Numbers to six decimals as text; a list where one is not finite or does not fit."""
    if not values:
        return ""
    rounded = [round(value, 6) for value in values]
    if not all(-MOST < value < MOST for value in rounded):  # NaN is not
        return rounded
    return _text("m", array("i", [round(value * MILLION) for value in rounded]))


def unpack(packed: Any) -> tuple[Any, ...]:
    """The numbers that were packed.

    Raises:
        ValueError: it is no packed text.
    """
    if not isinstance(packed, str):
        return tuple(packed)
    if not packed:
        return ()
    code = packed[0]
    if code not in (*SIZES, "m"):
        raise ValueError(f"numbers cannot be of size {code!r}")
    found = array("i" if code == "m" else code)
    found.frombytes(a2b_base64(packed[1:], strict_mode=True))
    if sys.byteorder == "big":
        found.byteswap()
    return tuple([value / MILLION for value in found]) if code == "m" else tuple(found)


def packed_length(packed: Any) -> int:
    """How many numbers there are."""
    return len(unpack(packed)) if isinstance(packed, str) else len(packed)


def _text(code: str, values: array[int]) -> str:
    if sys.byteorder == "big":
        values.byteswap()
    return code + b2a_base64(values.tobytes(), newline=False).decode("ascii")
