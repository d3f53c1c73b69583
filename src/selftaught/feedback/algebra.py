"""Whether two pieces of mathematics are equal: math-verify's word, and what it takes to trust it.

math-verify reads what it can of a text and ignores the rest, holds small numbers equal by six decimal places, and knows
no other base, no ellipsis and no congruence. Here both texts are put in a form that it reads as meant, forms it does
not know are compared piece by piece, and its verdict counts only where every number and letter of both texts
mattered to what it parsed. Otherwise the outcome is None: unknown. For worker processes: imports SymPy.

Source: https://github.com/huggingface/Math-Verify
"""

from __future__ import annotations

import random
import re
from functools import lru_cache
from itertools import permutations
from typing import Any

from selftaught.feedback.canonical import canonical, latex_plain
from selftaught.feedback.expressions import alternatives, is_mathematics, is_words, math_text, parseable

_DIGITS = 30
_CLOSE = 5e-6
_POINTS = 24
_ELLIPSIS = re.compile(r"\\(?:ldots|cdots|dots)(?![a-z])|\.\.\.+")
_MODULUS = re.compile(r"\(?\s*\\?(?:p?mod|bmod)\s*\{?\s*([^{}()]+?)\s*\}?\s*\)?\s*$")
_EQUIVALENT = re.compile(r"\\equiv(?![a-z])|=")
_ASSIGNED = re.compile(r"^\s*[a-zA-Z](?:_\{?\w\}?)?(?:\([a-z]\))?\s*=(?!=)")
_ATOM = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])|\d+")


def same(gold: str, answer: str) -> bool | None:
    """Whether `answer` equals `gold`; None where that cannot be told for certain.

    Raises:
        ValueError: the reference cannot be read.
    """
    gold, answer = parseable(gold), parseable(answer)
    if math_text(gold) == math_text(answer):
        return True
    if is_words(gold):
        if is_words(answer):
            return canonical(latex_plain(gold)) == canonical(latex_plain(answer))
        return False if is_mathematics(answer) else None
    for form, compare in ((_ELLIPSIS, _same_sequence), (_MODULUS, _same_congruence)):
        if form.search(gold) or form.search(answer):
            return compare(gold, answer)
    golds, answers = alternatives(gold), alternatives(answer)
    if len(golds) > 1 or len(answers) > 1:
        return _same_sets(golds, answers)
    return _same(gold, answer)


def _same(gold: str, answer: str) -> bool | None:
    if not is_mathematics(gold) or not is_mathematics(answer):
        return False if is_words(answer) and is_mathematics(gold) else None
    mine, theirs = _parsed(gold), _parsed(answer)
    if mine is None:
        raise ValueError(f"math-verify cannot parse the reference {gold[:80]!r}")
    if theirs is None or not (_all_read(gold) and _all_read(answer)):
        return None
    if _verified(mine, theirs):
        return _as_close(mine, theirs)
    sets = _as_set([gold]), _as_set([answer])
    if sets[0] is not None and sets[1] is not None:
        return bool(sets[0] == sets[1])
    return _identical_on_reals(mine, theirs)


@lru_cache(maxsize=512)
def _parsed(text: str) -> Any:
    """The SymPy object that math-verify reads in a text, or None."""
    from math_verify import parse

    found = parse(f"${text}$", parsing_timeout=None)  # pyright: ignore[reportArgumentType]
    return next((f for f in found if not isinstance(f, str)), None)


def _verified(gold: Any, answer: Any) -> bool:
    from math_verify import verify

    return bool(verify([gold], [answer], timeout_seconds=None))


@lru_cache(maxsize=512)
def _all_read(text: str) -> bool:
    """Whether every number and every letter of a text matters to what is parsed."""
    whole = _parsed(text)
    for m in _ATOM.finditer(
        re.sub(r"\\(?:begin|end)\s*\{[a-zA-Z]+\}(?:\{[lcr|]*\})?", lambda m: " " * len(m[0]), text)
    ):
        if re.search(r"\\mathbb\s*\{?\s*$", text[: m.start()]):
            continue
        other = str(int(m[0]) + 7) if m[0].isdigit() else ("q" if m[0] != "q" else "w")
        changed = _parsed(text[: m.start()] + other + text[m.end() :])
        if changed is None or (changed == whole and str(changed) == str(whole)):
            return False
    return True


def _as_close(gold: Any, answer: Any) -> bool:
    """Whether two values that math-verify holds equal are so relative to their size."""
    try:
        if not (gold.is_number and answer.is_number) or gold.is_infinite:
            return True
        if gold.is_zero:
            return bool(answer.is_zero)
        ratio = complex((answer / gold).evalf(_DIGITS))
    except (AttributeError, TypeError, ValueError, OverflowError):
        return True
    return abs(ratio - 1) < _CLOSE or abs(ratio - 100) < 100 * _CLOSE or abs(ratio - 0.01) < 0.01 * _CLOSE


