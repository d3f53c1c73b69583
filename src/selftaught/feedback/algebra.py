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

from selftaught.feedback.canonical import canonical, number_from_latex
from selftaught.feedback.expressions import (
    alternatives,
    connectives,
    is_based,
    is_mathematics,
    is_words,
    normalize_math,
    to_parseable,
)

_DIGITS = 30
_CLOSE = 5e-6
_POINTS = 24
_ELLIPSIS = re.compile(r"\\(?:ldots|cdots|dots)(?![a-z])|\.\.\.+")
_MODULUS = re.compile(r"\\?(?:p?mod|bmod)\s*+[({]?\s*+([^{}()\s]+)\s*+[)}]?\s*+\)?\s*+$")
_EQUIVALENT = re.compile(r"\\equiv(?![a-z])|=")
_ASSIGNED = re.compile(r"^\s*[a-zA-Z](?:_\{?\w\}?)?(?:\([a-z]\))?\s*=(?!=)")
_PLAIN_DEGREES = re.compile(r"[-\d.\s^{}]*\\circ[-\d.\s^{}]*")
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\s*\{[a-zA-Z]+\}(?:\{[lcr|]*\})?")
_MOST_ATOMS = 12
_ATOM = re.compile(r"(?<![\\a-zA-Z])[a-zA-Z](?![a-zA-Z])|\d+")


def same_mathematics(gold: str, answer: str) -> bool | None:
    """Whether `answer` equals `gold`; None where that cannot be told for certain.

    Raises:
        ValueError: the reference cannot be read.
    """
    based = is_based(gold), is_based(answer)
    gold, answer = to_parseable(gold), to_parseable(answer)
    if normalize_math(gold) == normalize_math(answer) and based[0] == based[1]:
        return True
    if based[0] != based[1]:  # the base may be understood
        return None
    if is_words(gold):
        return _same_words(gold, answer) if is_words(answer) else None
    for form, compare in ((_ELLIPSIS, _same_sequence), (_MODULUS, _same_congruence)):
        if form.search(gold) or form.search(answer):
            return compare(gold, answer)
    golds, answers = alternatives(gold), alternatives(answer)
    if len(golds) > 1 or len(answers) > 1 or len(_assignments(golds)) > 1:
        return _same_statements(golds, answers, connectives(gold), connectives(answer))
    return _same(gold, answer)


def _same_words(gold: str, answer: str) -> bool | None:
    """Words are the same or not; of several words, other ones may say the same."""
    mine, theirs = (re.sub(r"^(?:an?|the) ", "", canonical(number_from_latex(text))) for text in (gold, answer))
    if mine == theirs:
        return True
    return False if " " not in mine + theirs and not {"dne", "none", "undefined"} & {mine, theirs} else None


def _same(gold: str, answer: str) -> bool | None:
    if not is_mathematics(gold) or not is_mathematics(answer):
        return False if is_words(answer) and is_mathematics(gold) else None
    shapes = {_shape(gold), _shape(answer)} - {""}
    if shapes == {"tuple", "interval"} and "\\cup" not in gold + answer:  # one bracket at least is another
        return False
    if len(shapes) > 1 and shapes != {"set", "list"}:
        return None
    if shapes == {"list"} and _shape(gold) != _shape(answer):  # "0,5" may be a decimal
        return None
    if _names_differ(gold, answer):
        return None
    if ("\\circ" in gold) != ("\\circ" in answer) and not _PLAIN_DEGREES.fullmatch(gold + answer):
        return None
    if ("%" in gold) != ("%" in answer) and "," in gold:
        return None
    if "=" in gold and "=" not in answer and not _ASSIGNED.match(gold):  # x + y = 3 is no 3
        return None
    mine, theirs = _parsed(gold), _parsed(answer)
    if mine is None:
        raise ValueError(f"math-verify cannot parse the reference {gold[:80]!r}")
    if theirs is None or not (_all_read(gold) and _all_read(answer)):
        return None
    if _verified(mine, theirs):
        if "interval" in shapes and (gold.strip()[-1], answer.strip()[-1]) in ((")", "]"), ("]", ")")):
            return None
        lists = shapes <= {"set", "list"} and "(" not in gold + answer
        return _as_close(mine, theirs) and not (lists and _lengths(gold) != _lengths(answer) and shapes)
    if (equal := _complex_equal(mine, theirs)) is not None:
        return equal
    if _rounded(mine, theirs) or _renamed(mine, theirs):  # an approximation, or another name for an arbitrary constant
        return None
    sets = _as_set([gold]), _as_set([answer])
    if sets[0] is not None and sets[1] is not None:
        return None if len(_letters([gold, answer])) > 1 else bool(sets[0] == sets[1])
    return _identical_on_reals(mine, theirs)


