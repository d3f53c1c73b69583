"""Sums, differences and products of small whole numbers, and common errors."""

from __future__ import annotations

import re

from selftaught.worlds.underfit.say import WriteStep

MAX_NUMBER = 999
_LINE = re.compile(r"(\d{1,4})([-+*])(\d{1,4})=(\d{1,5})")


def apply(a: int, op: str, b: int) -> int:
    """`a op b` for +, - and *."""
    return a + b if op == "+" else a - b if op == "-" else a * b


def skill(a: int, op: str, b: int) -> str:
    """The difficulty of a step: "plain", "carry" or "heavy" (wrong more often than right).

    As for people, a sum or product is easier with the smaller digit in front.
    """
    x, y = a % 10, b % 10
    if op == "+":
        return "plain" if x + y < 10 else "heavy" if x >= y and x + y > 10 else "carry"
    if op == "-":
        return "plain" if x >= y else "carry" if y - x < 4 else "heavy"
    return "plain" if x * y < 12 else "heavy" if x >= y and x * y > 12 else "carry"


def slips(a: int, op: str, b: int) -> list[str]:
    """Common errors, most frequent first: a dropped carry, a missed borrow, an adjacent table entry."""
    right = apply(a, op, b)
    off = {"+": -10, "-": 10, "*": -b if b > 1 else 1}[op] if skill(a, op, b) != "plain" else 1
    return [str(abs(right + off + by)) for by in (0, 1, -1)]


def work(a: int, op: str, b: int, say: WriteStep) -> int:
    """The result that a writer gives for `a op b`."""
    return int(say(skill(a, op, b), str(apply(a, op, b)), slips(a, op, b)))


def turned(a: int, op: str, b: int, say: WriteStep) -> tuple[int, int]:
    """The numbers of a step in written order; sums and products may be written in either order."""
    return (b, a) if op != "-" and a != b and say("way", "as given", ["turned"]) == "turned" else (a, b)


def read_line(line: str) -> tuple[int, str, int, int] | None:
    """`27+38=65` as (27, "+", 38, 65), or None."""
    m = _LINE.fullmatch(line)
    return (int(m[1]), m[2], int(m[3]), int(m[4])) if m else None
