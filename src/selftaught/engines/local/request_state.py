"""Requests on their way through the local engine, and how their answers end and are handed over."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from selftaught.engines.base import Request, Sample, truncate_at_stop
from selftaught.engines.local.paged_cache import BlockTable
from selftaught.engines.local.shared_prefixes import SharedPrefix
from selftaught.models.chat import ChatTokenizer
from selftaught.models.policy import Policy

MIN_STOP_WINDOW = 64  # tokens at the end of an answer in which stop strings are looked for, at least


@dataclass(slots=True, eq=False)
class RequestState:
    """A request on its way through the engine.

    Attributes:
        policy: what to sample or to score with.
        request: what is asked.
        future: a `Sample`, or the log-probabilities of `scored`; of the event loop that asked.
        since: when it came, in seconds of a monotonic clock.
        scored: text to score instead of sampling, or None.
        ids: the tokens it goes on from (to be scored: all, with `tokens` the last of them), once it is prepared.
        given: the last of `ids`, where it goes on from an earlier answer (`Request.given`).
        tokens: tokens sampled so far, with their `logprobs`, and `details` where they are asked for.
        room: most tokens it may sample.
        stem: what it goes on from, while it decodes.
        tail: where the keys and values of its own tokens are.
        looked: how many of its tokens need not be looked at again for stop strings.
    """

    policy: Policy
    request: Request
    future: asyncio.Future[Any]
    arrival_time: float
    score_text: str | None = None
    prompt_ids: tuple[int, ...] = ()
    prefix_ids: tuple[int, ...] = ()
    output_ids: list[int] = field(default_factory=list)
    logprobs: list[float] = field(default_factory=list)
    top_logprobs: list[tuple[tuple[tuple[int, float], ...], float]] = field(default_factory=list)
    uniforms: Iterator[float] = field(default_factory=lambda: iter(()))
    max_new_tokens: int = 0
    shared_prefix: SharedPrefix | None = None
    block_table: BlockTable = field(default_factory=BlockTable)
    stop_search_start: int = 0

    @property
    def position(self) -> int:
        """Where in the whole sequence the newest token stands."""
        return len(self.prompt_ids) + len(self.output_ids) - 1

    def restarted(self) -> RequestState:
        """The same request, as it came."""
        return RequestState(self.policy, self.request, self.future, self.arrival_time, self.score_text)

    @property
    def last_index(self) -> int:
        """Where among its own the newest token goes."""
        return len(self.output_ids) - 1


def uniforms(seed: int, skip: int = 0) -> Iterator[float]:
    """The random numbers in [0, 1) of a request, decided by its seed alone, from that of token `skip` on."""
    import numpy as np

    stream = np.random.Generator(np.random.Philox(key=seed))
    stream.random(skip)
    while True:
        yield from stream.random(64).tolist()


def prefix_token_ids(given: Sequence[int | str], tokenizer: ChatTokenizer) -> tuple[int, ...]:
    """What an answer goes on from (`Request.given`) as tokens: text tokenised, and no end of sequence."""
    ids: list[int] = []
    for piece in given:
        ids += tokenizer.encode(piece) if isinstance(piece, str) else [piece]
    return tuple(token for token in ids if token not in tokenizer.eos_ids)


def finish(job: RequestState, tokenizer: ChatTokenizer) -> Sample | None:
    """The sample, where the request ends with its newest token."""
    ended = job.output_ids[-1] in tokenizer.eos_ids
    if (
        not ended
        and len(job.output_ids) < job.max_new_tokens
        and not (job.request.sampling.stop and _stop_string_met(job, tokenizer))
    ):
        return None
    text = _output_text(job, tokenizer, job.output_ids[:-1] if ended else job.output_ids)
    cut = truncate_at_stop(text, job.request.sampling.stop)
    return Sample(
        _with_open_thinking(job, tokenizer, text if cut is None else cut),
        tuple(job.output_ids),
        tuple(job.logprobs),
        "stop" if ended or cut is not None else "length",
        len(job.prompt_ids),
        job.policy.version,
        tuple(named for named, _ in job.top_logprobs),
        tuple(entropy for _, entropy in job.top_logprobs),
        stop_text="" if cut is None else text[len(cut) :],
    )


def _with_open_thinking(job: RequestState, tokenizer: ChatTokenizer, text: str) -> str:
    """`text` behind the tag by which the prompt opened thinking, where it never closes it: it holds no answer then."""
    opened = tokenizer.thinking_tag if not job.prefix_ids and not job.request.prefix else ""
    return f"{opened}\n{text}" if opened and opened.replace("<", "</").replace("[", "[/") not in text else text


def _stop_string_met(job: RequestState, tokenizer: ChatTokenizer) -> bool:
    """Whether the newest token completes a stop string; only the end of the answer is decoded."""
    stop = job.request.sampling.stop
    seen = tokenizer.decode(job.output_ids[job.stop_search_start :])
    if truncate_at_stop(seen, stop) is not None:
        return truncate_at_stop(_output_text(job, tokenizer, job.output_ids), stop) is not None
    half = (len(job.output_ids) - job.stop_search_start) // 2
    # What is left must still hold a stop string but for its last token, whatever the first token lacks in front.
    if half >= MIN_STOP_WINDOW and len(tokenizer.decode(job.output_ids[job.stop_search_start + half :])) > 2 * max(
        map(len, stop)
    ):
        job.stop_search_start += half
    return False


def _output_text(job: RequestState, tokenizer: ChatTokenizer, tokens: list[int]) -> str:
    """The text of an answer; where it goes on from given tokens, what they and it make together beyond them."""
    given = list(job.prefix_ids)
    if not given:
        return tokenizer.decode(tokens)
    before, whole = tokenizer.decode(given).rstrip("\ufffd"), tokenizer.decode(given + tokens)
    return whole[len(before) :] if whole.startswith(before) else tokenizer.decode(tokens)


RequestOutput = tuple[RequestState, Any, BaseException | None]


def deliver_outputs(outputs: Iterable[RequestOutput]) -> None:
    """Hand results and errors over to the event loops that wait for them, each woken once.

    Nobody listens where a request was cancelled or its loop is closed.
    """
    by_loop: dict[asyncio.AbstractEventLoop, list[RequestOutput]] = {}
    for outcome in outputs:
        by_loop.setdefault(outcome[0].future.get_loop(), []).append(outcome)
    for loop, some in by_loop.items():
        try:
            loop.call_soon_threadsafe(_resolve_futures, some)
        except RuntimeError:
            if not loop.is_closed():
                raise


def _resolve_futures(outcomes: Iterable[RequestOutput]) -> None:
    for job, result, error in outcomes:
        if job.future.done():
            continue
        if error is not None:
            job.future.set_exception(error)
        else:
            job.future.set_result(result)
