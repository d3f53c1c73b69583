"""A request on its way through an engine: tokenization, when its answer ends, and delivery of results."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from selftaught.engines.base import Request, RequestRefused, Sample, truncate_at_stop
from selftaught.engines.local.paged_cache import BlockTable
from selftaught.engines.local.shared_prefixes import SharedPrefix
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy

MIN_STOP_WINDOW = 64  # stop strings are searched in at least this many tokens at the end of an answer
NAN_MESSAGE = "the model returned NaN logits; try --dtype float32"


@dataclass(slots=True, eq=False)
class RequestState:
    """A request in progress.

    Attributes:
        policy: what to sample or to score with.
        request: the request.
        future: receives a `Sample`, or for `score_text` its `Likelihood` or `HeadValues`; belongs to the caller's event
            loop.
        arrival_time: seconds of a monotonic clock.
        score_text: text to score instead of sampling, or None.
        read_ends: characters of `score_text` after which the value head is read, instead of log-probabilities.
        prompt_ids: tokens that the answer continues: the prompt, then `prefix_ids`. Empty until tokenized.
        prefix_ids: tokens of `Request.prefix_tokens`.
        output_ids: tokens sampled so far, with their `logprobs`, and `distributions` if requested; when scoring, the
            tokens of `score_text`.
        distributions: for each sampled token, the most probable tokens, the entropy and the self-certainty.
        max_new_tokens: maximum number of tokens to sample, within the context.
        shared_prefix: the cached prompt, while it decodes.
        block_table: cache blocks of the sampled tokens.
        read_at: positions, in prompt and text, of the tokens after which the value head is read.
        stop_search_start: number of sampled tokens that need not be searched for stop strings again.
    """

    policy: Policy
    request: Request
    future: asyncio.Future[Any]
    arrival_time: float
    score_text: str | None = None
    read_ends: tuple[int, ...] = ()
    prompt_ids: tuple[int, ...] = ()
    prefix_ids: tuple[int, ...] = ()
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    distributions: list[tuple[tuple[tuple[int, float], ...], float, float]] = field(default_factory=list)
    uniforms: Iterator[float] = field(default_factory=lambda: iter(()))
    max_new_tokens: int = 0
    shared_prefix: SharedPrefix | None = None
    block_table: BlockTable = field(default_factory=BlockTable)
    read_at: tuple[int, ...] = ()
    stop_search_start: int = 0

    def restarted(self) -> RequestState:
        """The same request as it arrived."""
        return RequestState(self.policy, self.request, self.future, self.arrival_time, self.score_text, self.read_ends)

    @property
    def last_index(self) -> int:
        """Index of the newest sampled token."""
        return len(self.output_ids) - 1


def tokenize(
    state: RequestState, tokenizer: ChatTokenizer, encode_prompt: Callable[..., Sequence[int]], max_context: int
) -> None:
    """Fill in the tokens of a request, and how many it may sample.

    Args:
        encode_prompt: `ChatTokenizer.encode_prompt`, memoized.
        max_context: maximum number of tokens of a sequence.

    Raises:
        RequestRefused: the prompt is empty, or the request does not fit the context.
        BadInput: the chat template cannot render the prompt.
    """
    request = state.request
    prefix_ids = prefix_token_ids(request.prefix_tokens, tokenizer)
    prompt_ids = (*encode_prompt(request.prompt, request.prefix), *prefix_ids)
    if not prompt_ids:
        raise RequestRefused("the prompt is empty")
    if state.score_text is not None:
        state.output_ids = tokenizer.encode_answer(state.score_text) if state.score_text else []
        if (size := len(prompt_ids) + len(state.output_ids)) > max_context:
            raise RequestRefused(f"{size} tokens to score and the model's context holds {max_context}")
        state.read_at = _read_positions(state, tokenizer, len(prompt_ids))
    state.max_new_tokens = min(request.sampling.max_tokens, max_context - len(prompt_ids))
    if state.max_new_tokens < 1 and state.score_text is None:
        raise RequestRefused(f"the prompt has {len(prompt_ids)} tokens and the model's context holds {max_context}")
    state.prompt_ids, state.prefix_ids = prompt_ids, prefix_ids
    state.uniforms = uniforms(request.seed, len(prefix_ids))


def _read_positions(state: RequestState, tokenizer: ChatTokenizer, prompt_tokens: int) -> tuple[int, ...]:
    """See `RequestState.read_at`: the last token of the text up to each end, as `prm` trains it."""
    text, most = state.score_text or "", len(state.output_ids)
    counts = [most if end >= len(text) else len(tokenizer.encode_answer(text[:end])) for end in state.read_ends]
    return tuple(prompt_tokens - 1 + min(count, most) for count in counts)


def uniforms(seed: int, skip: int = 0) -> Iterator[float]:
    """The random numbers in [0, 1) of a request, determined by its seed alone, from that of token `skip` on."""
    import numpy as np

    stream = np.random.Generator(np.random.Philox(key=seed))
    stream.random(skip)
    while True:
        yield from stream.random(64).tolist()


def prefix_token_ids(pieces: Sequence[int | str], tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """`Request.prefix_tokens` as token ids: text is tokenized, end-of-sequence tokens are dropped."""
    ids: list[int] = []
    for piece in pieces:
        ids += tokenizer.encode(piece) if isinstance(piece, str) else [piece]
    return tuple(token for token in ids if token not in tokenizer.eos_ids)


def finish(state: RequestState, tokenizer: ChatTokenizer) -> Sample | None:
    """The sample, if the request ends with its newest token."""
    ended, stop = state.output_ids[-1] in tokenizer.eos_ids, state.request.sampling.stop
    if not ended and len(state.output_ids) < state.max_new_tokens and not (stop and _stop_string_met(state, tokenizer)):
        return None
    top, entropies, certainties = zip(*state.distributions, strict=True) if state.distributions else ((), (), ())
    text = _output_text(state, tokenizer, state.output_ids[:-1] if ended else state.output_ids)
    stopped = truncate_at_stop(text, stop)
    return Sample(
        _with_open_thinking(state, tokenizer, text if stopped is None else stopped),
        tuple(state.output_ids),
        tuple(state.logprobs),
        "stop" if ended or stopped is not None else "length",
        len(state.prompt_ids),
        state.policy.version,
        top,
        entropies,
        certainties,
        stop_text="" if stopped is None else text[len(stopped) :],
    )


def _with_open_thinking(state: RequestState, tokenizer: ChatTokenizer, text: str) -> str:
    """`text` after the tag with which the prompt opened the reasoning, if it never closes it: it has no answer then."""
    opened = tokenizer.thinking_tag if not state.prefix_ids and not state.request.prefix else ""
    return f"{opened}\n{text}" if opened and opened.replace("<", "</").replace("[", "[/") not in text else text


def _stop_string_met(state: RequestState, tokenizer: ChatTokenizer) -> bool:
    """Whether the newest token completes a stop string; only the end of the answer is decoded."""
    stop = state.request.sampling.stop
    seen = tokenizer.decode(state.output_ids[state.stop_search_start :])
    if truncate_at_stop(seen, stop) is not None:
        return truncate_at_stop(_output_text(state, tokenizer, state.output_ids), stop) is not None
    half = (len(state.output_ids) - state.stop_search_start) // 2
    # The rest must still hold a stop string up to its last token, even if its first token decodes to less alone.
    rest = state.output_ids[state.stop_search_start + half :]
    if half >= MIN_STOP_WINDOW and len(tokenizer.decode(rest)) > 2 * max(map(len, stop)):
        state.stop_search_start += half
    return False


def _output_text(state: RequestState, tokenizer: ChatTokenizer, tokens: list[int]) -> str:
    """The text of `tokens`; after a prefix of tokens, what both decode to together beyond the prefix alone."""
    prefix = list(state.prefix_ids)
    if not prefix:
        return tokenizer.decode(tokens)
    before, whole = tokenizer.decode(prefix).rstrip("\ufffd"), tokenizer.decode(prefix + tokens)
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(tokens)


RequestOutput = tuple[RequestState, Any, BaseException | None]
"""A request, its result, and its error if it failed."""


def deliver_outputs(outputs: Iterable[RequestOutput]) -> None:
    """Hand results and errors to the waiting event loops, waking each once.

    Nobody waits if a request was cancelled or its loop is closed.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[RequestOutput]] = {}
    for output in outputs:
        by_loop.setdefault(output[0].future.get_loop(), []).append(output)
    for loop, some in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve_futures, some)
        except RuntimeError:
            if not loop.is_closed():
                raise


def _resolve_futures(outputs: Iterable[RequestOutput]) -> None:
    for state, result, error in outputs:
        if state.future.done():
            continue
        if error is not None:
            state.future.set_exception(error)
        else:
            state.future.set_result(result)