def _identical_on_reals(gold: Any, answer: Any) -> bool:
    """Whether two expressions agree wherever both are real, as `\\sqrt{1/n}` and `1/\\sqrt{n}` do.

    Tried at random rational points with 30 digits: an identity by chance is out of the question.
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


# --- forms that math-verify does not know ---


def _same_sequence(gold: str, answer: str) -> bool | None:
    """Sequences and sums with an ellipsis: the same where all that is written agrees, another where an end differs."""
    sides = []
    for text in (gold, answer):
        parts = _ELLIPSIS.split(text)
        if len(parts) != 2:
            return None
        sides.append(
            [[item for item in re.split(r"[,+]", part.strip(" ,+()[]{}\\")) if item.strip()] for part in parts]
        )
    (head, tail), (other_head, other_tail) = sides
    ends = [(head[:1], other_head[:1]), (tail[-1:], other_tail[-1:])]
    verdicts = [_each(mine, theirs) for mine, theirs in ends]
    if False in verdicts:
        return False
    if ("+" in gold and "+" not in answer) or ("," in gold and "," not in answer):
        return None
    return True if _each(head, other_head) and _each(tail, other_tail) else None


def _each(golds: list[str], answers: list[str]) -> bool | None:
    if len(golds) != len(answers):
        return None
    verdicts = [
        math_text(g) == math_text(a) or _same(g.strip(), a.strip()) for g, a in zip(golds, answers, strict=True)
    ]
    return False if False in verdicts else None if None in verdicts else True


def _same_congruence(gold: str, answer: str) -> bool | None:
    """`n \\equiv r \\pmod m`: the same residue class."""
    sides = []
    for text in (gold, answer):
        m = _MODULUS.search(text)
        if m is None:
            return None
        left = _EQUIVALENT.split(text[: m.start()])
        sides.append((left[-1].strip().strip("()"), m[1].strip(), "".join(left[:-1]).replace(" ", "")))
    (residue, modulus, name), (other_residue, other_modulus, other_name) = sides
    if not (modulus.isdigit() and other_modulus.isdigit()):
        return None
    if modulus != other_modulus:
        return False
    if not all(re.fullmatch(r"-?\d+", r) for r in (residue, other_residue)):
        return None
    if name and other_name and name != other_name:
        return None
    return (int(residue) - int(other_residue)) % int(modulus) == 0


def _same_sets(golds: list[str], answers: list[str]) -> bool | None:
    """Answers of several values or ranges, joined by "or" or "and": the same, in any order."""
    golds, answers = ([item for part in parts for item in _items(part)] for parts in (golds, answers))
    if all(is_mathematics(part) for part in (*golds, *answers)):
        mine, theirs = _as_set(golds), _as_set(answers)
        if mine is not None and theirs is not None:
            return bool(mine == theirs)
    if len(golds) != len(answers) or len(golds) > 5:
        return False if len(golds) <= 5 and all(is_mathematics(p) for p in (*golds, *answers)) else None
    table = [[math_text(g) == math_text(a) or _same(g, a) for a in answers] for g in golds]
    if any(all(table[i][j] for i, j in enumerate(order)) for order in permutations(range(len(answers)))):
        return True
    return None if any(v is None for row in table for v in row) else False


def _items(part: str) -> list[str]:
    """The values that a part lists, without the name that they are given to."""
    inside = part.strip()
    if inside.startswith("\\{") and inside.endswith("\\}"):
        inside = inside[2:-2]
    pieces = [inside] if re.search(r"[(\[]", inside) else re.split(r",(?!\d{3}(?!\d))", inside)
    return [_ASSIGNED.sub("", piece).strip() for piece in pieces if piece.strip()]


def _as_set(parts: list[str]) -> Any:
    """The union of ranges written as intervals or inequalities of one letter; None where a part is neither."""
    from sympy import Interval, Set, Union

    found = []
    for part in parts:
        try:
            value = _range(_parsed(part))
        except (NotImplementedError, TypeError, ValueError, AttributeError):
            return None
        if (
            not isinstance(value, Set)
            or not (value.has(Interval) or isinstance(value, Interval))
            or not _all_read(part)
        ):
            return None
        found.append(value)
    return Union(*found)


def _range(value: Any) -> Any:
    """The set of an inequality, or of several that hold together; anything else as it is."""
    from sympy import Intersection
    from sympy.core.relational import Equality, Relational

    if isinstance(value, Relational) and not isinstance(value, Equality) and len(value.free_symbols) == 1:
        return value.as_set()
    if type(value).__name__ == "And":
        return Intersection(*(_range(part) for part in value.args))
    return value
