"""The tabular twin of a model: the writer's own tables, with count updates in place of gradients.

It plays a method in a second, and what comes out is known to come from the method and the world, not from a network's
training. Use it for directions, orders and ceilings: a network generalizes from one entry to others, a twin only within
an entry.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping

from selftaught.records import Prompt
from selftaught.worlds.kit.language import tokenize
from selftaught.worlds.kit.process import END, Choice, Options, Writing, Written, sampled, write
from selftaught.worlds.kit.writer import Writer

Demonstration = tuple[Prompt, str]
"""A prompt and the reply to imitate."""


class Twin:
    """A policy that is a writer's tables with counts of what it was taught. Immutable; `learn` returns another.

    An entry's distribution is `(strength * before + counts) / (strength + total)`: a Dirichlet posterior.

    Args:
        writer: the base model.
        strength: what the base's knowledge of an entry weighs, in demonstrations.
        counts: entry -> token -> count.
    """

    def __init__(
        self, writer: Writer, strength: float = 4.0, counts: Mapping[Hashable, Mapping[str, float]] | None = None
    ) -> None:
        self.writer, self.strength = writer, strength
        self._counts: Mapping[Hashable, Mapping[str, float]] = counts or {}
        self._totals = {key: sum(found.values()) for key, found in self._counts.items()}
        self._seen: dict[Hashable, tuple[Options, Options]] = {}

    def view(self, key: Hashable, options: Options) -> Options:
        """The entry of a table as it is now, given the writer's."""
        counts = self._counts.get(key)
        if counts is None:
            return options
        seen = self._seen.get(key)
        if seen is None or seen[0] is not options:
            whole = self.strength + self._totals[key]
            now = {token: self.strength * p / whole for token, p in options.items()}
            for token, count in counts.items():
                now[token] = now.get(token, 0.0) + count / whole
            seen = self._seen[key] = (options, now)
        return seen[1]

    def reply(self, prompt: Prompt) -> Writing:
        """The writing that answers a prompt.

        Raises:
            ValueError: the prompt is not in the language.
        """
        writing = self.writer.reply(prompt, self.view)
        if writing is None:
            raise ValueError(f"not in the language of this world: {prompt[-1].content!r:.80}")
        return writing

    def write(self, prompt: Prompt, rng: random.Random, temperature: float = 0.7, prefix: str = "") -> Written:
        """Sample a reply that begins with `prefix`; greedy at temperature 0."""
        return write(self.reply(prompt), sampled(rng, temperature), tokenize(prefix))

    def answer(self, prompt: Prompt, rng: random.Random, temperature: float = 0.7, prefix: str = "") -> str:
        """The text of a sampled reply."""
        return self.write(prompt, rng, temperature, prefix).text

    def sample_many(self, prompt: Prompt, n: int, rng: random.Random, temperature: float = 0.7) -> list[str]:
        """The texts of `n` sampled replies."""
        return [self.answer(prompt, rng, temperature) for _ in range(n)]

    def learn(self, demonstrations: Iterable[Demonstration], weight: float = 1.0) -> Twin:
        """A twin that also counts these demonstrations; a text counts up to where it leaves the language.

        A decision drawn from a mixture counts for its components by their posterior probability.
        """
        counts: dict[Hashable, Counter[str]] = {key: Counter(found) for key, found in self._counts.items()}
        for prompt, text in demonstrations:
            for choice, token in self.decisions(prompt, text):
                for part, share in zip(choice.parts, choice.posterior(token), strict=True):
                    if part.key is not None and token in part.options:
                        counts.setdefault(part.key, Counter())[token.removeprefix(part.prefix)] += share * weight  # type: ignore[assignment]
                    if choice.gate is not None:
                        counts.setdefault(choice.gate, Counter())[part.name] += share * weight  # type: ignore[assignment]
        return Twin(self.writer, self.strength, counts)

    def decisions(self, prompt: Prompt, text: str) -> list[tuple[Choice, str]]:
        """The decisions that a reply took, each with its token."""
        writing, found = self.writer.reply(prompt, self.view), []
        if writing is None:
            return []
        try:
            step = next(writing)
            for token in (*tokenize(text), END):
                if not isinstance(step, str):
                    found.append((step, token))
                step = writing.send(token)
        except StopIteration:
            pass
        return found
