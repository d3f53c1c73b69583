"""Long addition: `add 478 364`, digit by digit with carries."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import zip_longest

from selftaught.worlds.underfit.families.base import Checked, WriteStep, Written, verdict

_QUESTION = re.compile(r"add (\d{1,6}) (\d{1,6})")
_STEP = re.compile(r"(\d)\+(\d)\+([01])=(\d{1,2})")

Addends = tuple[int, int]


class Add:
    """Level L adds numbers of L digits (two at level 1)."""

    name = "add"

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        low, high = (10, 99) if level == 1 else (10 ** (level - 1), 10**level - 1)
        a, b = rng.randint(low, high), rng.randint(low, high)
        return f"add {a} {b}", str(a + b)

    def read(self, question: str) -> Addends | None:
        """See `Family.read`."""
        m = _QUESTION.fullmatch(question)
        return (int(m[1]), int(m[2])) if m else None

    def write(self, problem: Addends, reference: str, say: WriteStep, rng: random.Random) -> Written:  # noqa: ARG002
        """See `Family.write`."""
        carry, digits, steps = 0, "", []
        for x, y in columns(problem):
            if x != y and say("way", "as given", ["turned"]) == "turned":
                x, y = y, x
            right = x + y + carry
            skill = "plain" if right < 10 else "heavy" if x >= y and right > 10 else "carry"
            slips = [right - 10, right - 9, right - 11] if right > 10 else [right + 1]
            said = int(say(skill, str(right), [str(max(0, s)) for s in slips]))
            steps.append(f"{x}+{y}+{carry}={said}")
            digits, carry = f"{said % 10}{digits}", min(1, said // 10)
        return Written(tuple(steps), str(int(f"{carry}{digits}")))

    def check(self, problem: Addends, reference: str | None, steps: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`."""
        wanted, carry, found = columns(problem), 0, []
        for i, line in enumerate(steps):
            m = _STEP.fullmatch(line)
            in_place = m is not None and i < len(wanted) and int(m[3]) == carry
            in_place = in_place and m is not None and sorted((int(m[1]), int(m[2]))) == sorted(wanted[i])
            found.append(verdict(in_place and m is not None and int(m[1]) + int(m[2]) + int(m[3]) == int(m[4])))
            carry = min(1, int(m[4]) // 10) if m else 0
        return Checked(tuple(found), verdict(answer == str(sum(problem))))

    def proceed(self, problem: Addends, reference: str | None, steps: Sequence[str]) -> str | None:  # noqa: ARG002
        """See `Family.proceed`."""
        wanted = columns(problem)
        if len(steps) >= len(wanted):
            return None
        last = _STEP.fullmatch(steps[-1]) if steps else None
        (x, y), carry = wanted[len(steps)], min(1, int(last[4]) // 10) if last else 0
        return f"{x}+{y}+{carry}={x + y + carry}"


def columns(problem: Addends) -> list[Addends]:
    """The digits of both numbers, units first."""
    a, b = (str(n)[::-1] for n in problem)
    return [(int(x), int(y)) for x, y in zip_longest(a, b, fillvalue="0")]
