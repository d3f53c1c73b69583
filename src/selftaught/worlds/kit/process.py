"""Writing processes: text whose every decision has an exact distribution.

A writing is a generator. It yields what comes next, a certain token or a `Choice` between tokens, and is sent the token
that was written. The same generator therefore samples text, and gives the exact distribution before every token of a
given text, whoever wrote it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Generator, Hashable, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

END = "<|end|>"
"""The token that ends a reply."""

Options = Mapping[str, float]
"""Token -> probability; sums to 1."""


class Part(NamedTuple):
    """One component of the mixture that a choice is drawn from.

    Attributes:
        weight: its probability.
        options: its distribution over tokens.
        key: name of the table entry that holds these options; None if they are not learned.
        name: name of the component in its gate.
        prefix: what the tokens have before those of the table entry.
    """

    weight: float
    options: Options
    key: Hashable | None = None
    name: str = ""
    prefix: str = ""


class Choice(NamedTuple):
    """A decision: the next token is drawn from a mixture of distributions.

    Attributes:
        skill: what the decision needs, such as "way" or "result:sure"; accuracy and divergence are reported by it.
        parts: components of the mixture; their weights sum to 1.
        gate: name of the table entry that holds the weights; None if they are not learned.
        right: the right token; None where none or several are.
    """

    skill: str
    parts: tuple[Part, ...]
    gate: Hashable | None = None
    right: str | None = None

    def distribution(self) -> Options:
        """Token -> its probability, given everything before it."""
        if len(self.parts) == 1:
            return self.parts[0].options
        total: dict[str, float] = {}
        for part in self.parts:
            for token, p in part.options.items():
                total[token] = total.get(token, 0.0) + part.weight * p
        return total

    def posterior(self, token: str) -> list[float]:
        """For each part the probability that it wrote `token`; the weights themselves where none can have."""
        joint = [part.weight * part.options.get(token, 0.0) for part in self.parts]
        total = sum(joint)
        return [p / total for p in joint] if total else [part.weight for part in self.parts]


Writing = Generator["Choice | str", str, Any]
"""Yields a choice or a certain token; is sent the token written. It ends where the reply ends."""

View = Callable[[Hashable, Options], Options]
"""`(key, options) -> options`: the entry of a table, given the one that the world was written with."""

Pick = Callable[[Choice], str]
"""Take a decision."""


def as_written(key: Hashable, options: Options) -> Options:
    """The `View` of the writer itself: every entry as it is."""
    del key
    return options


def single(skill: str, options: Options, key: Hashable | None = None, view: View = as_written) -> Choice:
    """A choice with one component, seen through `view`."""
    return Choice(skill, (Part(1.0, options if key is None else view(key, options), key),))


def mixture(skill: str, parts: Iterable[Part], gate: Hashable | None = None, view: View = as_written) -> Choice:
    """A choice between parts, seen through `view`; those of weight 0 are left out and the rest normalized."""
    kept = [part for part in parts if part.weight > 0]
    total = sum(part.weight for part in kept)
    weights = [part.weight / total for part in kept]
    if gate is not None and view is not as_written:
        shares: dict[str, float] = {}
        for part, weight in zip(kept, weights, strict=True):
            shares[part.name] = shares.get(part.name, 0.0) + weight
        seen = view(gate, shares)
        weights = [w * seen.get(p.name, 0.0) / shares[p.name] for p, w in zip(kept, weights, strict=True)]
    return Choice(skill, tuple(p._replace(weight=w) for p, w in zip(kept, weights, strict=True)), gate)


class Written(NamedTuple):
    """A reply and its decisions.

    Attributes:
        tokens: tokens of the reply, without the end token.
        steps: what the writer had for the place of each token, and of the end: a choice, or a certain token.
        finished: whether the writing came to its end.
    """

    tokens: list[str]
    steps: list[Choice | str]
    finished: bool = True

    @property
    def text(self) -> str:
        """The reply as text."""
        return "".join(self.tokens)


def write(writing: Writing, pick: Pick, forced: Sequence[str] = (), limit: int = 400) -> Written:
    """Run a writing; `pick` decides.

    Args:
        pick: takes a choice's distribution and gives a token.
        forced: tokens that the reply begins with, whoever wrote them.
        limit: most tokens.
    """
    tokens: list[str] = []
    steps: list[Choice | str] = []
    try:
        step = next(writing)
        while len(tokens) < limit:
            steps.append(step)
            certain = forced[len(tokens)] if len(tokens) < len(forced) else step
            token = certain if isinstance(certain, str) else pick(certain)
            if token == END:
                return Written(tokens, steps)
            tokens.append(token)
            step = writing.send(token)
    except StopIteration:
        pass
    return Written(tokens, steps, False)


def read(writing: Writing, tokens: Sequence[str]) -> list[Choice | str]:
    """What a writer would have written in the place of each token of a given text, and after it.

    Returns:
        For each token, and for the end, the choice, or the token that was certain. Shorter than the text where the
        text leaves the language.
    """
    found: list[Choice | str] = []
    try:
        step = next(writing)
        for token in tokens:
            found.append(step)
            step = writing.send(token)
        found.append(step)
    except StopIteration:
        if len(found) == len(tokens):
            found.append(END)
    return found


def other_than(written: str, options: Options) -> Options:
    """The distribution over tokens other than the written one; as it is if there are none."""
    kept = {token: p for token, p in options.items() if token != written and p > 0}
    total = sum(kept.values())
    return {token: p / total for token, p in kept.items()} if kept else options


def tempered(options: Options, temperature: float) -> Options:
    """The distribution at a sampling temperature above 0."""
    if temperature == 1.0:
        return options
    most = max(options.values())
    powers = {token: (p / most) ** (1 / temperature) for token, p in options.items() if p > 0}
    total = sum(powers.values())
    return {token: p / total for token, p in powers.items()}


def draw(options: Options, rng: random.Random) -> str:
    """Draw a token."""
    luck = rng.random() * sum(options.values())
    for token, p in options.items():
        luck -= p
        if luck < 0:
            return token
    return max(options, key=options.__getitem__)


def greedy(choice: Choice) -> str:
    """The most likely token; of equals the first."""
    options = choice.distribution()
    return max(options, key=options.__getitem__)


def sampled(rng: random.Random, temperature: float = 1.0) -> Pick:
    """A `Pick` that samples; the most likely token at temperature 0."""
    if temperature <= 0:
        return greedy
    return lambda choice: draw(tempered(choice.distribution(), temperature), rng)
