"""Demonstrations of several pieces, some of which bear no loss, and of the turns of a conversation."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from selftaught.records import Attempt, Demo, Prompt


class Piece(NamedTuple):
    """A piece of a target.

    Attributes:
        text: as the model reads it.
        bears_loss: whether it is trained; False for what another wrote, such as a tool, or a planted mistake.
    """

    text: str
    bears_loss: bool = True


def masked_spans(pieces: Iterable[Piece]) -> tuple[tuple[int, int], ...]:
    """The spans `[start, end)` of characters of the joined pieces that bear no loss; neighbors become one."""
    spans: list[tuple[int, int]] = []
    end = 0
    for text, bears_loss in pieces:
        start, end = end, end + len(text)
        if bears_loss or not text:
            continue
        if spans and spans[-1][1] == start:
            start = spans.pop()[0]
        spans.append((start, end))
    return tuple(spans)


def demo_of_pieces(prompt: Prompt, pieces: Iterable[Piece | tuple[str, bool] | str], **fields: Any) -> Demo:
    """A demonstration whose target is the joined pieces, of which some bear no loss.

        >>> demo_of_pieces(prompt, ["I look it up: ", Piece("1912", bears_loss=False), "\\nAnswer: 1912"])

    Args:
        prompt: what is asked.
        pieces: in order; a plain string bears loss.
        fields: other fields of `Demo`: `weight`, `attempts`, `ends`.
    """
    each = [Piece(one) if isinstance(one, str) else Piece(*one) for one in pieces]
    return Demo(prompt, "".join(one.text for one in each), masked=masked_spans(each), **fields)


def turn_demos(turns: Sequence[Attempt]) -> list[Demo]:
    """A demonstration of each turn of a conversation: its target is the turn, its prompt all that came before.

    What others said is in the prompts, which bear no loss, so a conversation is learned as with the
    `assistant_only_loss` of trl: only its own turns are trained. Each is read with all before it, so the tokens of a
    conversation count once for every later turn.

    Args:
        turns: own turns, finished or not; truncated ones are learned without an end of sequence.
    """
    return [Demo(turn.prompt, turn.text, attempts=(turn.id,), ends=not turn.truncated) for turn in turns]
