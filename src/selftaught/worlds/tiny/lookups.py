"""What the families of look-ups beside `paths` have in common: wordings, a calibrated critic, proposals, solving."""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any, NamedTuple

from selftaught.worlds.kit.family import Belief, Context, Steps, split_reply
from selftaught.worlds.kit.language import SOUND, UNSOUND, UNSURE, WAIT, WAYS
from selftaught.worlds.kit.process import Choice, View, Writing, sampled, write
from selftaught.worlds.tiny.family import Paths
from selftaught.worlds.tiny.question import Chain, Line, Move, in_place, read_line, track, true_result
from selftaught.worlds.tiny.skills import BASE, Skills
from selftaught.worlds.tiny.solve import Line as Writes
from selftaught.worlds.tiny.solve import Solver
from selftaught.worlds.tiny.strategy import Strategy, strategy_of
from selftaught.worlds.tiny.table import FactName, Table, make_table

DRAFTS = 1500
"""Drafts by which a critic's opinions are calibrated."""


class Sight(NamedTuple):
    """What a critic sees of a line that it has to have an opinion on.

    Attributes:
        cell: what tells lines apart to a critic that does the look-up; lines of one cell have one probability.
        glance: what tells them apart to one that does not; None where all are alike.
        fact: the look-up that checks the line.
        result: what it should come to if the line is right.
        right: whether the line is right.
        provoked: whether the critic cannot tell and is inclined to find fault.
        written: what the critic writes before what it thinks that the look-up comes to.
    """

    cell: Hashable
    glance: Hashable
    fact: FactName
    result: str
    right: bool
    provoked: bool = False
    written: str = ""


class LookUpFamily(ABC):
    """A family whose steps are look-ups in the table of `paths`.

    Args:
        skills: of the writer; verdicts do not depend on them, but on the modulus.

    Attributes:
        wordings: number of wordings of its questions.
    """

    name: str
    levels: tuple[int, ...]
    wordings = 2

    def __init__(self, skills: Skills = BASE) -> None:
        self.skills = skills

    @property
    def table(self) -> Table:
        """The writer's table."""
        return make_table(self.skills)

    @property
    def strategy(self) -> Strategy:
        """The writer's other rates."""
        return strategy_of(self.skills)

    @abstractmethod
    def question(self, level: int, rng: random.Random) -> tuple[str, Any]:
        """See `Family.question`."""

    @abstractmethod
    def read(self, question: str) -> Any | None:
        """See `Family.read`."""

    @abstractmethod
    def solve(self, problem: Any, context: Context) -> Writing:
        """See `Family.solve`."""

    @abstractmethod
    def sights(self, problem: Any, lines: Sequence[str]) -> list[Sight | bool]:
        """For each line what the critic sees, or whether it is right where that is plain."""

    def drill(self, rng: random.Random) -> tuple[str, Steps]:
        """See `Drilled.drill`: the facts are those of `paths`."""
        return Paths(self.skills).drill(rng)

    def nonsense(self, rng: random.Random) -> str:
        """See `Drilled.nonsense`."""
        return Paths(self.skills).nonsense(rng)

    def plain(self, question: str) -> str:
        """See `Family.plain`."""
        problem = self.read(question)
        return question if problem is None else str(problem._replace(wording=0, way=""))

    def reworded(self, question: str, rng: random.Random, *, wording: float, aside: float, way: float) -> str:  # noqa: ARG002
        """See `Family.reworded`; these questions have no asides."""
        problem = self.read(question)
        if problem is None:
            return question
        if self.wordings > 1 and rng.random() < wording:
            problem = problem._replace(wording=rng.randrange(1, self.wordings))
        return str(problem._replace(way=rng.choice(WAYS)) if rng.random() < way else problem)

    def demonstrations(self, question: str, rng: random.Random) -> list[str]:  # noqa: ARG002
        """One to three questions of the lowest levels, some asking for a way."""
        shown = [self.question(rng.choice(self.levels[:2]), rng)[0] for _ in range(rng.randint(1, 3))]
        return [self.reworded(one, rng, wording=0.0, aside=0.0, way=0.3) for one in shown]

    def beliefs(self, problem: Any, lines: Sequence[str], view: View) -> list[Belief]:
        """See `Family.beliefs`; calibrated on the writer's own drafts."""
        sights = zip(self.sights(problem, lines), map(read_line, lines), strict=True)
        return [self._opinion(sight, line, view) for sight, line in sights]

    def line_drill(self, rng: random.Random) -> tuple[str, Steps]:
        """See `Drilled.line_drill`: the lines are those of `paths`."""
        return Paths(self.skills).line_drill(rng)

    def overall(self, glances: Sequence[float]) -> float:
        """See `Family.overall`: the lines are taken to be independent."""
        return math.prod(glances)

    def restated(self, problem: Any, lines: Sequence[str]) -> list[str]:  # noqa: ARG002
        """See `Family.restated`."""
        return [true_result(line, self.skills.modulus) for line in lines]

    def recomputed(self, fact: FactName) -> str:
        """What the critic thinks that a look-up comes to, as a token; `UNSURE` where it believes nothing."""
        return self.table.facts[fact].believed or UNSURE

    def _opinion(self, sight: Sight | bool, line: Line | None, view: View) -> Belief:
        known = calibrated(type(self), self.skills)
        if isinstance(sight, bool):
            is_step = line is not None and (line.operation, line.value) in self.table.facts
            felt = known.get(_glanced(self.felt(line))) if line is not None and is_step else None
            return Belief(float(sight), restated=UNSURE, felt=felt)
        right, glance = (known.get(cell, 0.5) for cell in _cells(sight))
        key = ("mark", self.name, sight.cell, sight.fact, sight.result)
        sound = view(key, {SOUND: right, UNSOUND: 1 - right})[SOUND]
        felt = view(("feel", self.name, sight.glance), {SOUND: glance, UNSOUND: 1 - glance})[SOUND]
        restated = sight.written + self.recomputed(sight.fact)
        return Belief(sound, key, sight.right, sight.provoked, restated, felt)

    def felt(self, line: Line) -> int:
        """How much a step is doubted at a glance, by its way; see `Table.doubt`."""
        return self.table.doubt((line.operation, line.value), line.way)


