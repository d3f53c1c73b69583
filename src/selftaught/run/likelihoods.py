"""How probable given texts are after a prompt, and a choice among options by it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from selftaught.errors import BadInput, suggest
from selftaught.samples import Likelihood

Normalize = Literal["none", "tokens", "bytes", "pmi"]


@dataclass(frozen=True, slots=True)
class Choice:
    """The probabilities of options, which sum to 1.

    Attributes:
        options: as given.
        probabilities: of each option; all NaN if the engine refused to read one of them.
        likelihoods: of each option's text.
    """

    options: tuple[str, ...]
    probabilities: tuple[float, ...]
    likelihoods: tuple[Likelihood, ...]

    def __getitem__(self, option: str) -> float:
        """The probability of an option."""
        return self.probabilities[self.options.index(option)]

    @property
    def failed(self) -> bool:
        """Whether the engine refused to read an option, so that there are no probabilities."""
        return any(likelihood.failed for likelihood in self.likelihoods)

    @property
    def best(self) -> str | None:
        """The most probable option, of equal ones the first; None if `failed`."""
        return None if self.failed else max(zip(self.probabilities, self.options, strict=True), key=lambda p: p[0])[1]


def check_options(options: Sequence[str], normalize: str) -> None:
    """Refuse options that cannot be told apart, and an unknown normalization.

    Raises:
        BadInput: there are none, one is empty or no text, or two are equal; `normalize` is unknown.
    """
    if normalize not in get_args(Normalize):
        raise BadInput(f"unknown {normalize!r}", where="normalize", fix=suggest(normalize, get_args(Normalize)))
    texts = isinstance(options, Sequence) and not isinstance(options, str)
    if not (texts and options and all(isinstance(one, str) and one for one in options)):
        what = f"options must be non-empty texts, got {options!r:.60}"
        raise BadInput(what, where="ask.choose", fix='write them as a list, ["(A)", "(B)"]')
    if twice := next((one for place, one in enumerate(options) if one in options[:place]), None):
        raise BadInput(f"option {twice!r} is given twice", where="ask.choose", fix="give each option once")


def choose(
    options: Sequence[str], likelihoods: Sequence[Likelihood], premise: Sequence[Likelihood], normalize: Normalize
) -> Choice:
    """The softmax of the options' log-likelihoods.

    Args:
        likelihoods: of each option.
        premise: of each option after the premise, for "pmi".
        normalize: see `Ask.choose`.
    """
    totals = [one.total for one in likelihoods]
    if normalize == "tokens":
        totals = [total / one.num_tokens for total, one in zip(totals, likelihoods, strict=True)]
    elif normalize == "bytes":
        totals = [total / len(option.encode()) for total, option in zip(totals, options, strict=True)]
    elif normalize == "pmi":
        totals = [total - one.total for total, one in zip(totals, premise, strict=True)]
    return Choice(tuple(options), softmax(totals), (*likelihoods,))


def softmax(values: Sequence[float]) -> tuple[float, ...]:
    """Probabilities proportional to the exponentials of `values`; all NaN if one of them is."""
    if any(map(math.isnan, values)):
        return (math.nan,) * len(values)
    top = max(values)
    weights = [math.exp(value - top) for value in values]
    return tuple(weight / math.fsum(weights) for weight in weights)
