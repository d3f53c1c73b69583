"""The engine protocol: where tokens come from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.records import Prompt


@dataclass(frozen=True, slots=True)
class Sampling:
    """How to sample.

    Attributes:
        temperature: 0 is greedy, as is anything below 1e-6.
        top_p: keep the smallest set of tokens whose probabilities sum to at least this (1 = all).
        top_k: keep this many most probable tokens (0 = all).
        max_tokens: most tokens to sample.
        stop: strings that end the answer; the one met is cut off the text.

    Raises:
        BadInput: a value that means nothing.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 0
    max_tokens: int = 256
    stop: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if not 0 <= self.temperature < float("inf"):
            raise BadInput(f"{self.temperature} is no temperature", where="temperature", fix="use 0 (greedy) or more")
        if not 0 < self.top_p <= 1:
            raise BadInput(f"{self.top_p} is no share of probability", where="top_p", fix="use a number in (0, 1]")
        if self.top_k < 0:
            raise BadInput(f"{self.top_k} is no number of tokens", where="top_k", fix="use 0 (all) or more")
        if isinstance(self.stop, str) or not all(self.stop):
            raise BadInput(f"got {self.stop!r}", where="stop", fix="give a tuple of non-empty strings")

    @property
    def greedy(self) -> bool:
        """Whether the most probable token is always taken."""
        return self.temperature < 1e-6


@dataclass(frozen=True, slots=True)
class Request:
    """One answer asked for.

    Attributes:
        prompt: chat messages.
        sampling: how to sample.
        seed: with the request, decides every random choice, whatever else is in the batch.
        prefix: text the answer is made to begin with; it is not part of the sample.
        given: what the answer goes on from, after `prefix`; not part of the sample either: tokens, and text that is
            put between them. An end of sequence among the tokens is left out. With the tokens of an earlier sample and
            its seed, the answer goes on as if it had never been cut off.
        top: name this many of the most probable tokens at every step, and the entropy; None for neither.
    """

    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    prefix: str = ""
    prefix_tokens: tuple[int | str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class Sample:
    """One answer.

    Attributes:
        text: the answer without special tokens. Where the chat template opens the thinking and the answer never
            closes it, the opening tag stands before it, so that it is not taken for more than thinking.
        token_ids: the tokens sampled, the end-of-sequence token included where it was sampled; empty where an
            endpoint does not tell them.
        logprobs: natural-log probability of each under the model at temperature 1, untruncated; empty where an
            endpoint does not tell them.
        finish_reason: "stop" (end of sequence or a stop string) or "length".
        prompt_tokens: number of prompt tokens.
        policy: version of the policy that was sampled.
        top: for each token sampled, the most probable tokens there with their log-probabilities, where asked for.
        entropies: for each token sampled, the entropy in nats of what it was sampled from, at temperature 1 and
            untruncated, where asked for.
        counted: number of tokens sampled, where an endpoint tells it but not the tokens.
        cut: what the tokens say beyond the text: the stop string that was met, and what its last token holds behind
            it. Empty where none was met, and from an endpoint, which does not tell.
        replaced: whether invalid characters (half a surrogate pair, bytes that are not UTF-8) became U+FFFD.
    """

    text: str
    token_ids: tuple[int, ...]
    logprobs: tuple[float, ...]
    finish_reason: str
    prompt_tokens: int
    policy: str
    top_logprobs: tuple[tuple[tuple[int, float], ...], ...] = ()
    entropies: tuple[float, ...] = ()
    num_tokens: int | None = None
    stop_text: str = ""
    replaced: bool = False

    @property
    def tokens(self) -> int:
        """Number of tokens sampled."""
        return len(self.token_ids) if self.num_tokens is None else self.num_tokens


class EngineError(RuntimeError):
    """An engine that cannot go on: it is closed, or the machine cannot hold the weights."""


class RequestRefused(EngineError):
    """One request that an engine cannot serve (too long, empty, NaN logits); the others go on."""


class RequestFailed(RequestRefused):
    """One request that got no answer for reasons that are not its own; asked again later it may get one."""


@runtime_checkable
class Engine(Protocol):
    """Where tokens come from. Requests arrive one by one from many coroutines; the engine batches them.

    An engine asked to sample from a policy it does not hold loads it or raises: stale weights are an error.

    Attributes:
        name: short name, as it stands in journals.
        busy_seconds: wall-clock seconds in which the engine had something to do.
    """

    name: str
    busy_seconds: float

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """One answer from `policy`.

        Raises:
            RequestRefused: this request cannot be served; the others go on.
            BadInput: the model's chat template cannot render the prompt.
            EngineError: the engine is closed, or the policy cannot be loaded.
        """
        ...

    async def logprobs(self, policy: Policy, prompt: Prompt, text: str) -> tuple[float, ...]:
        """Natural-log probability of each token of `text` after `prompt`, at temperature 1. Raises as `sample`."""
        ...

    def release(self) -> None:
        """Give back the memory of weights and caches once no answer is under way; the next request loads again."""
        ...

    def close(self) -> None:
        """Stop. Closing twice is harmless; requests after it raise `EngineError`."""
        ...


@runtime_checkable
class PaidEngine(Protocol):
    """An engine whose tokens cost money. It is told what a run spent before, so that a cap holds across restarts."""

    @property
    def spent(self) -> float:
        """Dollars spent so far, those carried over included; 0 where no price is known."""
        ...

    def add_prior_usage(self, prompt_tokens: int, completion_tokens: int) -> None:
        """Count tokens of prompts and of answers that were paid for earlier."""
        ...

    def cancel_unsent(self, reason: Exception) -> None:
        """Send nothing more of what is asked for by now, which fails with `why`; what is under way is answered."""
        ...


def validate_request(request: Request) -> None:
    """Refuse a request that asks for no token."""
    if request.sampling.max_tokens < 1:
        raise RequestRefused(f"max_tokens is {request.sampling.max_tokens}, expected at least 1")


def truncate_at_stop(text: str, stop: Sequence[str]) -> str | None:
    """`text` up to the first stop string in it, or None where none occurs."""
    hits = [at for s in stop if (at := text.find(s)) >= 0]
    return text[: min(hits)] if hits else None
