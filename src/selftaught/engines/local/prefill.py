"""Reading whole sequences: each beginning once, from where it is not yet known."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from selftaught.engines.local.decoder import Decoder
from selftaught.engines.local.kv_cache import Rows, rounded
from selftaught.engines.local.passes import Reading
from selftaught.engines.local.radix_cache import STEM, Known, common
from selftaught.engines.sampler import logprobs_of

READ_TOKENS = 2048  # most tokens, padding included, in one pass
SCORED_TOKENS = 512  # the same where logits are wanted of all


@dataclass(frozen=True, slots=True)
class Text:
    """A sequence to read.

    Attributes:
        ids: its tokens; not empty.
        last: whether the logits after its last token are wanted.
        after: tokens whose log-probabilities are wanted instead: the first of them follows `ids[at]`.
        at: see `after`.
    """

    ids: tuple[int, ...]
    last: bool = False
    after: tuple[int, ...] = ()
    at: int = 0

    @property
    def free(self) -> int:
        """How many of its first tokens need no pass where they are known."""
        return self.at if self.after else len(self.ids) - self.last


@dataclass(frozen=True, slots=True)
class Read:
    """A sequence that was read: `row` of `rows` holds it, until the next is asked for.

    Attributes:
        sound: whether its keys and values are all finite; others must not be stored, as no mask hides a NaN.
        found: logits after the last token `[vocab]`, or log-probabilities of `text.after`, or nothing.
    """

    text: Text
    rows: Rows
    row: int
    sound: bool
    found: Tensor


class Reader:
    """Computes keys and values of sequences, and what is wanted of their logits.

    Args:
        known: where what is read is looked up and kept.
    """

    def __init__(self, decoder: Decoder, known: Known) -> None:
        self._decoder, self._known = decoder, known

    def read(self, texts: Sequence[Text]) -> Iterator[Read]:
        """Read `texts`, in an order that makes for little padding."""
        new = {id(t): len(t.ids) - self._known.find(t.ids[: t.free])[0] for t in texts}
        order = sorted(texts, key=lambda t: (new[id(t)], len(t.ids)))
        while order:
            scored = bool(order[-1].after)
            count = (SCORED_TOKENS if scored else READ_TOKENS) // max(new[id(order[-1])], len(order[-1].ids) // 4, 1)
            chunk = order[-max(1, count) :]
            del order[-len(chunk) :]
            yield from self._together(chunk)

    def _together(self, texts: Sequence[Text]) -> list[Read]:
        """Read `texts` side by side."""
        known = [self._known.find(text.ids[: text.free]) for text in texts]
        starts = [length for length, _ in known]
        steps = max(len(text.ids) - start for text, start in zip(texts, starts, strict=True))
        rows = self._decoder.rows()
        rows.resize(len(texts), rounded(max(starts) + steps))  # padding is written too
        for row, (length, spans) in enumerate(known):
            for span in reversed(spans):
                length -= span.shape[3]
                rows.put(row, length, span)
        found = self._compute(texts, starts, rows)
        done = []
        for row, (text, start) in enumerate(zip(texts, starts, strict=True)):
            span = rows.take(row, start, len(text.ids))
            sound = bool(torch.isfinite(span).all())
            if sound:
                self._known.add(text.ids, start, span)
            done.append(Read(text, rows, row, sound, found[row]))
        return done

    def _compute(self, texts: Sequence[Text], starts: Sequence[int], rows: Rows) -> list[Tensor]:
        """Fill the rows from `starts` on, piece by piece, and gather what is wanted of the logits."""
        found: list[list[Tensor]] = [[] for _ in texts]
        steps = max(len(t.ids) - start for t, start in zip(texts, starts, strict=True))
        piece = max(1, (SCORED_TOKENS if texts[-1].after else READ_TOKENS) // len(texts))
        for begin in range(0, steps, piece):
            width = min(piece, steps - begin)
            at = [start + begin for start in starts]
            block = [_padded(text.ids[first : first + width], width) for text, first in zip(texts, at, strict=True)]
            wanted = [(row, p - at[row]) for row, t in enumerate(texts) for p in _wanted(t, at[row], at[row] + width)]
            ids = torch.tensor(block, device=self._decoder.device)
            logits = self._decoder.forward(ids, Reading(rows, at, width), wanted)
            if wanted and texts[0].after:
                follow = [texts[row].after[at[row] + step - texts[row].at] for row, step in wanted]
                logits = logprobs_of(logits, follow)
            for (row, _), one in zip(wanted, logits, strict=True):
                found[row].append(one)
        return [torch.stack(parts) if parts else torch.empty(0) for parts in found]


def _wanted(text: Text, start: int, stop: int) -> range:
    """The positions from `start` to `stop` whose logits are wanted."""
    if text.after:
        return range(max(start, text.at), min(stop, text.at + len(text.after)))
    last = len(text.ids) - 1
    return range(last, last + (text.last and start <= last < stop))


def _padded(ids: tuple[int, ...], width: int) -> list[int]:
    """`ids` and zeros up to `width`: they lie to the right, where no causal row looks."""
    return [*ids, *[0] * (width - len(ids))]


def stems(texts: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
    """What several of `texts` begin with, where it is worth reading apart; longest last."""
    ordered = sorted(set(texts))
    shared = {one[: common(one, other)] for one, other in pairwise(ordered)}
    return sorted((ids for ids in shared if len(ids) >= STEM), key=len)
