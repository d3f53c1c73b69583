"""The family `equation`: `equation x +3 -5 = 20`, solved backwards by inverse operations.

Each line can be checked forwards as well, by another fact than the one that it was written by, and whether an operation
was inverted is plain to see: checking knows more than solving.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from selftaught.worlds.kit.family import Context
from selftaught.worlds.kit.language import ANSWER, WAIT, number
from selftaught.worlds.kit.process import END, Choice, Part, View, Writing, mixture, single
from selftaught.worlds.paths.family import Paths
from selftaught.worlds.paths.lookups import LookUpFamily, OperationSolver, Sight, near, shown_in
from selftaught.worlds.paths.question import Chain, Place, Step, follow
from selftaught.worlds.paths.strategy import slips
from selftaught.worlds.paths.table import apply, operations

_INVERSE = {"+": "-", "-": "+"}
_OPERATION = re.compile(r" [-+][2-8]")
_QUESTION = re.compile(r"equation x((?: [-+][2-8])+) = (\d{1,3})(?: by ([ABC]))?")
_TURNED = re.compile(r"equation (\d{1,3}) = x((?: [-+][2-8])+)(?: by ([ABC]))?")


def inverse(operation: str) -> str:
    """The operation that undoes another, as tokens: " -3" for " +3"."""
    return f" {_INVERSE[operation[1]]}{operation[2:]}"


INVERTIBLE = tuple(operation for operation in operations() if operation[1] in _INVERSE)
"""Operations of equations, as tokens."""


class Inverse(Chain):
    """An equation, as the chain of operations that solves it."""

    __slots__ = ()

    def __str__(self) -> str:
        forwards = "".join(map(inverse, reversed(self.operations)))
        way = f" by {self.way}" if self.way else ""
        if self.wording:
            return f"equation{number(self.start)} = x{forwards}{way}"
        return f"equation x{forwards} ={number(self.start)}{way}"


def read_equation(question: str, modulus: int) -> Inverse | None:
    """The problem of a question; None if it is something else."""
    found, turned = _QUESTION.fullmatch(question), _TURNED.fullmatch(question)
    if found is not None:
        does, result, way = found.groups()
    elif turned is not None:
        result, does, way = turned.groups()
    else:
        return None
    undone = tuple(inverse(operation) for operation in reversed(_OPERATION.findall(does)))
    problem = Inverse(int(result), undone, (), int(turned is not None), way or "")
    return problem if int(result) < modulus and str(problem) == question else None


class Equation(LookUpFamily, Paths):
    """Equations of additions and subtractions modulo a prime; level L has L of them. See `LookUpFamily`."""

    name = "equation"
    levels = tuple(range(1, 9))

    def question(self, level: int, rng: random.Random) -> tuple[str, str]:
        """See `Family.question`."""
        undone = tuple(rng.choice(INVERTIBLE) for _ in range(level))
        problem = Inverse(rng.randrange(self.skills.modulus), undone)
        return str(problem), self.answer(problem)

    def read(self, question: str) -> Inverse | None:
        """See `Family.read`."""
        return read_equation(question, self.skills.modulus)

    def solve(self, problem: Chain, context: Context) -> Writing:
        """See `Family.solve`."""
        start, slip = Place(0, problem.start), slips(self.skills, INVERTIBLE)
        shown = shown_in(context.demonstrations)
        doubting = self.skills.doubting
        return EquationSolver(self.table, problem, context, shown, start, doubting=doubting, slips=slip).writing()

    def propose(self, problem: Chain, easier: bool, view: View) -> Writing:
        """Another equation: about as long as `problem`, or shorter."""
        level = len(problem.operations)
        malformed = self.skills.malformed
        lengths = {0: malformed} | {n: p * (1 - malformed) for n, p in near(level, easier, self.levels).items()}
        yield "equation"
        yield " x"
        for done in range(max(lengths) + 1):
            stop = lengths.get(done, 0.0) / sum(p for length, p in lengths.items() if length >= done)
            options = {" =": stop} if stop else {}
            options |= dict.fromkeys(INVERTIBLE, (1 - stop) / len(INVERTIBLE)) if stop < 1 else {}
            if (yield single("propose", options, ("propose", self.name, easier, level, done), view)) == " =":
                break
        values = map(number, range(self.skills.modulus))
        yield single("propose", dict.fromkeys(values, 1 / self.skills.modulus))
        yield END

    def sights(self, problem: Chain, lines: Sequence[str]) -> list[Sight | bool]:
        """See `LookUpFamily.sights`: the step's own fact, and the one that leads back."""
        return [self._sight(problem, step) for step in follow(problem, lines)[0]]

    def _sight(self, problem: Chain, step: Step) -> Sight | bool:
        line, before = step.line, step.before
        if line is None:
            return step.text == WAIT
        due = problem.operations[before.done] if before.done < len(problem.operations) else ""
        if (line.value, line.operation) != (before.value, due) or int(line.result) >= self.skills.modulus:
            return False
        name, back = (line.operation, line.value), (inverse(line.operation), int(line.result))
        cell = self.table.agreement(name, line.result), self.table.agreement(back, number(line.value))
        right = number(apply(*name, self.skills.modulus)) == line.result
        return Sight(cell, name, line.result, right, cell == (1, 1) and self.table.facts[name].provokes)


@dataclass
class EquationSolver(OperationSolver):
    """Writes a solution; inverting an operation is a decision.

    Attributes:
        slips: operation -> probability of doing it as it stands.
    """

    slips: Mapping[str, float] = field(default_factory=dict)

    def _doubt(self) -> tuple[int, float]:
        """A step that was not inverted is one that the critic thinks wrong."""
        if self.last is not None and not self.last.redone:
            due = self.chain.operations[self.last.before.done : self.last.before.done + 1]
            if due != (self.last.fact[0],):
                return 2, self.table.skills.doubts[2]
        return super()._doubt()

    def _operation(self) -> Choice | str:
        """The inverse of the operation in the question, or by mistake that itself."""
        due = self._due
        if not due or self.named:
            return due or ANSWER
        stands = inverse(due)
        wrong = self.slips[stands]
        parts = [Part(1 - wrong, {due: 1.0}, name="inverted"), Part(wrong, {stands: 1.0}, name="as it stands")]
        return mixture("invert", parts, ("invert", stands), self.context.view)._replace(right=due)
