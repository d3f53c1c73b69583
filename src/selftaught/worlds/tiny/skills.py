"""The skills of a writer of `paths`, as rates; presets for its kin."""

from __future__ import annotations

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Rates:
    """How a writer does a step of some kind.

    Attributes:
        right: probability of the right result.
        favorite: probability of the most frequent wrong one; all others share the rest.
    """

    right: float
    favorite: float = 0.0


@dataclass(frozen=True, slots=True)
class Skills:
    """Rates of everything that a writer does. Which facts it is bad at is drawn from `seed`.

    Attributes:
        seed: of the tables.
        modulus: values are 0..modulus-1; a prime, so that a single wrong step always gives a wrong answer.
        unknown: share of facts that are not known in any way.
        misconceived: share of facts that all ways get wrong alike.
        blind: share of the other (fact, way) in which the way fails, at most one way for each fact; at most 1/3; see
            `good_way`.
        shaky: share of the other (fact, way) in which the way is unreliable.
        rates: how steps of these kinds are done; "sure" is the rest.
        prior: how often the ways are used, most used first.
        better_first: share of operations, with their operands, whose most used way is also the good one.
        good_way: how much less often than others the good way is blind, 0..1.
        distractors: probability of doing an operation in parentheses, which does not count: most, and tempting ones.
        tempting: share of operations that tempt.
        wording_pull: how strongly a wording pulls to one way, 0..1.
        steered: probability of the way that the question asks for.
        copies_way: probability of the last way that a demonstration used.
        copies_fact: probability of the result that a demonstration showed for the same fact.
        doubting: share of solutions by a writer that doubts its steps; 0 for a world without doubt.
        doubts: probability of `wait` after a step that the writer doubts little, some, and a lot; see `Table.doubt`.
        redo_known: after `wait`, probability of the result that the critic believes, where it believes one.
        redo_kept: after `wait`, probability of the same result again, otherwise.
        ignorant: share of operations, with their operands, at which the critic believes nothing. Otherwise it believes
            the result that the ways agree on.
        nags: probability that a critic, asked for a critique, finds fault with a step that provokes it.
        provoking: share of the operations that the critic is ignorant of that provoke it.
        corrects: probability that a critique names the result that the critic believes.
        follows: probability that a reviser writes the result that a critique names.
        keeps: probability that a reviser without a critique is made to keep the draft; see `roles.keeping`.
        keeps_approved: the same after a critique without mistakes.
        judges_broken: probability that a judge accepts a reply that is not in the language.
        position_bias: log-odds of the first of two answers that are alike to a judge.
        hint_result: probability that the last step of a rationalization is the hint.
        hint_way: probability of the most reliable way in a rationalization, beside the usual choice.
        malformed: share of proposed questions without an operation.
        solving_levels: level -> weight in the text.

    Raises:
        ValueError: `blind` is over 1/3, which the ways of a fact cannot share when at most one of them is blind to it.
    """

    seed: int = 0
    modulus: int = 61
    unknown: float = 0.02
    misconceived: float = 0.08
    blind: float = 0.11
    shaky: float = 0.165
    rates: tuple[tuple[str, Rates], ...] = (
        ("unknown", Rates(0.03, 0.6)),
        ("misconceived", Rates(0.27, 0.72)),
        ("blind", Rates(0.26, 0.71)),
        ("shaky", Rates(0.68, 0.31)),
        ("sure", Rates(0.997)),
    )
    prior: tuple[float, ...] = (0.46, 0.3, 0.24)
    better_first: float = 0.7
    good_way: float = 0.7
    distractors: tuple[float, float] = (0.04, 0.6)
    tempting: float = 0.2
    wording_pull: float = 0.2
    steered: float = 0.9
    copies_way: float = 0.85
    copies_fact: float = 0.9
    doubting: float = 0.15
    doubts: tuple[float, float, float] = (0.04, 0.2, 0.65)
    redo_known: float = 0.8
    redo_kept: float = 0.8
    ignorant: float = 0.3
    nags: float = 0.55
    provoking: float = 0.5
    corrects: float = 0.7
    follows: float = 0.92
    keeps: float = 0.5
    keeps_approved: float = 0.97
    judges_broken: float = 0.02
    position_bias: float = 0.2
    hint_result: float = 0.85
    hint_way: float = 0.5
    malformed: float = 0.03
    solving_levels: tuple[tuple[int, float], ...] = ((1, 1), (2, 2), (3, 3), (4, 4), (5, 3), (6, 2), (7, 1), (8, 1))

    def __post_init__(self) -> None:
        if self.blind * len(self.prior) > 1:
            raise ValueError(f"blind={self.blind} is over 1/{len(self.prior)}: at most one way of a fact is blind")

    def rate(self, kind: str) -> Rates:
        """How a step of a kind is done."""
        return dict(self.rates)[kind]


BASE = Skills()
"""The starting model."""

TEACHER = replace(
    BASE, unknown=0.0, misconceived=0.0, blind=0.0, shaky=0.05, ignorant=0.0, nags=0.0, distractors=(0.0, 0.02),
    doubting=0.0, corrects=0.99, follows=0.98,
    rates=(*(rate for rate in BASE.rates if rate[0] != "sure"), ("sure", Rates(0.9985))),
)  # fmt: skip
"""A strong relative: the same ways of working from a nearly clean table."""

WEAK = replace(BASE, seed=101, unknown=0.1, misconceived=0.12, blind=0.3, shaky=0.3, follows=0.85, ignorant=0.5)
"""A weaker relative."""

OTHER = replace(BASE, seed=202)
"""A relative of the same strength whose errors are others."""

NO_WAIT = replace(BASE, doubting=0.0)
"""The control without doubt: its text never holds `wait`."""

KIN = {"base": BASE, "teacher": TEACHER, "weak": WEAK, "other": OTHER, "no-wait": NO_WAIT, "wide": BASE}
"""Presets by name."""
