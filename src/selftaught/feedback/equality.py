"""Group equal answers in a vote: equality by value, in process.

`equality_key("\\frac{x}{2}") == equality_key("x/2")`, and `(x+1)^2` and `x^2+2x+1` share a key. An expression of
numbers, one-letter names, `+ - * / ^`, roots and fractions is evaluated at fixed irrational points by the parser below
(nothing is executed); every other answer is its own key. Two expressions that agree to nine digits at both points are
taken as equal; a coincidence is negligible.
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from selftaught.feedback.canonical import MAX_ANSWER, canonical_number
from selftaught.feedback.expressions import to_parseable

_TOKEN = re.compile(r"\s*(\d+\.?\d*|\.\d+|\\[a-zA-Z]+|[a-zA-Z]|\*\*|[-+*/^(){}!])")
_WORTH_READING = re.compile(r"\\|[-+*/^\u221a\u03c0]|\d\s*[a-zA-Z(]")
_MAX_TOKENS = 200
_MAX_DEPTH = 40
_CONSTANTS = {"\\pi": math.pi, "e": math.e}
_SIGNS = {"\\cdot": "*", "\\times": "*", "\\div": "/", "**": "^", "\\left": "", "\\right": ""}


@lru_cache(maxsize=8192)
def equality_key(answer: str) -> str:
    """A key shared by equal answers; see the module.

    Args:
        answer: in canonical form.
    """
    if (number := canonical_number(answer)) is not None:
        return number
    if len(answer) > MAX_ANSWER or not _WORTH_READING.search(answer) or re.search(r"(?<!\\)\b[a-zA-Z]{2,}", answer):
        return answer
    try:
        values = [_Reader(to_parseable(answer), shift).value() for shift in (0.0, 0.318309886)]
        return " ".join(f"{part:.9g}" for value in values for part in (value.real + 0.0, value.imag + 0.0))
    except (ValueError, ZeroDivisionError, OverflowError):
        return answer


def same_answer(one: str | None, other: str | None) -> bool:
    """Whether two answers are equal by value; None equals only None."""
    if one is None or other is None:
        return one is other
    return equality_key(one) == equality_key(other)


class _Reader:
    """A recursive-descent evaluator; letters stand for fixed numbers between 1 and 3.

    Raises:
        ValueError: the text is not an expression of the kind described above, or is too long or deeply nested.
    """

    def __init__(self, text: str, shift: float) -> None:
        self.tokens, self.at, self.depth, self.shift = _tokens(text), 0, 0, shift

    def value(self) -> complex:
        found = self._sum()
        if self.at < len(self.tokens):
            raise ValueError("unexpected text after the expression")
        if not (math.isfinite(found.real) and math.isfinite(found.imag)):
            raise ValueError("not finite")
        return found

    def _peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def _take(self) -> str:
        self.at += 1
        return self.tokens[self.at - 1] if self.at <= len(self.tokens) else ""

    def _sum(self) -> complex:
        self.depth += 1
        if self.depth > _MAX_DEPTH:
            raise ValueError("too deep")
        total = self._product()
        while self._peek() in ("+", "-"):
            total = total + self._product() if self._take() == "+" else total - self._product()
        self.depth -= 1
        return total

    def _product(self) -> complex:
        negative = False
        while self._peek() in ("+", "-"):
            negative ^= self._take() == "-"
        total = self._power()
        while (sign := self._peek()) and sign not in ("+", "-", ")", "}", "^", "!"):
            if sign in ("*", "/"):
                self._take()
            total = (
                total / self._signed() if sign == "/" else total * (self._signed() if sign == "*" else self._power())
            )
        return -total if negative else total

    def _signed(self) -> complex:
        return -self._signed() if self._peek() == "-" and self._take() else self._power()

    def _power(self) -> complex:
        base = self._atom()
        if self._peek() == "^":
            self._take()
            return complex(base) ** self._signed()
        return base

    def _atom(self) -> complex:
        token = self._take()
        if token[:1].isdigit() or token[:1] == ".":
            return complex(float(token))
        if token in ("(", "{"):
            inside = self._sum()
            if self._take() != {"(": ")", "{": "}"}[token]:
                raise ValueError("unclosed bracket")
            return inside
        if token == "\\frac":
            return self._group() / self._group()
        if token == "\\sqrt":
            return self._group() ** 0.5
        if token in _CONSTANTS:
            return complex(_CONSTANTS[token])
        if len(token) == 1 and token.isalpha():
            return complex(1 + (ord(token) * math.sqrt(2) + self.shift) % 2)
        raise ValueError(f"unsupported token {token!r}")

    def _group(self) -> complex:
        if self._peek() != "{":
            raise ValueError("command without braces")
        return self._atom()


def _tokens(text: str) -> list[str]:
    found, at = [], 0
    while at < len(text.rstrip()):
        m = _TOKEN.match(text, at)
        if m is None or len(found) >= _MAX_TOKENS:
            raise ValueError("not an expression")
        if token := _SIGNS.get(m[1], m[1]):
            found.append(token)
        at = m.end()
    return found
