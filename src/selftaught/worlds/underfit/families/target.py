"""Target search: `target 24 from 3 5 9`, every number used once, as in the game of Countdown."""

from __future__ import annotations

import ast
import random
import re
from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from selftaught.worlds.underfit.arithmetic import apply, read_line, turned, work
from selftaught.worlds.underfit.families.base import Checked, WriteStep, Written, exactly, verdict

_QUESTION = re.compile(r"target (\d{1,3}) from (\d{1,2}(?: \d{1,2}){1,4})")
_COUNT = {1: 2, 2: 3, 3: 3, 4: 4, 5: 5}
_LARGEST = {1: 9, 2: 5, 3: 7, 4: 7, 5: 7}
_OPS = {ast.Add: "+", ast.Sub: "-", ast.Mult: "*"}


class Goal(NamedTuple):
    """The target, and the numbers to use."""

    target: int
    numbers: tuple[int, ...]


class Target:
    """Level L combines 2, 3, 3, 4 or 5 numbers; the reference is one solution."""

    name = "target"

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        while True:
            numbers = [rng.randint(2, _LARGEST[level]) for _ in range(_COUNT[level])]
            plan, value = combine(numbers, rng)
            if 3 <= value <= 60:
                shown = rng.sample(numbers, len(numbers))
                return f"target {value} from {' '.join(map(str, shown))}", plan

    def read(self, question: str) -> Goal | None:
        """See `Family.read`."""
        m = _QUESTION.fullmatch(question)
        return Goal(int(m[1]), tuple(map(int, m[2].split()))) if m else None

    def write(self, problem: Goal, reference: str, say: WriteStep, rng: random.Random) -> Written:
        """See `Family.write`. If the writer fails to find the solution, it combines the numbers at random."""
        plan = reference
        if say("search", "found", ["lost"]) != "found":
            plan, _ = combine(list(problem.numbers), rng)
        steps: list[str] = []
        _write(ast.parse(plan, mode="eval").body, say, steps)
        return Written(tuple(steps), plan)

    def check(self, problem: Goal, reference: str | None, steps: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`. The last step must reach the target."""
        left, found = Counter(problem.numbers), []
        for i, line in enumerate(steps):
            said = read_line(line)
            if said is None:
                found.append(verdict(False))
                continue
            a, op, b, result = said
            used = Counter((a, b))
            ends = i < len(problem.numbers) - 2 or result == problem.target
            found.append(verdict(used <= left and apply(a, op, b) == result and ends))
            left = left - used + Counter([result])
        return Checked(tuple(found), verdict(answer is not None and reaches(answer, problem)))

    def proceed(self, problem: Goal, reference: str | None, steps: Sequence[str]) -> str | None:
        """See `Family.proceed`."""
        if steps or reference is None:
            return None
        return self.write(problem, reference, exactly, random.Random(0)).steps[0]


def combine(numbers: list[int], rng: random.Random) -> tuple[str, int]:
    """A random expression that uses every number once, and its value; never below 0."""
    pool = [(str(n), n) for n in numbers]
    while len(pool) > 1:
        (x, a), (y, b) = (pool.pop(rng.randrange(len(pool))) for _ in range(2))
        op = rng.choices("+-*", (5, 3, 3))[0]
        if op == "-" and a < b:
            (x, a), (y, b) = (y, b), (x, a)
        pool.append((f"{_braced(x)}{op}{_braced(y)}", apply(a, op, b)))
    return pool[0]


def _braced(text: str) -> str:
    return text if text.isdigit() else f"({text})"


def reaches(text: str, goal: Goal) -> bool:
    """Whether an expression uses exactly the numbers of the goal and evaluates to its target. Nothing is executed."""
    if len(text) > 60 or not re.fullmatch(r"[-+*()\d]+", text):
        return False
    try:
        tree = ast.parse(text, mode="eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    used: list[int] = []
    value = _value(tree, used)
    return value == goal.target and sorted(used) == sorted(goal.numbers)


def _value(node: ast.expr, used: list[int]) -> int | None:
    if isinstance(node, ast.Constant) and type(node.value) is int:
        used.append(node.value)
        return node.value
    if not isinstance(node, ast.BinOp) or type(node.op) not in _OPS:
        return None
    a, b = _value(node.left, used), _value(node.right, used)
    return None if a is None or b is None else apply(a, _OPS[type(node.op)], b)


def _write(node: ast.expr, say: WriteStep, steps: list[str]) -> int:
    """Write the steps of an expression, innermost first; returns their result."""
    if isinstance(node, ast.Constant):
        return int(str(node.value))
    assert isinstance(node, ast.BinOp)
    a, b = _write(node.left, say, steps), _write(node.right, say, steps)
    op = _OPS[type(node.op)]
    a, b = turned(a, op, b, say)
    result = work(a, op, b, say)
    steps.append(f"{a}{op}{b}={result}")
    return result
