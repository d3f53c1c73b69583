"""Reading whole sequences: each beginning once, from where it is not yet known."""

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

MAX_PASS_TOKENS = 2048  # most tokens, padding included, in one pass
MAX_SCORED_TOKENS = 512  # the same where logits are wanted of all


@dataclass(frozen=True, slots=True)
class PrefillRequest:
    """A sequence to read.

    Attributes:
        ids: its tokens; not empty.
        last: whether the logits after its last token are wanted.
        after: tokens whose log-probabilities are wanted instead: the first of them follows `ids[at]`.
        at: see `after`.
    """

    ids: tuple[int, ...]
    last_logits: bool = False
    scored_ids: tuple[int, ...] = ()
    score_start: int = 0

    @property
    def cacheable(self) -> int:
        """How many of its first tokens need no pass where they are known."""
        return self.score_start if self.scored_ids else len(self.ids) - self.last_logits


@dataclass(frozen=True, slots=True)
class PrefillResult:
    """A sequence that was read: `row` of `rows` holds it, until the next is asked for.

    Attributes:
        sound: whether its keys and values are all finite; others must not be stored, as no mask hides a NaN.
        found: logits after the last token `[vocab]`, or log-probabilities of `text.after`, or nothing.
    """

    request: PrefillRequest
    cache: KVCache
    row: int
    finite: bool
    output: Tensor


class Prefiller:
    """Computes keys and values of sequences, and what is wanted of their logits.

    Args:
        known: where what is read is looked up and kept.
    """

    def __init__(self, decoder: Decoder, radix_cache: RadixCache) -> None:
        self._decoder, self._radix_cache = decoder, radix_cache

    def run(self, requests: Sequence[PrefillRequest]) -> Iterator[PrefillResult]:
        """Read `texts`, in an order that makes for little padding."""
        new = {id(t): len(t.ids) - self._radix_cache.match(t.ids[: t.cacheable])[0] for t in requests}
        order = sorted(requests, key=lambda t: (new[id(t)], len(t.ids)))
        while order:
            scored = bool(order[-1].scored_ids)
            count = (MAX_SCORED_TOKENS if scored else MAX_PASS_TOKENS) // max(
                new[id(order[-1])], len(order[-1].ids) // 4, 1
            )
            chunk = order[-max(1, count) :]
            del order[-len(chunk) :]
            yield from self._run_together(chunk)

    def _run_together(self, requests: Sequence[PrefillRequest]) -> list[PrefillResult]:
        """Read `texts` side by side."""
        known = [self._radix_cache.match(text.ids[: text.cacheable]) for text in requests]
        starts = [length for length, _ in known]
        steps = max(len(text.ids) - start for text, start in zip(requests, starts, strict=True))
        rows = self._decoder.new_cache()
        rows.resize(len(requests), round_to_blocks(max(starts) + steps))  # padding is written too
        for row, (length, spans) in enumerate(known):
            for span in reversed(spans):
                length -= span.shape[3]
                rows.store(row, length, span)
        found = self._forward(requests, starts, rows)
        done = []
        for row, (text, start) in enumerate(zip(requests, starts, strict=True)):
            span = rows.read(row, start, len(text.ids))
            sound = bool(torch.isfinite(span).all())
            if sound:
                self._radix_cache.insert(text.ids, start, span)
            done.append(PrefillResult(text, rows, row, sound, found[row]))
        return done

    def _forward(self, requests: Sequence[PrefillRequest], starts: Sequence[int], cache: KVCache) -> list[Tensor]:
        """Fill the rows from `starts` on, piece by piece, and gather what is wanted of the logits."""
        found: list[list[Tensor]] = [[] for _ in requests]
        steps = max(len(t.ids) - start for t, start in zip(requests, starts, strict=True))
        piece = max(1, (MAX_SCORED_TOKENS if requests[-1].scored_ids else MAX_PASS_TOKENS) // len(requests))
        for begin in range(0, steps, piece):
            width = min(piece, steps - begin)
            at = [start + begin for start in starts]
            block = [_pad(text.ids[first : first + width], width) for text, first in zip(requests, at, strict=True)]
            wanted = [
                (row, p - at[row])
                for row, t in enumerate(requests)
                for p in _wanted_positions(t, at[row], at[row] + width)
            ]
            ids = torch.tensor(block, device=self._decoder.device)
            logits = self._decoder.forward(ids, PrefillPass(cache, at, width), wanted)
            if wanted and requests[0].scored_ids:
                follow = [requests[row].scored_ids[at[row] + step - requests[row].score_start] for row, step in wanted]
                logits = token_logprobs(logits, follow)
            for (row, _), one in zip(wanted, logits, strict=True):
                found[row].append(one)
        return [torch.stack(parts) if parts else torch.empty(0) for parts in found]


def _wanted_positions(request: PrefillRequest, start: int, stop: int) -> range:
    """The positions from `start` to `stop` whose logits are wanted."""
    if request.scored_ids:
        return range(max(start, request.score_start), min(stop, request.score_start + len(request.scored_ids)))
    last = len(request.ids) - 1
    return range(last, last + (request.last_logits and start <= last < stop))


def _pad(ids: tuple[int, ...], width: int) -> list[int]:
    """`ids` and zeros up to `width`: they lie to the right, where no causal row looks."""
    return [*ids, *[0] * (width - len(ids))]


def shared_prefixes(texts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """What several of `texts` begin with, where it is worth reading apart; longest last."""
    ordered = sorted(set(texts))
    shared = {one[: common_prefix_length(one, other)] for one, other in pairwise(ordered)}
    return sorted((ids for ids in shared if len(ids) >= MIN_SHARED_TOKENS), key=len)
