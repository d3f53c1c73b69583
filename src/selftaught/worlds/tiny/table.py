"""The tables of a writer of `paths`: for each fact the ways, their reliabilities, and what a critic believes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from typing import NamedTuple

from selftaught.worlds.kit.language import OPERATIONS, WAYS, number
from selftaught.worlds.kit.process import Options, tempered
from selftaught.worlds.tiny.skills import Skills

USED = range(2, 9)  # operands
AGREEMENT = 0.5
"""Share of what a writer's ways come to, weighted by their use, from which its critic believes a result."""

FactName = tuple[str, int]
"""An operation with its operand, as a token, and the value that it is applied to."""


@dataclass(frozen=True, slots=True)
class Fact:
    """A writer's knowledge of one fact.

    Attributes:
        right: the true result, as a token.
        kind: "unknown", "misconceived" or "ordinary".
        ways: way -> how often it is used.
        kinds: way -> how it does this step: a key of `Skills.rates`.
        results: way -> distribution over results.
        believed: the result that the critic believes in, or None.
        provokes: whether the critic, where it believes nothing, is inclined to find fault.
        ignorant: whether the critic knows nothing of the operation.
    """

    right: str
    kind: str
    ways: Options
    kinds: Mapping[str, str]
    results: Mapping[str, Options]
    believed: str | None
    provokes: bool = False
    ignorant: bool = False

    def marginal(self, temperature: float = 1.0) -> dict[str, float]:
        """The distribution over results, whatever the way."""
        total: dict[str, float] = {}
        for way, p in tempered(self.ways, temperature).items():
            for result, q in tempered(self.results[way], temperature).items():
                total[result] = total.get(result, 0.0) + p * q
        return total


def apply(operation: str, value: int, modulus: int) -> int:
    """The result of an operation with its operand, such as " *4", on a value."""
    sign, operand = operation[1], int(operation[2:])
    return (value + operand if sign == "+" else value - operand if sign == "-" else value * operand) % modulus


def operations() -> list[str]:
    """Every operation with its operand, as tokens."""
    return [f" {sign}{n}" for sign in OPERATIONS for n in USED]


@dataclass(frozen=True)
class Table:
    """Every fact of a writer.

    Attributes:
        skills: its rates.
        facts: its facts.
        good: the way that is blind least often.
        tempting: operations that it is likely to do even in parentheses.
    """

    skills: Skills
    facts: Mapping[FactName, Fact]
    good: str
    tempting: frozenset[str] = frozenset()

    def distraction(self, aside: str) -> float:
        """Probability of doing an operation in parentheses."""
        return self.skills.distractors[aside in self.tempting]

    @cached_property
    def opinions(self) -> tuple[float, float, float]:
        """P(step right) where the critic thinks so, where it believes nothing, and where it thinks otherwise.

        Exact for steps sampled at temperature 0.7 of facts that are equally frequent: the critic is calibrated.
        """
        agreed = [0.0, 0.0, 0.0]
        right = [0.0, 0.0, 0.0]
        for fact in self.facts.values():
            for result, p in fact.marginal(0.7).items():
                at = 1 if fact.believed is None else 0 if fact.believed == result else 2
                agreed[at] += p
                right[at] += p * (result == fact.right)
        fine, unsure, wrong = ((r + 0.01) / (n + 0.02) for r, n in zip(right, agreed, strict=True))
        return fine, unsure, wrong

    @cached_property
    def _felt(self) -> dict[str, float]:
        """Kind of a step -> P(right) of it, sampled at temperature 0.7; "" for the mean over all steps."""
        felt = {kind: 0.0 for kind, _ in self.skills.rates}
        done = dict.fromkeys(felt, 0.0)
        for fact in self.facts.values():
            for way, p in tempered(fact.ways, 0.7).items():
                felt[fact.kinds[way]] += p * tempered(fact.results[way], 0.7)[fact.right]
                done[fact.kinds[way]] += p
        mean = sum(felt.values()) / sum(done.values())
        return {kind: min(0.999, felt[kind] / n) if n else mean for kind, n in done.items()} | {"": mean}

    def feeling(self, name: FactName, way: str) -> float:
        """A judge's probability that a step is right, by its way alone; the mean where it is ignorant."""
        fact = self.facts[name]
        return self._felt["" if fact.ignorant else fact.kinds[way]]

    def overall(self, glances: Sequence[float]) -> float:
        """A judge's probability that all of some steps are right: it goes by the most doubtful and by their number.

        Exact for steps sampled at temperature 0.7 of facts that are equally frequent: the judge is calibrated.
        """
        if not min(glances):
            return 0.0
        worst, n = max(map(_doubted, glances)), len(glances)
        at_most, less = (
            [sum(part) for part in zip((0.0, 0.0), *self._done[:levels], strict=True)] for levels in (worst + 1, worst)
        )
        return (at_most[0] ** n - less[0] ** n) / (at_most[1] ** n - less[1] ** n)

    @cached_property
    def _done(self) -> list[tuple[float, float]]:
        """For each level of doubt the share of steps that are right, and of steps, sampled at temperature 0.7."""
        found = [(0.0, 0.0)] * 3
        for name, fact in self.facts.items():
            for way, p in tempered(fact.ways, 0.7).items():
                right, done = found[at := self.doubt(name, way)]
                share = p / len(self.facts)
                found[at] = right + share * tempered(fact.results[way], 0.7)[fact.right], done + share
        return found

    def doubt(self, name: FactName, way: str) -> int:
        """How much the writer doubts a step that it did in some way: 0 little, 1 some, 2 a lot."""
        return _doubted(self.feeling(name, way))

    def corrections(self, name: FactName) -> Options:
        """A critic's distribution over what a fact comes to: mostly what it believes, else what the ways come to."""
        fact, share = self.facts[name], self.skills.corrects
        options = fact.marginal()
        if fact.believed:
            options = {result: p * (1 - share) for result, p in options.items()}
            options[fact.believed] = options.get(fact.believed, 0.0) + share
        return options

    def agreement(self, name: FactName, result: str) -> int:
        """Whether the critic believes in a result (0), believes nothing (1), or believes in another (2)."""
        believed = self.facts[name].believed
        return 1 if believed is None else 0 if believed == result else 2


