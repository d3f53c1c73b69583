"""Linear equations: `solve 5x+3=2x+15`, with one side simplified in every step."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from selftaught.worlds.underfit.arithmetic import work
from selftaught.worlds.underfit.families.base import Checked, WriteStep, Written, exactly, verdict

_EQUATION = re.compile(r"([-+x\d]{1,9})=([-+x\d]{1,9})")
_SHAPE = re.compile(r"(?:(\d{0,2})x)?([-+]?\d{1,3})?")


class Line(NamedTuple):
    """`ax+b=cx+d`."""

    a: int
    b: int
    c: int
    d: int

    def __str__(self) -> str:
        return f"{_side(self.a, self.b)}={_side(self.c, self.d)}"

    @property
    def root(self) -> Fraction | None:
        """The solution, or None unless there is exactly one."""
        return Fraction(self.d - self.b, self.a - self.c) if self.a != self.c else None


def _side(x: int, n: int) -> str:
    if not x:
        return str(n)
    return f"{x if x > 1 else ''}x" + (f"{n:+d}" if n else "")


def read_equation(text: str) -> Line | None:
    """`5x+3=2x+15` as a `Line`, or None."""
    m = _EQUATION.fullmatch(text)
    if m is None:
        return None
    sides: list[int] = []
    for side in m.groups():
        s = _SHAPE.fullmatch(side)
        if s is None or (s[1] is not None and s[2] is not None and s[2][0] not in "+-"):
            return None
        sides += [0 if s[1] is None else int(s[1] or 1), int(s[2] or 0)]
    return Line(*sides)


class Equation:
    """Level 1 is `x+b=d`, 2 `ax=d`, 3 `ax+b=d`, 4 `ax+b=cx+d`, 5 the same with larger numbers."""

    name = "equation"

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        x, c = rng.randint(2, {2: 25, 5: 12}.get(level, 9)), rng.randint(2, 5) if level > 3 else 0
        a = c + rng.randint(2, 9 if level == 5 else 7) if level > 1 else 1
        b = 0 if level == 2 else rng.randint(2, 29)
        if level > 2 and a * x > b and rng.random() < 0.4:
            b = -b
        line = Line(a, b, c, a * x + b - c * x)
        return (f"solve {line}", str(x)) if line.d > 0 else self.question(level, rng)

    def read(self, question: str) -> Line | None:
        """See `Family.read`."""
        line = read_equation(question.removeprefix("solve ")) if question.startswith("solve ") else None
        return line if line and line.root is not None and line.root.denominator == 1 and line.root >= 0 else None

    def write(self, problem: Line, reference: str, say: WriteStep, rng: random.Random) -> Written:  # noqa: ARG002
        """See `Family.write`."""
        a, b, c, d = problem
        steps = []
        if c:
            kept = work(a, "-", c, say)
            a, c = kept, 0
            steps.append(str(Line(a, b, c, d)))
        if b:
            d = work(d, "-" if b > 0 else "+", abs(b), say)
            b = 0
            steps.append(str(Line(a, 0, 0, d)))
        if a != 1:
            right = round(d / a) if a else d
            skill = "plain" if a < 4 else "carry" if a < 6 else "heavy"
            d = int(say(skill, str(right), [str(abs(right + by)) for by in (1, -1, 2)]))
            steps.append(str(Line(1, 0, 0, d)))
        return Written(tuple(steps), str(d))

    def check(self, problem: Line, reference: str | None, steps: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`. A step is right if it has the same solution as the line before it."""
        root, found = problem.root, []
        for text in steps:
            line = read_equation(text)
            found.append(verdict(line is not None and line.root is not None and line.root == root))
            root = line.root if line and line.root is not None else root
        return Checked(tuple(found), verdict(answer == str(problem.root)))

    def proceed(self, problem: Line, reference: str | None, steps: Sequence[str]) -> str | None:  # noqa: ARG002
        """See `Family.proceed`."""
        line = read_equation(steps[-1]) if steps else problem
        if line is None or line.root is None or line.root.denominator != 1 or line.root < 0:
            return None
        rest = self.write(line, str(line.root), exactly, random.Random(0)).steps
        return rest[0] if rest else None
