"""The family `equation`: `equation 2: x 2) +3 1) -5 = 20`, solved backwards by inverse operations.

A critic does each line back, by another fact than the one that it was written by, and whether an operation was inverted
is plain to see: checking knows more than solving.
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from selftaught.worlds.kit.family import Context
from selftaught.worlds.kit.language import ANSWER, UNSURE, count, number, of_place
from selftaught.worlds.kit.process import END, Choice, Part, View, Writing, mixture, single
from selftaught.worlds.tiny.lookups import ChainFamily, OperationSolver, Sight, near
from selftaught.worlds.tiny.question import Chain, Line, Place, read_line
from selftaught.worlds.tiny.solve import shown_in
from selftaught.worlds.tiny.strategy import slips
from selftaught.worlds.tiny.table import apply, operations

_INVERSE = {"+": "-", "-": "+"}
_OPERATION = re.compile(r" [-+][2-8]")
_DOES = r"((?: \d{1,2}\) [-+][2-8])+)"
_QUESTION = re.compile(rf"equation \d{{1,2}}: x{_DOES} = (\d{{1,3}})(?: by ([ABC]))?")
_TURNED = re.compile(rf"equation \d{{1,2}}: (\d{{1,3}}) = x{_DOES}(?: by ([ABC]))?")


def inverse(operation: str) -> str:
    """The operation that undoes another, as tokens: " -3" for " +3"."""
    return f" {_INVERSE[operation[1]]}{operation[2:]}"


INVERTIBLE = tuple(operation for operation in operations() if operation[1] in _INVERSE)
"""Operations of equations, as tokens."""


class Inverse(Chain):
    """An equation, as the chain of operations that solves it."""

    __slots__ = ()

    def __str__(self) -> str:
        numbered = [f"{of_place(i)}{inverse(operation)}" for i, operation in enumerate(self.operations, 1)]
        forwards, first = "".join(reversed(numbered)), f"equation{count(len(numbered))}"
        way = f" by {self.way}" if self.way else ""
        if self.wording:
            return f"{first}{number(self.start)} = x{forwards}{way}"
        return f"{first} x{forwards} ={number(self.start)}{way}"


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


class Equation(ChainFamily):
    """Equations of additions and subtractions modulo a prime; level L has L of them. See `ChainFamily`."""

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
        start, slip = Place(problem.start), slips(self.skills, INVERTIBLE)
        shown = shown_in(context.demonstrations)
        doubting = self.skills.doubting
        return EquationSolver(self.table, problem, context, shown, start, doubting=doubting, slips=slip).writing()

    def propose(self, problem: Chain, easier: bool, view: View) -> Writing:
        """Another equation: about as long as `problem`, or shorter."""
        level = len(problem.operations)
        lengths = {count(n): p for n, p in near(level, easier, self.levels).items()}
        cut = self.skills.malformed
        yield "equation"
        length = yield single("propose", lengths, ("propose", self.name, easier, level), view)
        yield " x"
        left = next((n for n in self.levels if count(n) == length), 1)
        for i in range(left, 0, -1):
            yield of_place(i) if i < left else single("propose", {of_place(i): 1 - cut, END: cut})
            yield single("propose", dict.fromkeys(INVERTIBLE, 1 / len(INVERTIBLE)))
        yield " ="
        values = map(number, range(self.skills.modulus))
        yield single("propose", dict.fromkeys(values, 1 / self.skills.modulus))
        yield END

    def sight(self, line: Line, right: bool) -> Sight:
        """See `ChainFamily.sight`: the fact that leads back."""
        back = (inverse(line.operation), int(line.result))
        agreement = self.table.agreement(back, number(line.value))
        provoked = agreement == 1 and self.table.facts[back].provokes
        return Sight(agreement, self.felt(line), back, number(line.value), right, provoked, f"{line.result}{back[0]}")

    def overall(self, glances: Sequence[float]) -> float:
        """See `Family.overall`: by the most doubtful line and their number, as in `paths`."""
        return self.table.overall(glances)

    def restated(self, problem: Chain, lines: Sequence[str]) -> list[str]:  # noqa: ARG002
        """See `Family.restated`: each step done back."""
        return [self._undone(read_line(line)) for line in lines]

    def _undone(self, line: Line | None) -> str:
        if line is None or line.operation not in INVERTIBLE or int(line.result) >= self.skills.modulus:
            return UNSURE
        back = inverse(line.operation)
        return f"{line.result}{back}{number(apply(back, int(line.result), self.skills.modulus))}"


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
        due, value = self._due, number(self.place.value)
        if not due or self.named:
            return f"{value}{due}" if due else ANSWER
        stands = inverse(due)
        wrong = self.slips[stands]
        parts = [
            Part(1 - wrong, {f"{value}{due}": 1.0}, name="inverted"),
            Part(wrong, {f"{value}{stands}": 1.0}, name="as it stands"),
        ]
        return mixture("invert", parts, ("invert", stands), self.context.view)._replace(right=f"{value}{due}")
