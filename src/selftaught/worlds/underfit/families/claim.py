"""Claims: `claim 27 +38 > 60`, true, false or undetermined: `claim 27 +k > 60`."""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from typing import NamedTuple

from selftaught.worlds.underfit.families.base import Checked, WriteStep, Written, verdict
from selftaught.worlds.underfit.families.chain import (
    TERMS,
    Terms,
    check_terms,
    make_terms,
    proceed_terms,
    read_terms,
    write_terms,
)

_QUESTION = re.compile(r"claim ([-+* \dk]{3,40}) > (\d{1,4})")
_LAST = re.compile(r"(\d{1,5})([<>=])(\d{1,4})")
UNKNOWN_ANSWER = "unknown"
NO_VALUE = "k has no value"
_COUNT = {1: 1, 2: 1, 3: 2, 4: 3, 5: 4}


class ClaimProblem(NamedTuple):
    """A chain claimed to be greater than a bound; the chain is None if it has an unknown."""

    terms: Terms | None
    bound: int

    @property
    def truth(self) -> str:
        """yes, no or unknown."""
        return UNKNOWN_ANSWER if self.terms is None else _answer(self.terms.value, self.bound)


class ClaimFamily:
    """Level L compares the result of 1, 1, 2, 3 or 4 operations; one claim in four is undetermined."""

    name = "claim"

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`. The bound is about one common error away from the result."""
        terms = make_terms(_COUNT[level], rng)
        bound = max(0, terms.value + rng.choice((-12, -7, -3, 2, 6, 11)) + rng.randint(-1, 1))
        text = str(terms)
        if rng.random() < 0.25:
            place = rng.randrange(len(terms.rest)) + 1
            parts = text.split()
            text = " ".join(part[0] + "k" if i == place else part for i, part in enumerate(parts))
            return f"claim {text} > {bound}", UNKNOWN_ANSWER
        return f"claim {text} > {bound}", _answer(terms.value, bound)

    def read(self, question: str) -> ClaimProblem | None:
        """See `Family.read`."""
        m = _QUESTION.fullmatch(question)
        if m is None:
            return None
        if "k" in m[1]:
            return ClaimProblem(None, int(m[2])) if TERMS.fullmatch(m[1].replace("k", "1")) else None
        terms = read_terms(m[1])
        return ClaimProblem(terms, int(m[2])) if terms else None

    def write(self, problem: ClaimProblem, reference: str, say: WriteStep, rng: random.Random) -> Written:  # noqa: ARG002
        """See `Family.write`. A writer that overlooks the unknown guesses."""
        if problem.terms is None:
            guess = str(problem.bound + rng.choice((-5, 5)))
            if say("carry", UNKNOWN_ANSWER, ["guess"]) == UNKNOWN_ANSWER:
                return Written((NO_VALUE,), UNKNOWN_ANSWER)
            value, steps = max(0, int(guess)), []
        else:
            steps, value = write_terms(problem.terms, say)
        right = _answer(value, problem.bound)
        said = say("plain", right, ["no" if right == "yes" else "yes"])
        return Written((*steps, f"{value}{_sign(value, problem.bound)}{problem.bound}"), said)

    def check(self, problem: ClaimProblem, reference: str | None, steps: Sequence[str], answer: str | None) -> Checked:  # noqa: ARG002
        """See `Family.check`."""
        right = verdict(answer == problem.truth)
        if problem.terms is None:
            return Checked(tuple(verdict(i == 0 and line == NO_VALUE) for i, line in enumerate(steps)), right)
        count = len(problem.terms.rest)
        found, value = check_terms(problem.terms, steps[:count])
        for i, line in enumerate(steps[count:]):
            m = _LAST.fullmatch(line)
            said = (int(m[1]), m[2], int(m[3])) if m else None
            found.append(verdict(i == 0 and said == (value, _sign(value, problem.bound), problem.bound)))
        return Checked(tuple(found), right)

    def proceed(self, problem: ClaimProblem, reference: str | None, steps: Sequence[str]) -> str | None:  # noqa: ARG002
        """See `Family.proceed`."""
        if problem.terms is None:
            return None if steps else NO_VALUE
        if len(steps) != len(problem.terms.rest):
            return proceed_terms(problem.terms, steps)
        value = check_terms(problem.terms, steps)[1]
        return f"{value}{_sign(value, problem.bound)}{problem.bound}"


def _answer(value: int, bound: int) -> str:
    return "yes" if value > bound else "no"


def _sign(value: int, bound: int) -> str:
    return ">" if value > bound else "<" if value < bound else "="
