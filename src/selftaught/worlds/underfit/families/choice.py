"""Multiple choice: `choose 27 +38: A 55 B 65 C 66`."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from selftaught.worlds.underfit.arithmetic import apply, slips
from selftaught.worlds.underfit.families.base import Checked, WriteStep, Written, verdict
from selftaught.worlds.underfit.families.chain import (
    Terms,
    check_terms,
    make_terms,
    proceed_terms,
    read_terms,
    write_terms,
)

_QUESTION = re.compile(r"choose ([-+* \d]{3,40}): A (\d{1,4}) B (\d{1,4}) C (\d{1,4})")
LETTERS = "ABC"
_COUNT = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4}


class ChoiceProblem(NamedTuple):
    """A chain, and three results to choose from."""

    terms: Terms
    options: tuple[int, int, int]


class ChoiceFamily:
    """Level L chooses the result of 1, 1, 2, 3 or 4 operations."""

    name = "choice"

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`. The wrong options are the results of an error in the last step."""
        terms = make_terms(_COUNT[level], rng)
        before = Terms(terms.first, terms.rest[:-1]).value
        op, n = terms.rest[-1]
        wrong = [int(s) for s in slips(before, op, n)] + [apply(before, op, n) + 10]
        options = [terms.value, *list(dict.fromkeys(w for w in wrong if w != terms.value))[:2]]
        rng.shuffle(options)
        listed = " ".join(f"{letter} {option}" for letter, option in zip(LETTERS, options, strict=True))
        return f"choose {terms}: {listed}", LETTERS[options.index(terms.value)]

    def read(self, question: str) -> ChoiceProblem | None:
        """See `Family.read`."""
        m = _QUESTION.fullmatch(question)
        terms = read_terms(m[1]) if m else None
        if m is None or terms is None:
            return None
        options = int(m[2]), int(m[3]), int(m[4])
        return ChoiceProblem(terms, options) if options.count(terms.value) == 1 else None

    def write(self, problem: ChoiceProblem, reference: str, say: WriteStep, rng: random.Random) -> Written:  # noqa: ARG002
        """See `Family.write`. If the result is not an option, the nearest option is chosen."""
        steps, value = write_terms(problem.terms, say)
        nearest = min(problem.options, key=lambda option: abs(option - value))
        right = LETTERS[problem.options.index(nearest)]
        return Written(tuple(steps), say("plain", right, [letter for letter in LETTERS if letter != right]))

    def check(self, problem: ChoiceProblem, reference: str | None, steps: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`."""
        right = LETTERS[problem.options.index(problem.terms.value)]
        return Checked(tuple(check_terms(problem.terms, steps)[0]), verdict(answer == right))

    def proceed(self, problem: ChoiceProblem, reference: str | None, steps: Sequence[str]) -> str | None:  # noqa: ARG002
        """See `Family.proceed`."""
        return proceed_terms(problem.terms, steps)
