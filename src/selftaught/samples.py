"""Samples and likelihoods: how text is sampled, what an engine returns, and how the journal keeps it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from numbers import Real
from typing import Any

from selftaught.errors import BadInput
from selftaught.packed_numbers import pack_decimals, pack_integers, unpack


@dataclass(frozen=True, slots=True)
class Sampling:
    """Sampling parameters.

    Attributes:
        temperature: 0 is greedy, as is anything below 1e-6.
        top_p: sample from the smallest set of tokens whose probabilities sum to at least this (1 = all).
        top_k: sample from this many most probable tokens (0 = all).
        max_tokens: maximum number of tokens to sample.
        stop: strings that end the answer; the one that matches is removed from the text.

    Raises:
        BadInput: a value is out of range, or of another type.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for name, whole in _NUMBERS.items():
            _check_number(name, getattr(self, name), whole=whole)
        if not 0 <= self.temperature < float("inf"):
            what = f"temperature must be ≥ 0, got {self.temperature}"
            raise BadInput(what, where="temperature", fix="use 0 for greedy sampling")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"top_p must be in (0, 1], got {self.top_p}", where="top_p", fix="use 1 for all tokens")
        if self.top_k < 0:
            raise BadInput(f"top_k must be ≥ 0, got {self.top_k}", where="top_k", fix="use 0 for all tokens")
        if not (isinstance(self.stop, tuple) and all(isinstance(one, str) and one for one in self.stop)):
            what = f"stop must be a tuple of non-empty strings, got {self.stop!r}"
            raise BadInput(what, where="stop", fix="write stop=('END',)")

    @property
    def greedy(self) -> bool:
        """Whether sampling always takes the most probable token."""
        return self.temperature < 1e-6


_NUMBERS = {"temperature": False, "top_p": False, "top_k": True, "max_tokens": True}  # whether it is a whole one