def _shape(text: str) -> str:
    """Whether a text is a "tuple", a "set", an "interval" or a bare "list"; "" where it is one value."""
    bare = text.strip()
    if not _lengths(bare):
        return ""
    if bare.startswith("\\{"):
        return "set"
    if re.search(r"\\c[ua]p(?![a-z])", bare):
        return "interval"
    if bare[:1] + bare[-1:] in ("()", "[]", "[)", "(]") and _enclosed(bare):
        return "interval" if "[" in bare or "]" in bare or "\\infty" in bare else "tuple"
    return "list"


def _enclosed(text: str) -> bool:
    """Whether the bracket that opens a text is closed by its last character alone."""
    depth = 0
    for i, c in enumerate(text):
        depth += (c in "([") - (c in ")]")
        if depth <= 0:
            return i == len(text) - 1
    return False


def _lengths(text: str) -> int:
    """Number of commas between the items of a list, a tuple or a set."""
    inside = text.strip()
    if inside[:1] in "([" and inside[-1:] in ")]" and _enclosed(inside):
        inside = inside[1:-1]
    inside, count, depth = inside.removeprefix("\\{").removesuffix("\\}"), 0, 0
    for c in inside[:2000]:
        depth += (c in "([") - (c in ")]")
        count += c == "," and depth == 0
    return count


def _complex_equal(gold: Any, answer: Any) -> bool | None:
    """Whether two expressions are equal with i as the imaginary unit; None where no i is in them, or it is unclear."""
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


def _names_differ(gold: str, answer: str) -> bool:
    """Whether two statements give a value to different names."""
    mine, theirs = _ASSIGNED.match(gold), _ASSIGNED.match(answer)
    return bool(mine and theirs) and mine[0].replace(" ", "") != theirs[0].replace(" ", "")  # pyright: ignore


def _rounded(gold: Any, answer: Any) -> bool:
    """Whether one of two numbers is a decimal near the other, which is none."""
    from sympy import Float

    try:
        if not (gold.is_number and answer.is_number) or gold.has(Float) == answer.has(Float):
            return False
        return abs(complex((answer / gold).evalf(_DIGITS)) - 1) < 2e-3
    except (AttributeError, TypeError, ValueError, OverflowError, ZeroDivisionError):
        return False


def _renamed(gold: Any, answer: Any) -> bool:
    """Whether two expressions are equal but for the name of one symbol, which may be an arbitrary constant."""
    ours, others = (set(getattr(e, "free_symbols", ())) for e in (gold, answer))
    mine, theirs = ours - others, others - ours
    if len(mine) != 1 or len(theirs) != 1 or (len(ours) < 2 and str(next(iter(mine))) not in "knC"):
        return False
    return _verified(gold, answer.subs(theirs.pop(), mine.pop()))


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
    plain = _ENVIRONMENT.sub(lambda m: " " * len(m[0]), text)
    places = [m for m in _ATOM.finditer(plain) if not re.search(r"\\mathbb\s*\{?\s*$", text[: m.start()])]
    if len(places) > _MOST_ATOMS:  # each kind of them at once, as every reading takes milliseconds
        groups = [[m for m in places if m[0] == atom] for atom in dict.fromkeys(m[0] for m in places)]
    else:
        groups = [[m] for m in places]
    for group in groups:
        changed = text
        for m in reversed(group):
            other = str(int(m[0]) + 7) if m[0].isdigit() else ("q" if m[0] != "q" else "w")
            changed = changed[: m.start()] + other + changed[m.end() :]
        found = _parsed(changed)
        if found is None or (found == whole and str(found) == str(whole)):
            return False
    return True


def _as_close(gold: Any, answer: Any) -> bool:
    """Whether two values that math-verify holds equal are so relative to their size."""
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
        normalize_math(g) == normalize_math(a) or _same(g.strip(), a.strip())
        for g, a in zip(golds, answers, strict=True)
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


