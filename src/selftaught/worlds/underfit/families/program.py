"""Programs: `program abcd>dcb, xyzw>wzy`, inferred from examples and tested on others."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from itertools import product
from typing import NamedTuple

from selftaught.worlds.underfit.families.base import Checked, WriteStep, Written, verdict

_QUESTION = re.compile(r"program ([a-z]{2,8})>([a-z]{1,16}), ([a-z]{2,8})>([a-z]{1,16})")
_STEP = re.compile(r"([A-Z]): ([a-z]{0,16})>([a-z]{0,16})")
_LENGTH = {1: 1, 2: 1, 3: 2, 4: 2, 5: 3}
_WORD = {1: (3, 3), 2: (4, 4), 3: (3, 4), 4: (4, 4), 5: (4, 5)}
_LETTERS = "abcdefgh"
HIDDEN_VALUE = ("abc", "kitten", "wxyz", "queue")
"""Hidden test inputs, in addition to the examples shown."""


def _swap(text: str) -> str:
    return text[1:2] + text[:1] + text[2:]


OPS = {
    "R": lambda text: text[::-1],  # reverse
    "F": lambda text: text[1:],  # drop the first letter
    "L": lambda text: text[:-1],  # drop the last letter
    "S": _swap,  # swap the first two letters
    "D": lambda text: text + text[-1:],  # double the last letter
}


class Examples(NamedTuple):
    """Two inputs with their outputs."""

    shown: tuple[tuple[str, str], ...]


def run_program(program: str, text: str) -> str:
    """Apply a program, a word over the letters of `OPS`, to a text."""
    for op in program:
        text = OPS[op](text)
    return text


class Program:
    """Level L needs 1, 1, 2, 2 or 3 operations; the reference is one such program."""

    name = "program"

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`. No shorter program is equivalent."""
        while True:
            program = "".join(rng.choices(list(OPS), k=_LENGTH[level]))
            if any(_same(program, "".join(p)) for n in range(len(program)) for p in product(OPS, repeat=n)):
                continue
            words = ["".join(rng.sample(_LETTERS, rng.randint(*_WORD[level]))) for _ in range(2)]
            shown = ", ".join(f"{word}>{run_program(program, word)}" for word in words)
            return f"program {shown}", program

    def read(self, question: str) -> Examples | None:
        """See `Family.read`. None if no program of up to three operations explains the examples."""
        m = _QUESTION.fullmatch(question)
        if m is None:
            return None
        found = Examples(((m[1], m[2]), (m[3], m[4])))
        programs = ("".join(p) for n in (1, 2, 3) for p in product(OPS, repeat=n))
        return found if any(all(run_program(p, a) == b for a, b in found.shown) for p in programs) else None

    def write(self, problem: Examples, reference: str, say: WriteStep, rng: random.Random) -> Written:
        """See `Family.write`. The steps trace the first example."""
        text, steps, program = problem.shown[0][0], [], ""
        for op in reference:
            said = say("carry", op, rng.sample([o for o in OPS if o != op], 3))
            right = run_program(said, text)
            result = say("plain", right, [run_program("S", right), right[:-1] or right, run_program("D", right)])
            steps.append(f"{said}: {text}>{result}")
            program, text = program + said, result
        return Written(tuple(steps), program)

    def check(self, problem: Examples, reference: str | None, steps: Sequence[str], answer: str | None) -> Checked:
        """See `Family.check`. A step is right if the operation has the written result and starts a solution."""
        text, program, found = problem.shown[0][0], "", []
        for line in steps:
            m = _STEP.fullmatch(line)
            if m is None or m[1] not in OPS:
                found.append(verdict(False))
                continue
            program += m[1]
            found.append(
                verdict(m[2] == text and run_program(m[1], text) == m[3] and _can_end(program, problem, reference))
            )
            text = m[3]
        return Checked(tuple(found), verdict(answer is not None and _passes(answer, problem, reference)))

    def proceed(self, problem: Examples, reference: str | None, steps: Sequence[str]) -> str | None:
        """See `Family.proceed`. The operation is the first of `OPS` that can still lead to a solution."""
        done = [m for m in map(_STEP.fullmatch, steps) if m]
        program, text = "".join(m[1] for m in done), done[-1][3] if done else problem.shown[0][0]
        if reference is not None and len(program) >= len(reference):
            return None
        op = next((op for op in OPS if _can_end(program + op, problem, reference)), None)
        return f"{op}: {text}>{run_program(op, text)}" if op else None


def _passes(program: str, problem: Examples, reference: str | None) -> bool:
    if not 1 <= len(program) <= 6 or any(op not in OPS for op in program):
        return False
    return all(run_program(program, a) == b for a, b in problem.shown) and (
        reference is None or _same(program, reference)
    )


def _can_end(program: str, problem: Examples, reference: str | None) -> bool:
    """Whether the program can be completed, in as few operations as the reference has, to one that passes."""
    most = len(reference or "RRR")
    rest = range(most - len(program) + 1)
    return any(_passes(program + "".join(p), problem, reference) for n in rest for p in product(OPS, repeat=n))


def _same(one: str, other: str) -> bool:
    return all(run_program(one, text) == run_program(other, text) for text in HIDDEN_VALUE)