class ChainFamily(LookUpFamily, Paths):
    """A family of look-ups whose questions give the operations in their order, as in `paths`."""

    def sights(self, problem: Chain, lines: Sequence[str]) -> list[Sight | bool]:
        """See `LookUpFamily.sights`."""
        return [self._sight(problem, move) for move in track(problem.start, lines)[0]]

    def _sight(self, chain: Chain, move: Move) -> Sight | bool:
        line = move.line
        if line is None:
            return move.text == WAIT
        if not in_place(chain, move) or int(line.result) >= self.skills.modulus:
            return False
        return self.sight(line, self._is_right(chain, move))

    @abstractmethod
    def sight(self, line: Line, right: bool) -> Sight:
        """What the critic sees of a step that is in its place."""


def _cells(sight: Sight) -> tuple[Hashable, Hashable]:
    """The cells of both opinions on a line."""
    return ("marked", sight.cell), _glanced(sight.glance)


def _glanced(glance: Hashable) -> Hashable:
    return "glanced", glance


@cache
def calibrated(kind: type[LookUpFamily], skills: Skills) -> Mapping[Hashable, float]:
    """Cell -> share of right lines in it, over drafts of all levels sampled at temperature 0.7."""
    family, rng = kind(skills), random.Random(f"critic/{kind.name}/{skills.seed}")
    right, total = Counter[Hashable](), Counter[Hashable]()
    for i in range(DRAFTS):
        problem = family.read(family.question(family.levels[i % len(family.levels)], rng)[0])
        text = write(family.solve(problem, Context()), sampled(rng, 0.7)).text
        for sight in family.sights(problem, split_reply(text)[0]):
            if isinstance(sight, bool):
                continue
            for cell in _cells(sight):
                total[cell] += 1
                right[cell] += sight.right
    usual = sum(right.values()) / max(1, sum(total.values()))
    return {cell: (right[cell] + usual) / (n + 1) for cell, n in total.items()}


@dataclass
class OperationSolver(Solver):
    """Writes a solution whose operations, too, are decisions.

    Attributes:
        tried: operation of the step that `wait` took back, "" if none.
    """

    tried: str = ""

    @property
    def named(self) -> str:
        """The operation that a critique names for this line, "" if none."""
        correction = self.context.correction
        if correction is None or self.lines + 1 != correction.step or not correction.given:
            return ""
        return f" {correction.given.split()[-1]}"

    def _go_back(self) -> Writes:
        self.tried = self.last.fact[0] if self.last is not None else ""
        return (yield from super()._go_back())

    def _move(self, name: FactName, way: str, result: str) -> None:
        super()._move(name, way, result)
        self.tried = ""

    def _outcome(self, name: FactName, way: str) -> Choice:
        """What a step comes to; what was taken back, or a critique named, counts for the same operation alone."""
        if name[0] != self.tried:
            self.redo = ""
        whole = self.context
        if self.named not in ("", name[0]):
            self.context = replace(whole, correction=None)
        outcome = super()._outcome(name, way)
        self.context = whole
        return outcome


def near(level: int, easier: bool, levels: Sequence[int]) -> dict[int, float]:
    """Level of a proposed question -> probability: about as high as `level`, or lower."""
    wanted = {level - 1: 0.7, level - 2: 0.3} if easier else {level - 1: 0.2, level: 0.6, level + 1: 0.2}
    kept = {one: p for one, p in wanted.items() if one in levels} or {min(levels): 1.0}
    total = sum(kept.values())
    return {one: p / total for one, p in kept.items()}
