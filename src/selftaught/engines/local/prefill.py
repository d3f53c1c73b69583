"""Prefill: compute keys and values of whole sequences, each shared prefix once."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from selftaught.engines.local.decoder import Decoder
from selftaught.engines.local.kv_cache import KVCache, round_to_blocks
from selftaught.engines.local.passes import PrefillPass
from selftaught.engines.local.radix_cache import MIN_SHARED_TOKENS, RadixCache, common_prefix_length
from selftaught.engines.sampler import token_logprobs

MAX_PASS_TOKENS = 2048  # tokens of one pass, including padding
MAX_SCORED_TOKENS = 512  # the same if logits of all tokens are needed


@dataclass(frozen=True, slots=True)
class PrefillRequest:
    """A sequence to prefill.

    Attributes:
        ids: its tokens; not empty.
        last_logits: whether the logits after the last token are needed.
        scored_ids: tokens whose log-probabilities are needed instead: the first of them follows `ids[score_start]`.
        score_start: see `scored_ids`.
        read_at: ascending positions of the tokens whose hidden states are needed instead.
    """

    ids: tuple[int, ...]
    last_logits: bool = False
    scored_ids: tuple[int, ...] = ()
    score_start: int = 0
    read_at: tuple[int, ...] = ()

    @property
    def cacheable(self) -> int:
        """How many of the first tokens need no pass if they are cached."""
        if self.read_at:
            return self.read_at[0]
        return self.score_start if self.scored_ids else len(self.ids) - self.last_logits


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """A prefilled sequence, in row `row` of `cache` until the next result is requested.

    Attributes:
        finite: whether all its keys and values are; if not, they must not be stored, as no mask hides a NaN.
        output: logits after the last token `[1, vocab]`, log-probabilities of `scored_ids`, hidden states at `read_at`
            `[positions, width]`, or empty.
    """

    request: PrefillRequest
    cache: KVCache
    row: int
    finite: bool
    output: Tensor


class Prefiller:
    """Computes keys and values of sequences, and the logits that are needed.

    Args:
        radix_cache: where computed sequences are looked up and stored.
        alone: each in a pass of its own, so that it does not depend on the others.

    Attributes:
        alone: see above.
    """

    def __init__(self, decoder: Decoder, radix_cache: RadixCache, *, alone: bool = False) -> None:
        self._decoder, self._radix_cache, self.alone = decoder, radix_cache, alone

    def run(self, requests: Sequence[PrefillRequest]) -> Iterator[PrefillResult]:
        """Prefill `requests`, all of one kind, sorted by length so that little is padded."""
        new = {id(r): len(r.ids) - self._radix_cache.match(r.ids[: r.cacheable])[0] for r in requests}
        order = sorted(requests, key=lambda r: (new[id(r)], len(r.ids)))
        while order:
            longest = order[-1]
            tokens = MAX_SCORED_TOKENS if longest.scored_ids else MAX_PASS_TOKENS
            count = 1 if self.alone else max(1, tokens // max(new[id(longest)], len(longest.ids) // 4, 1))
            chunk = order[-count:]
            del order[-len(chunk) :]
            yield from self._run_together(chunk)

    def _run_together(self, requests: Sequence[PrefillRequest]) -> list[PrefillResult]:
        """Prefill `requests` as one batch."""
        cached = [self._radix_cache.match(request.ids[: request.cacheable]) for request in requests]
        starts = [length for length, _ in cached]
        steps = max(len(request.ids) - start for request, start in zip(requests, starts, strict=True))
        cache = self._decoder.new_cache()
        cache.resize(len(requests), round_to_blocks(max(starts) + steps))  # padding is written too
        for row, (length, kvs) in enumerate(cached):
            for kv in reversed(kvs):
                length -= kv.shape[3]
                cache.store(row, length, kv)
        outputs = self._forward(requests, starts, cache)
        results = []
        for row, (request, start) in enumerate(zip(requests, starts, strict=True)):
            kv = cache.read(row, start, len(request.ids))
            finite = bool(torch.isfinite(kv).all())
            if finite:
                self._radix_cache.insert(request.ids, start, kv)
            results.append(PrefillResult(request, cache, row, finite, outputs[row]))
        return results

    def _forward(self, requests: Sequence[PrefillRequest], starts: Sequence[int], cache: KVCache) -> list[Tensor]:
        """Fill the cache from `starts` on, chunk by chunk, and collect the outputs."""
        outputs: list[list[Tensor]] = [[] for _ in requests]
        steps = max(len(r.ids) - start for r, start in zip(requests, starts, strict=True))
        chunk = max(1, (MAX_SCORED_TOKENS if requests[-1].scored_ids else MAX_PASS_TOKENS) // len(requests))
        for begin in range(0, steps, chunk):
            width = min(chunk, steps - begin)
            at = [start + begin for start in starts]
            block = [_pad(r.ids[first : first + width], width) for r, first in zip(requests, at, strict=True)]
            wanted = [
                (row, p - at[row])
                for row, r in enumerate(requests)
                for p in _wanted_positions(r, at[row], at[row] + width)
            ]
            ids = torch.tensor(block, device=self._decoder.device)
            run = self._decoder.hidden_states if requests[0].read_at else self._decoder.forward
            found = run(ids, PrefillPass(cache, at, width), wanted)
            if wanted and requests[0].scored_ids:
                scored = [requests[row].scored_ids[at[row] + s - requests[row].score_start] for row, s in wanted]
                found = token_logprobs(found, scored)
            for (row, _), one in zip(wanted, found, strict=True):
                outputs[row].append(one)
        return [torch.stack(parts) if parts else torch.empty(0) for parts in outputs]


def _wanted_positions(request: PrefillRequest, start: int, stop: int) -> Sequence[int]:
    """The positions from `start` to `stop` whose output is needed."""
    if request.read_at:
        return [p for p in request.read_at if start <= p < stop]
    if request.scored_ids:
        return range(max(start, request.score_start), min(stop, request.score_start + len(request.scored_ids)))
    last = len(request.ids) - 1
    return range(last, last + (request.last_logits and start <= last < stop))


def _pad(ids: tuple[int, ...], width: int) -> list[int]:
    """`ids` padded with zeros to `width`, on the right, which causal attention does not see."""
    return [*ids, *[0] * (width - len(ids))]


def find_shared_prefixes(sequences: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """Prefixes that several of `sequences` share and that are worth computing separately; shortest first."""
    ordered = sorted(set(sequences))
    shared = {one[: common_prefix_length(one, other)] for one, other in pairwise(ordered)}
    return sorted((ids for ids in shared if len(ids) >= MIN_SHARED_TOKENS), key=len)
