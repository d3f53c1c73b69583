"""Compare parsed mathematics: math-verify's parser and verdict, with SymPy checks of undecided cases.

For worker processes: imports SymPy. Source: https://github.com/huggingface/Math-Verify
"""

from __future__ import annotations

import random
import re
from functools import lru_cache
from typing import Any

_DIGITS = 30
_CLOSE = 5e-6
_POINTS = 24
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[a-zA-Z]+\}(?:\{[lcr|]*\})?")
_MAX_ATOMS = 12
_ATOM = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])|\d+")


def equal_as_complex(gold: Any, answer: Any) -> bool | None:
    """Whether two expressions are equal with i as the imaginary unit; None if neither has an i, or it is unclear."""
    from sympy import Expr, I, simplify

    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return None
    units = [s for s in gold.free_symbols | answer.free_symbols if str(s) == "i"]
    if not units and not (gold.doit().has(I) or answer.doit().has(I)):
        return None
    try:
        rest = simplify((gold - answer).doit().subs([(unit, I) for unit in units]))
    except (TypeError, ValueError, AttributeError):
        return None
    if rest.is_number and abs(complex(rest.evalf(_DIGITS))) < 1e-12:
        return True
    return False if rest.is_number else None


def is_rounding(gold: Any, answer: Any) -> bool:
    """Whether one of two numbers is a decimal near the other, and the other is not a decimal."""
    from sympy import Float

    try:
        if not (gold.is_number and answer.is_number) or gold.has(Float) == answer.has(Float):
            return False
        return abs(complex((answer / gold).evalf(_DIGITS)) - 1) < 2e-3
    except (AttributeError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return False


def is_renaming(gold: Any, answer: Any) -> bool:
    """Whether two expressions are equal up to the name of one symbol, which may be an arbitrary constant."""
    ours, others = (set(getattr(e, "free_symbols", ())) for e in (gold, answer))
    mine, theirs = ours - others, others - ours
    if len(mine) != 1 or len(theirs) != 1 or (len(ours) < 2 and str(next(iter(mine))) not in "knC"):
        return False
    return math_verify_equal(gold, answer.subs(theirs.pop(), mine.pop()))


@lru_cache(maxsize=512)
def parse_math(text: str) -> Any:
    """The SymPy object that math-verify parses from a text, or None."""
    from math_verify import parse

    found = parse(f"${text}$", parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    return next((f for f in found if not isinstance(f, str)), None)


def math_verify_equal(gold: Any, answer: Any) -> bool:
    """Return math-verify's verdict on two parsed objects."""
    from math_verify import verify

    return bool(verify([gold], [answer], timeout_seconds=None))


@lru_cache(maxsize=512)
def is_fully_parsed(text: str) -> bool:
    """Whether every number and every letter of a text affects what is parsed."""
    whole = parse_math(text)
    plain = _ENVIRONMENT.sub(lambda m: " " * len(m[0]), text)
    places = [m for m in _ATOM.finditer(plain) if not re.search(r"\\mathbb\s*\{?\s*$", text[: m.start()])]
    if len(places) > _MAX_ATOMS:  # test each kind at once: every parse takes milliseconds
        groups = [[m for m in places if m[0] == atom] for atom in dict.fromkeys(m[0] for m in places)]
    else:
        groups = [[m] for m in places]
    for group in groups:
        changed = text
        for m in reversed(group):
            other = str(int(m[0]) + 7) if m[0].isdigit() else ("q" if m[0] != "q" else "w")
            changed = changed[: m.start()] + other + changed[m.end() :]
        found = parse_math(changed)
        if found is None or (found == whole and str(found) == str(whole)):
            return False
    return True


def close_in_ratio(gold: Any, answer: Any) -> bool:
    """Whether two values that math-verify considers equal are equal relative to their size."""
    from sympy import Float

    try:
        if not (gold.is_number and answer.is_number) or gold.is_infinite:
            return True
        if gold.is_zero:
            return bool(answer.is_zero)
        ratio = (answer / gold).evalf(_DIGITS)
        if not (gold.has(Float) or answer.has(Float)):
            return bool(abs(ratio - 1) < 1e-20 or abs(ratio - 100) < 1e-18 or abs(ratio * 100 - 1) < 1e-20)
        ratio = complex(ratio)
    except (AttributeError, TypeError, ValueError, OverflowError):
        return True
    return abs(ratio - 1) < _CLOSE or abs(ratio - 100) < 100 * _CLOSE or abs(ratio - 0.01) < 0.01 * _CLOSE


def identical_on_reals(gold: Any, answer: Any) -> bool:
    """Whether two expressions agree wherever either is real, as `\\sqrt{1/n}` and `1/\\sqrt{n}` do.

    Tried at random rational points with 30 digits: equality by chance is negligible.
    """
    from sympy import Expr, Rational

    if not (isinstance(gold, Expr) and isinstance(answer, Expr)):
        return False
    symbols = sorted(gold.free_symbols, key=str)
    if not symbols or len(symbols) > 4 or gold.free_symbols != answer.free_symbols:
        return False
    source, met = random.Random(0), 0
    for _ in range(_POINTS):
        point = [(s, Rational(source.randint(-900, 900), source.randint(7, 97))) for s in symbols]
        try:
            one, two = (complex(e.subs(point).evalf(_DIGITS)) for e in (gold, answer))
        except (TypeError, ValueError, OverflowError, ZeroDivisionError):
            continue
        if abs(one.imag) > 1e-12 * abs(one) and abs(two.imag) > 1e-12 * abs(two):
            continue
        if abs(one - two) > 1e-12 * max(abs(one), abs(two)):
            return False
        met += 1
    return met >= _POINTS // 4


def union_of_ranges(parts: list[str], *, intersect: bool = False) -> Any:
    """The union of ranges written as intervals or inequalities of one letter; None if a part is neither."""
    from sympy import Intersection, Interval, Set, Union

    if len(free_letters(parts)) > 1:  # x < 1 or y > 2
        return None
    found = []
    for part in parts:
        try:
            value = _range(parse_math(part))
        except (NotImplementedError, TypeError, ValueError, AttributeError):
            return None
        if (
            not isinstance(value, Set)
            or not (value.has(Interval) or isinstance(value, Interval))
            or not is_fully_parsed(part)
        ):
            return None
        found.append(value)
    return Intersection(*found) if intersect else Union(*found)


def free_letters(parts: list[str]) -> set[Any]:
    """The letters that occur in statements."""
    return {letter for part in parts for letter in getattr(parse_math(part), "free_symbols", ())}


def _range(value: Any) -> Any:
    """The solution set of an inequality or a conjunction of them; anything else unchanged."""
    from sympy import Intersection
    from sympy.core.relational import Equality, Relational

    if isinstance(value, Relational) and not isinstance(value, Equality) and len(value.free_symbols) == 1:
        return value.as_set()
    if type(value).__name__ == "And":
        return Intersection(*(_range(part) for part in value.args))
    return value
