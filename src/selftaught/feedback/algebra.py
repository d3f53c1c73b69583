"""Decide whether two mathematical expressions are equal: math-verify's verdict, with checks that make it reliable.

math-verify parses what it can of a text and ignores the rest, compares small numbers to six decimal places, and does
not support other bases, ellipses or congruences. Here both texts are rewritten into a form that it parses as intended,
unsupported forms are compared piece by piece, and its verdict counts only if every number and letter of both texts
affected what it parsed. Otherwise the result is None: unknown. For worker processes: imports SymPy.

Source: https://github.com/huggingface/Math-Verify
"""

from __future__ import annotations

import re
from itertools import permutations

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
from selftaught.feedback.symbolic import (
    close_in_ratio,
    equal_as_complex,
    free_letters,
    identical_on_reals,
    is_fully_parsed,
    is_renaming,
    is_rounding,
    math_verify_equal,
    parse_math,
    union_of_ranges,
)

_ELLIPSIS = re.compile(r"\\(?:ldots|cdots|dots)(?![a-z])|\.\.\.+")
_MODULUS = re.compile(r"\\?(?:p?mod|bmod)\s*+[({]?\s*+([^{}()\s]+)\s*+[)}]?\s*+\)?\s*+$")
_EQUIVALENT = re.compile(r"\\equiv(?![a-z])|=")
_ASSIGNED = re.compile(r"^\s*[a-zA-Z](?:_\{?\w\}?)?(?:\([a-z]\))?\s*=(?!=)")
_PLAIN_DEGREES = re.compile(r"[-\d.\s^{}]*\\circ[-\d.\s^{}]*")


def same_mathematics(gold: str, answer: str) -> bool | None:
    """Whether `answer` equals `gold`; None if undecided.

    Raises:
        ValueError: the reference cannot be read.
    """
    based = is_based(gold), is_based(answer)
    gold, answer = to_parseable(gold), to_parseable(answer)
    if normalize_math(gold) == normalize_math(answer) and based[0] == based[1]:
        return True
    if based[0] != based[1]:  # the base may be implied
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
    """Compare words: a single word must match; several words that differ are undecided, as they may be synonyms."""
    mine, theirs = (re.sub(r"^(?:an?|the) ", "", canonical(number_from_latex(text))) for text in (gold, answer))
    if mine == theirs:
        return True
    return False if " " not in mine + theirs and not {"dne", "none", "undefined"} & {mine, theirs} else None


def _same(gold: str, answer: str) -> bool | None:
    if not is_mathematics(gold) or not is_mathematics(answer):
        return False if is_words(answer) and is_mathematics(gold) else None
    shapes = {_shape(gold), _shape(answer)} - {""}
    if shapes == {"tuple", "interval"} and "\\cup" not in gold + answer:  # at least one bracket differs
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
    if "=" in gold and "=" not in answer and not _ASSIGNED.match(gold):  # x + y = 3 is not 3
        return None
    mine, theirs = parse_math(gold), parse_math(answer)
    if mine is None:
        raise ValueError(f"math-verify cannot parse the reference {gold[:80]!r}")
    if theirs is None or not (is_fully_parsed(gold) and is_fully_parsed(answer)):
        return None
    if math_verify_equal(mine, theirs):
        if "interval" in shapes and (gold.strip()[-1], answer.strip()[-1]) in ((")", "]"), ("]", ")")):
            return None
        lists = shapes <= {"set", "list"} and "(" not in gold + answer
        return close_in_ratio(mine, theirs) and not (lists and _lengths(gold) != _lengths(answer) and shapes)
    if (equal := equal_as_complex(mine, theirs)) is not None:
        return equal
    if is_rounding(mine, theirs) or is_renaming(mine, theirs):  # may be intended
        return None
    sets = union_of_ranges([gold]), union_of_ranges([answer])
    if sets[0] is not None and sets[1] is not None:
        return None if len(free_letters([gold, answer])) > 1 else bool(sets[0] == sets[1])
    return identical_on_reals(mine, theirs)


def _shape(text: str) -> str:
    """Whether a text is a "tuple", a "set", an "interval" or a bare "list"; "" if it is one value."""
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


def _names_differ(gold: str, answer: str) -> bool:
    """Whether two statements assign values to different names."""
    mine, theirs = _ASSIGNED.match(gold), _ASSIGNED.match(answer)
    return bool(mine and theirs) and mine[0].replace(" ", "") != theirs[0].replace(" ", "")  # pyright: ignore


# --- forms that math-verify does not support ---


def _same_sequence(gold: str, answer: str) -> bool | None:
    """Compare sequences and sums with an ellipsis: equal if all written terms agree, different if an end differs."""
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
    if any(len(names) > 1 for names in named):  # x = 1, y = 2: each value has a name
        mine, other = named
        if len(mine) != len(other) or set(mine) != set(other):
            return None
        return _each(list(mine.values()), [other[name] for name in mine])
    golds, answers = ([item for part in parts for item in _items(part)] for parts in (golds, answers))
    if all(is_mathematics(part) for part in (*golds, *answers)):
        mine, other = union_of_ranges(golds), union_of_ranges(answers)
        if mine is not None and other is not None:
            return None if len(free_letters([*golds, *answers])) > 1 else bool(mine == other)
    if len(golds) != len(answers) or len(golds) > 5:
        return False if len(golds) <= 5 and all(is_mathematics(p) for p in (*golds, *answers)) else None
    table = [[normalize_math(g) == normalize_math(a) or _same(g, a) for a in answers] for g in golds]
    if any(all(table[i][j] for i, j in enumerate(order)) for order in permutations(range(len(answers)))):
        return True
    return None if any(v is None for row in table for v in row) else False


def _same_ranges(golds: list[str], answers: list[str], ours: frozenset[str], theirs: frozenset[str]) -> bool | None:
    """Ranges where "and" joins some and "or" others; None if a side has both words or is not a range."""
    if len(free_letters([*golds, *answers])) > 1:
        return None
    sides = []
    for parts, words in ((golds, ours), (answers, theirs)):
        if len(words) > 1 or (found := union_of_ranges(parts, intersect=words == {"and"})) is None:
            return None
        sides.append(found)
    return bool(sides[0] == sides[1])


def _assignments(parts: list[str]) -> dict[str, str]:
    """Name -> value, for statements that each assign one name a value."""
    pieces = [piece for part in parts for piece in re.split(r",(?!\d{3}(?!\d))", part)]
    found = [
        (m[0].partition("=")[0].strip(), piece[m.end() :].strip()) for piece in pieces if (m := _ASSIGNED.match(piece))
    ]
    return dict(found) if len(found) == len(pieces) else {}


def _items(part: str) -> list[str]:
    """The values that a part lists, without the name they are assigned to."""
    inside = part.strip()
    if inside.startswith("\\{") and inside.endswith("\\}"):
        inside = inside[2:-2]
    pieces = _split(inside)
    return [_ASSIGNED.sub("", piece).strip() for piece in pieces if piece.strip()]


def _split(text: str) -> list[str]:
    """Split at commas outside brackets; digits grouped in threes stay together."""
    if _shape(text) in ("tuple", "interval"):
        return [text]
    pieces, depth, start = [], 0, 0
    for i, c in enumerate(text):
        depth += (c in "([{") - (c in ")]}")
        if c == "," and depth <= 0 and not re.match(r"\d{3}(?!\d)", text[i + 1 :]):
            pieces.append(text[start:i])
            start = i + 1
    return [*pieces, text[start:]]
