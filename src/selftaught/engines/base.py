"""The engine protocol: request, errors, and what every engine must do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from selftaught.errors import BadInput
from selftaught.models.policy import Policy
from selftaught.records import Prompt
from selftaught.samples import Likelihood, Sample, Sampling


@dataclass(frozen=True, slots=True)
class Request:
    """A request for one answer.

    Attributes:
        prompt: chat messages.
        sampling: sampling parameters.
        seed: determines every random choice together with the request, independent of the batch.
        prefix: text that the answer starts with; not part of the sample.
        prefix_tokens: what the answer continues after `prefix`, also not part of the sample: token ids, and text
            inserted between them. End-of-sequence tokens among them are dropped. Given the tokens of an earlier
            sample and its seed, the answer continues as if it had not been cut off.
        top_logprobs: how many of the most probable tokens to return at every step, with `Sample.entropies` and
            `Sample.self_certainties`; None for none of them.
    """

    prompt: Prompt
    sampling: Sampling = field(default_factory=Sampling)
    seed: int = 0
    prefix: str = ""
    prefix_tokens: tuple[int | str, ...] = ()
    top_logprobs: int | None = None


@dataclass(frozen=True, slots=True)
class HeadValues:
    """What a policy's value head says of one text.

    Attributes:
        values: the head's number at each place that was asked for: a logit or a reward, as the head was trained.
        prompt_tokens: number of tokens read, those of the prompt and of the text.
    """

    values: tuple[float, ...]
    prompt_tokens: int


class EngineError(RuntimeError):
    """The engine cannot continue: it is closed, or the weights do not fit the machine."""


class RequestRefused(EngineError):
    """The engine cannot serve this request (too long, empty, NaN logits); others are unaffected."""


class RequestFailed(RequestRefused):
    """The request got no answer for reasons outside of it; a later attempt may succeed."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an engine supports beyond sampling text. It refuses the rest in one line.

    Attributes:
        seeds: the same request to the same policy always gets the same answer.
        prefix: answers continue a given text (`Request.prefix`). An endpoint may still refuse at the first request,
            if its server does not say that it supports this.
        prefix_tokens: answers continue given tokens (`Request.prefix_tokens`).
        top_logprobs: `Request.top_logprobs` is served.
        logprobs: given texts are scored (`Engine.loglikelihood`).
        scores: value heads are read (`Engine.scores`).
        trained_policies: policies trained here can be sampled.
        live_models: models can be sampled while they are in training (`Engine.attach_model`).
        endpoints: policies of models behind an endpoint (`Policy.remote`) can be sampled.
    """

    seeds: bool = False
    prefix: bool = False
    prefix_tokens: bool = False
    top_logprobs: bool = False
    logprobs: bool = False
    scores: bool = False
    trained_policies: bool = False
    live_models: bool = False
    endpoints: bool = False


@runtime_checkable
class Engine(Protocol):
    """Samples answers. Requests arrive one by one from many coroutines; the engine batches them.

    Asked for a policy that it does not hold, an engine loads it or raises; it never answers from stale weights.
    """

    @property
    def name(self) -> str:
        """Short name, as recorded in journals."""
        ...

    @property
    def dtype(self) -> str:
        """Number format as requested ("auto", "float32", ...); empty if the engine does not choose it."""
        ...

    @property
    def capabilities(self) -> Capabilities:
        """What the engine supports beyond sampling text."""
        ...

    @property
    def busy_seconds(self) -> float:
        """Wall-clock seconds with at least one request in progress."""
        ...

    @property
    def num_retries(self) -> int:
        """How many times a request was sent again after a failure."""
        ...

    async def sample(self, policy: Policy, request: Request) -> Sample:
        """Sample one answer from `policy`.

        Raises:
            RequestRefused: the engine cannot serve this request; others are unaffected.
            BadInput: the model's chat template cannot render the prompt.
            EngineError: the engine is closed, or the policy cannot be loaded.
        """
        ...

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """Log-probability of each token of `text` as the beginning of the answer to `prompt`. Raises as `sample`."""
        ...

    async def scores(self, policy: Policy, prompt: Prompt, text: str, ends: Sequence[int]) -> HeadValues:
        """The number of the policy's value head at places of `text` after `prompt`.

        Args:
            ends: characters of `text` that the head has seen at each place; 0 is the prompt alone.

        Raises:
            BadInput: the engine reads no heads (`Capabilities.scores`), or the policy has none that fits its weights.
            RequestRefused: the text does not fit the context, or the head returned NaN.
        """
        ...

    def attach_model(self, policy: Policy, model: Any) -> None:
        """Serve `policy` from a model in training, without copying its weights.

        Raises:
            BadInput: the engine does not support it (`Capabilities.live_models`).
        """
        ...

    def release(self) -> None:
        """Free the memory of weights and caches once no request is in progress; the next request loads again."""
        ...

    def close(self) -> None:
        """Stop the engine; later requests raise `EngineError`. Idempotent."""
        ...


class BaseEngine:
    """Defaults of an engine: optional features are refused in one line."""

    name = ""
    dtype = ""
    capabilities = Capabilities()
    busy_seconds = 0.0
    num_retries = 0

    async def loglikelihood(self, policy: Policy, prompt: Prompt, text: str) -> Likelihood:
        """See `Engine.loglikelihood`.

        Raises:
            RequestRefused: always.
        """
        del policy, prompt, text
        raise RequestRefused(f"engine {self.name} cannot score a given text; use an engine that holds the weights")

    async def scores(self, policy: Policy, prompt: Prompt, text: str, ends: Sequence[int]) -> HeadValues:
        """See `Engine.scores`.

        Raises:
            BadInput: always.
        """
        del policy, prompt, text, ends
        what = "it cannot read a value head"
        raise BadInput(what, where=f"engine {self.name}", fix="use the local engine (--engine local)")

    def attach_model(self, policy: Policy, model: Any) -> None:
        """See `Engine.attach_model`.

        Raises:
            BadInput: always.
        """
        del policy, model
        what = "it cannot sample from weights in training"
        raise BadInput(what, where=f"engine {self.name}", fix="use the local engine (--engine local)")

    def release(self) -> None:
        """See `Engine.release`; there is nothing to free."""


class Accounts(Protocol):
    """Keeps a lasting record of the requests that are sent to an endpoint, so that what a kill costs is known."""

    def book(self, request: int, prompt: int, completion: int) -> None:
        """The request of this seed is about to be sent, and takes these tokens at most."""
        ...

    def release(self, request: int) -> None:
        """It costs nothing: it was refused, or could not be sent."""
        ...

    def lose(self, request: int) -> None:
        """There is no answer that is kept, and it may be billed."""
        ...


@runtime_checkable
class PaidEngine(Protocol):
    """An engine whose tokens cost money. Earlier cost of a run is added, so that a limit holds across restarts."""

    @property
    def spent(self) -> float:
        """Dollars spent so far, including earlier starts; 0 if no price is known."""
        ...

    @property
    def in_flight(self) -> int:
        """Number of requests that are sent and not answered yet."""
        ...

    def add_prior_usage(self, prompt_tokens: int, completion_tokens: int, *, answered: bool = True) -> None:
        """Count tokens that were paid for on earlier starts, and whether they were those of answers."""
        ...

    def keep_accounts(self, accounts: Accounts | None) -> None:
        """Book each request there before it is sent, or no more. Whoever keeps an answer ends its booking.

        Raises:
            BadInput: it keeps the accounts of another run.
        """
        ...

    def cancel_unsent(self, reason: BaseException) -> None:
        """Fail all requests that were not sent yet with `reason`; those already sent are still answered."""
        ...


def validate_request(request: Request) -> None:
    """Refuse a request for no tokens.

    Raises:
        RequestRefused: `max_tokens` is below 1.
    """
    if request.sampling.max_tokens < 1:
        raise RequestRefused(f"max_tokens must be ≥ 1, got {request.sampling.max_tokens}")


def truncate_at_stop(text: str, stop: Sequence[str]) -> str | None:
    """`text` up to the first stop string in it, or None if there is none."""
    hits = [at for s in stop if (at := text.find(s)) >= 0]
    return text[: min(hits)] if hits else None