def _check_number(name: str, value: Any, *, whole: bool) -> None:
    """Raise BadInput for an option of sampling that is no number."""
    if type(value) is int or (type(value) is float and not whole):  # nearly always
        return
    if isinstance(value, bool) or not isinstance(value, Real) or (whole and value != value // 1):
        what = f"{name} must be a {'whole ' if whole else ''}number, got {value!r:.60}"
        raise BadInput(what, where=name, fix="pass a number without quotes" if isinstance(value, str) else "")


def _rare(default: Any, write: Callable[[Any], Any] | None = None, read: Callable[[Any], Any] | None = None) -> Any:
    """A field that the journal and the JSON of an attempt leave out while it has its usual value.

    Args:
        write: plain JSON of a value; by default the value itself.
        read: the value of its JSON; by default the JSON itself.
    """
    return field(default=default, metadata={"usually": default, "write": write, "read": read})


def _write_numbers(values: tuple[float, ...]) -> list[float]:
    return [round(value, 4) for value in values]


def _write_top(steps: tuple[tuple[tuple[int, float], ...], ...]) -> list[list[float]]:
    """Each step as one flat list: token, log-probability, token, log-probability, ..."""
    return [[part for token, logprob in step for part in (token, round(logprob, 4))] for step in steps]


def _read_top(steps: list[list[Any]]) -> tuple[tuple[tuple[int, float], ...], ...]:
    return tuple(tuple(zip(step[::2], step[1::2], strict=True)) for step in steps)


@dataclass(frozen=True, slots=True)
class Sample:
    """One sampled answer.

    A field made by `_rare` is journaled, and part of `Attempt.sample`, without any other code naming it.

    Attributes:
        text: the answer without special tokens. If the chat template opens the reasoning and the answer does not
            close it, the text starts with the opening tag, so that it is not mistaken for a final answer.
        token_ids: sampled tokens, including the end-of-sequence token if it was sampled; empty for endpoints that
            do not return them.
        logprobs: natural-log probability of each token under the model at temperature 1, without truncation; empty
            for endpoints that do not return them.
        finish_reason: "stop" (end of sequence or a stop string), "length", "error" (the request was refused or
            failed), or "unfinished" (a search ended before the answer did).
        prompt_tokens: number of prompt tokens.
        policy: version of the policy that was sampled.
        top_logprobs: for each sampled token, the most probable tokens with their log-probabilities, if requested.
        entropies: for each sampled token, the entropy in nats of the distribution at temperature 1, without
            truncation, if requested.
        self_certainties: for each sampled token, KL(U || p) in nats: how far that distribution p is from the uniform
            U over the V tokens of nonzero probability, - log V - mean log p; if requested (2502.18581, equation 9).
        num_tokens: number of sampled tokens, for endpoints that report it but not the tokens.
        stop_text: what the tokens hold beyond the text: the stop string that matched, and the rest of its last
            token. Empty if none matched, and for endpoints, which do not return it.
        replaced: whether invalid characters (unpaired surrogates, bytes that are not UTF-8) became U+FFFD.
    """

    text: str
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish_reason: str = "stop"
    prompt_tokens: int = 0
    policy: str = ""
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = _rare((), _write_top, _read_top)
    entropies: tuple[float, ...] = _rare((), _write_numbers, tuple)
    self_certainties: tuple[float, ...] = _rare((), _write_numbers, tuple)
    num_tokens: int | None = _rare(None)
    stop_text: str = _rare("", lambda text: well_formed(text))
    replaced: bool = _rare(False)

    @property
    def tokens(self) -> int:
        """Number of sampled tokens."""
        return len(self.token_ids) if self.num_tokens is None else self.num_tokens


_RARE = [(f.name, f.default, f.metadata["write"], f.metadata["read"]) for f in fields(Sample) if f.metadata]


def rare_facts(sample: Sample) -> dict[str, Any]:
    """What is not as usual in a sample, as plain JSON by the name of the field."""
    found = ((name, getattr(sample, name), usual, write) for name, usual, write, _ in _RARE)
    return {name: write(value) if write else value for name, value, usual, write in found if value != usual}


def sample_to_json(sample: Sample) -> dict[str, Any]:
    """What the journal keeps of a sample, besides the policy and the prompt tokens, which it knows."""
    text = well_formed(sample.text)
    found: dict[str, Any] = {"text": text, "tokens": pack_integers(sample.token_ids), "finish": sample.finish_reason}
    found["logprobs"] = pack_decimals(sample.logprobs)
    found |= rare_facts(sample)
    return found if text == sample.text else found | {"replaced": True}


def sample_from_json(row: Mapping[str, Any], policy: str, prompt_tokens: int) -> Sample:
    """The sample that `sample_to_json` wrote; other keys of `row` are ignored."""
    rare = {name: read(row[name]) if read else row[name] for name, _, _, read in _RARE if name in row}
    tokens, logprobs = unpack(row["tokens"]), unpack(row["logprobs"])
    return Sample(well_formed(row["text"]), tokens, logprobs, row["finish"], prompt_tokens, policy, **rare)


@dataclass(frozen=True, slots=True)
class Likelihood:
    """How probable a given text is after a prompt.

    Attributes:
        logprobs: natural-log probability of each token of the text, at temperature 1; one NaN if the engine refused to
            read the text.
        prompt_tokens: number of prompt tokens.
    """

    logprobs: tuple[float, ...]
    prompt_tokens: int = 0

    @property
    def total(self) -> float:
        """Log-probability of the whole text, in nats; NaN if the engine refused to read it."""
        return math.fsum(self.logprobs)

    @property
    def num_tokens(self) -> int:
        """Number of tokens of the text."""
        return len(self.logprobs)

    @property
    def failed(self) -> bool:
        """Whether the engine refused to read the text."""
        return any(map(math.isnan, self.logprobs))


def well_formed(text: str) -> str:
    """`text` with U+FFFD for each lone surrogate, which no encoding can hold."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text