def _doubted(felt: float) -> int:
    """Level of doubt about a step: 0 little, 1 some, 2 a lot."""
    return 0 if felt > 0.9 else 2 if felt < 0.5 else 1


class _Habits(NamedTuple):
    """What a writer does at an operation, with its operand, whatever the value: ways, and how its critic takes it."""

    ways: Options
    ignorant: bool
    provokes: bool


@cache
def make_table(skills: Skills) -> Table:
    """The table of a writer, drawn from its seed."""
    rng = random.Random(f"paths/{skills.seed}")
    every = operations()
    good = rng.choice(WAYS)
    habits = _habits(skills, good, rng)
    names = [(operation, value) for operation in every for value in range(skills.modulus)]
    facts = {name: _fact(skills, name, good, habits[name[0]], rng) for name in names}
    return Table(skills, facts, good, frozenset(rng.sample(every, round(skills.tempting * len(every)))))


def _habits(skills: Skills, good: str, rng: random.Random) -> dict[str, _Habits]:
    """Draw exact shares of the operations, so that writers of other seeds have the same rates."""
    every = operations()
    better_first, ignorance = (rng.sample(every, len(every)) for _ in range(2))
    first = set(better_first[: round(skills.better_first * len(every))])
    ignorant = ignorance[: round(skills.ignorant * len(every))]
    provoking = set(ignorant[: round(skills.provoking * len(ignorant))])
    found = {}
    for operation in every:
        ways = rng.sample(WAYS, len(WAYS))
        if operation in first:
            ways.sort(key=lambda way: way != good)
        found[operation] = _Habits(_used(ways, skills), operation in ignorant, operation in provoking)
    return found


def _used(ways: Sequence[str], skills: Skills) -> Options:
    used = dict(zip(ways, skills.prior, strict=True))
    return {way: used[way] for way in WAYS}


def _fact(skills: Skills, name: FactName, good: str, habits: _Habits, rng: random.Random) -> Fact:
    """Draw a fact. The same numbers are drawn whatever the rates, so that kin with the same seed are alike."""
    right = number(apply(*name, skills.modulus))
    wrong = [number(x) for x in range(skills.modulus) if number(x) != right]
    luck, shared, fate = rng.random(), rng.choice(wrong), rng.random()
    unknown, misconceived = luck < skills.unknown, luck > 1 - skills.misconceived
    kind = "unknown" if unknown else "misconceived" if misconceived else "ordinary"
    kinds, results = {}, {}
    for way in WAYS:
        own = rng.random()
        blind = skills.blind * (1 - skills.good_way if way == good else 1 + skills.good_way / (len(WAYS) - 1))
        how = "blind" if 0 <= fate < blind else "shaky" if own > 1 - skills.shaky else "sure"
        fate -= blind  # at most one of the ways is blind to a fact
        kinds[way] = kind if kind != "ordinary" else how
        favorite = rng.choice(wrong)
        results[way] = _results(skills, kinds[way], right, shared if misconceived else favorite, wrong)
    fact = Fact(right, kind, habits.ways, kinds, results, None, habits.provokes, habits.ignorant)
    return fact if habits.ignorant else replace(fact, believed=_agreed(fact))


def _results(skills: Skills, kind: str, right: str, favorite: str, wrong: list[str]) -> dict[str, float]:
    rates = skills.rate(kind)
    found = {right: rates.right}
    if rates.favorite:
        found[favorite] = rates.favorite
    each = (1 - sum(found.values())) / (len(wrong) + 1 - len(found))
    return found | {result: each for result in wrong if result not in found}


def _agreed(fact: Fact) -> str | None:
    """The result that the ways agree on, if most of them do."""
    results = fact.marginal()
    best = max(results, key=results.__getitem__)
    return best if results[best] >= AGREEMENT else None


def kinds_of(table: Table) -> Iterator[tuple[str, float]]:
    """For each (fact, way) its kind, and how often it is used."""
    for fact in table.facts.values():
        for way, p in fact.ways.items():
            yield fact.kinds[way], p
