"""The tables of a writer of `paths`: for each fact the ways, their reliabilities, and what a critic believes."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, cached_property

from selftaught.worlds.kit.language import OPERATIONS, WAYS, number
from selftaught.worlds.kit.process import Options, tempered
from selftaught.worlds.paths.skills import Skills

USED = range(2, 9)  # operands
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
    """

    right: str
    kind: str
    ways: Options
    kinds: Mapping[str, str]
    results: Mapping[str, Options]
    believed: str | None
    provokes: bool = False

    @property
    def best_way(self) -> str:
        """The most reliable way."""
        return max(WAYS, key=lambda way: self.results[way].get(self.right, 0.0))

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
        tempting: operations that it is likely to do even in parentheses.
    """

    skills: Skills
    facts: Mapping[FactName, Fact]
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

    def agreement(self, name: FactName, result: str) -> int:
        """Whether the critic believes in a result (0), believes nothing (1), or believes in another (2)."""
        believed = self.facts[name].believed
        return 1 if believed is None else 0 if believed == result else 2


@cache
def make_table(skills: Skills) -> Table:
    """The table of a writer, drawn from its seed."""
    rng = random.Random(f"paths/{skills.seed}")
    good = {sign: rng.choice(WAYS) for sign in OPERATIONS}
    names = ((operation, value) for operation in operations() for value in range(skills.modulus))
    facts = {name: _fact(skills, name, good[name[0][1]], rng) for name in names}
    every = operations()
    return Table(skills, facts, frozenset(rng.sample(every, round(skills.tempting * len(every)))))


def _fact(skills: Skills, name: FactName, good: str, rng: random.Random) -> Fact:
    """Draw a fact. The same numbers are drawn whatever the rates, so that kin with the same seed are alike."""
    right = number(apply(*name, skills.modulus))
    wrong = [number(x) for x in range(skills.modulus) if number(x) != right]
    luck, shared, doubtful = rng.random(), rng.choice(wrong), rng.random()
    unknown, misconceived = luck < skills.unknown, luck > 1 - skills.misconceived
    kind = "unknown" if unknown else "misconceived" if misconceived else "ordinary"
    kinds, results = {}, {}
    for way in WAYS:
        own = rng.random()
        blind = skills.blind * (1 - skills.good_way if way == good else 1 + skills.good_way / (len(WAYS) - 1))
        how = "blind" if own < blind else "shaky" if own > 1 - skills.shaky else "sure"
        kinds[way] = kind if kind != "ordinary" else how
        favorite = rng.choice(wrong)
        results[way] = _results(skills, kinds[way], right, shared if misconceived else favorite, wrong)
    ways = _prior(skills, {way: results[way][right] for way in WAYS}, rng)
    believed, provoked = _belief(skills, kind, right, shared, doubtful), rng.random() < skills.provoking
    return Fact(right, kind, ways, kinds, results, believed, believed is None and provoked)


def _results(skills: Skills, kind: str, right: str, favorite: str, wrong: list[str]) -> dict[str, float]:
    rates = skills.rate(kind)
    found = {right: rates.right}
    if rates.favorite:
        found[favorite] = rates.favorite
    each = (1 - sum(found.values())) / (len(wrong) + 1 - len(found))
    return found | {result: each for result in wrong if result not in found}


def _prior(skills: Skills, reliability: Mapping[str, float], rng: random.Random) -> dict[str, float]:
    ways = list(WAYS)
    rng.shuffle(ways)
    if rng.random() < skills.better_first:
        ways.sort(key=lambda way: -reliability[way])
    used = dict(zip(ways, skills.prior, strict=True))
    return {way: used[way] for way in WAYS}


def _belief(skills: Skills, kind: str, right: str, shared: str, luck: float) -> str | None:
    """What the critic believes: the right result, a wrong one, or nothing."""
    if luck < dict(skills.knows)[kind]:
        return right
    if kind == "misconceived":
        return shared
    return shared if kind == "ordinary" and luck > 1 - skills.mistaken else None


def kinds_of(table: Table) -> Iterator[tuple[str, float]]:
    """For each (fact, way) its kind, and how often it is used."""
    for fact in table.facts.values():
        for way, p in fact.ways.items():
            yield fact.kinds[way], p