def _same_statements(golds: list[str], answers: list[str], ours: frozenset[str], theirs: frozenset[str]) -> bool | None:
    """Several statements joined by "or" or "and": the same ranges, or the same values, in any order."""
    if len(ours | theirs) > 1 and any(re.search(r"[<>]|\\[lg]e?q?(?![a-z])", part) for part in (*golds, *answers)):
        return _same_ranges(golds, answers, ours, theirs)
    named = [_assignments(parts) for parts in (golds, answers)]
    if any(len(names) > 1 for names in named):  # x = 1, y = 2: each value has its name
        mine, other = named
        if len(mine) != len(other) or set(mine) != set(other):
            return None
        return _each(list(mine.values()), [other[name] for name in mine])
    golds, answers = ([item for part in parts for item in _items(part)] for parts in (golds, answers))
    if all(is_mathematics(part) for part in (*golds, *answers)):
        mine, other = _as_set(golds), _as_set(answers)
        if mine is not None and other is not None:
            return None if len(_letters([*golds, *answers])) > 1 else bool(mine == other)
    if len(golds) != len(answers) or len(golds) > 5:
        return False if len(golds) <= 5 and all(is_mathematics(p) for p in (*golds, *answers)) else None
    table = [[normalize_math(g) == normalize_math(a) or _same(g, a) for a in answers] for g in golds]
    if any(all(table[i][j] for i, j in enumerate(order)) for order in permutations(range(len(answers)))):
        return True
    return None if any(v is None for row in table for v in row) else False


def _same_ranges(golds: list[str], answers: list[str], ours: frozenset[str], theirs: frozenset[str]) -> bool | None:
    """Ranges where "and" joins some and "or" others; None where a side has both words or is no range."""
    if len(_letters([*golds, *answers])) > 1:
        return None
    sides = []
    for parts, words in ((golds, ours), (answers, theirs)):
        if len(words) > 1 or (found := _as_set(parts, intersect=words == {"and"})) is None:
            return None
        sides.append(found)
    return bool(sides[0] == sides[1])


def _assignments(parts: list[str]) -> dict[str, str]:
    """Name -> value, of statements that each give one name a value."""
    pieces = [piece for part in parts for piece in re.split(r",(?!\d{3}(?!\d))", part)]
    found = [
        (m[0].partition("=")[0].strip(), piece[m.end() :].strip()) for piece in pieces if (m := _ASSIGNED.match(piece))
    ]
    return dict(found) if len(found) == len(pieces) else {}


def _items(part: str) -> list[str]:
    """The values that a part lists, without the name that they are given to."""
    inside = part.strip()
    if inside.startswith("\\{") and inside.endswith("\\}"):
        inside = inside[2:-2]
    pieces = _split(inside)
    return [_ASSIGNED.sub("", piece).strip() for piece in pieces if piece.strip()]


def _split(text: str) -> list[str]:
    """The pieces between the commas that stand in no bracket; digits grouped in threes stay together."""
    if _shape(text) in ("tuple", "interval"):
        return [text]
    pieces, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth <= 0 and not re.match(r"\d{3}(?!\d)", text[i + 1 :]):
            pieces.append(text[start:i])
            start = i + 1
    return [*pieces, text[start:]]


def _as_set(parts: list[str], *, intersect: bool = False) -> Any:
    """The union of ranges written as intervals or inequalities of one letter; None where a part is neither."""
    from sympy import Intersection, Interval, Set, Union

    if len(_letters(parts)) > 1:  # x < 1 or y > 2
        return None
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
    return Intersection(*found) if intersect else Union(*found)


def _letters(parts: list[str]) -> set[Any]:
    """The letters of which some statements are."""
    return {letter for part in parts for letter in getattr(_parsed(part), "free_symbols", ())}


def _range(value: Any) -> Any:
    """The set of an inequality, or of several that hold together; anything else as it is."""
    from sympy import Intersection
    from sympy.core.relational import Equality, Relational

    if isinstance(value, Relational) and not isinstance(value, Equality) and len(value.free_symbols) == 1:
        return value.as_set()
    if type(value).__name__ == "And":
        return Intersection(*(_range(part) for part in value.args))
    return value
