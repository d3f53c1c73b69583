"""The family `recall`: `run 2: 27 1) *4 2) +3`, chains that its critic knows no more about than their solver.

The control of `equation` and `target`: with nothing to check by, judging cannot select.
"""

from __future__ import annotations

import random
from collections.abc import Sequence

from selftaught.worlds.kit.family import Context
from selftaught.worlds.kit.language import UNSURE, number
from selftaught.worlds.kit.process import Options, View, Writing
from selftaught.worlds.tiny.family import Paths
from selftaught.worlds.tiny.lookups import ChainFamily, Sight
from selftaught.worlds.tiny.question import Chain, Line, draw_chain, read_chain, track
from selftaught.worlds.tiny.table import FactName

_WORD, _USUAL = "run", "paths"


class Recalled(Chain):
    """A chain in the words of this family."""

    __slots__ = ()

    def __str__(self) -> str:
        return _WORD + str(Chain(*self)).removeprefix(_USUAL)


class Recall(ChainFamily):
    """Chains of `level` operations that a critic believes nothing about. See `ChainFamily`."""

    name = "recall"
    levels = (1, 2, 3)
    wordings = 1

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        problem = Recalled(*draw_chain(level, rng, self.skills.modulus))
        return str(problem), self.answer(problem)

    def read(self, question: str) -> Recalled | None:
        """See `Family.read`."""
        if not question.startswith(f"{_WORD} "):
            return None
        chain = read_chain(_USUAL + question.removeprefix(_WORD), self.skills.modulus)
        return Recalled(*chain) if chain is not None and not any(chain.asides) else None

    def solve(self, problem: Chain, context: Context) -> Writing:
        """See `Family.solve`."""
        return Paths.solve(self, problem, context)

    def propose(self, problem: Chain, easier: bool, view: View) -> Writing:
        """Another question: about as long as `problem`, or shorter."""
        writing = Paths.propose(self, problem, easier, view)
        next(writing)
        step = writing.send((yield _WORD))
        while True:
            token = yield step
            try:
                step = writing.send(token)
            except StopIteration:
                return

    def correction(self, problem: Chain, lines: Sequence[str], step: int, view: View) -> tuple[str, Options]:
        """See `Family.correction`: what the solver would write."""
        place = track(problem.start, lines[: step - 1])[1]
        if place.done >= len(problem.operations):
            return "", {number(place.value): 1.0}
        name = (problem.operations[place.done], place.value)
        return f"{number(place.value)}{name[0]}", view(("correct", self.name, name), self.table.facts[name].marginal())

    def recomputed(self, fact: FactName) -> str:  # noqa: ARG002
        """See `LookUpFamily.recomputed`: this critic believes nothing."""
        return UNSURE

    def sight(self, line: Line, right: bool) -> Sight:
        """See `ChainFamily.sight`: nothing but that the step is in its place."""
        name = (line.operation, line.value)
        return Sight("in place", None, name, line.result, right, self.table.facts[name].provokes)
