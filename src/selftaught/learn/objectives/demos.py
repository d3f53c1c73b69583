"""Rows of demonstrations: the tokens of a target, and which of them bear the loss."""

from __future__ import annotations

from itertools import pairwise
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Row, encode_completion
from selftaught.records import Demo

if TYPE_CHECKING:
    from selftaught.models.chat import ChatTokenizer


def row_from_demo(record: Demo, tokenizer: ChatTokenizer, where: str = "") -> Row:
    """The demonstration under the model's chat template, and the loss mask of its target.

    A token bears the loss if none of its characters is in a masked span, so that one across a border does not. The end
    of sequence bears it wherever it is learned (`Demo.ends`).

    Raises:
        BadInput: a masked span is empty, outside the target, or overlaps the one before; or no token of the target
            bears the loss.
    """
    completion = encode_completion(tokenizer, record.target, record.ends)
    prompt = tuple(tokenizer.encode_prompt(record.prompt))
    return Row(prompt, completion, record.weight, loss_mask=_loss_mask(record, tokenizer, where))


def _loss_mask(record: Demo, tokenizer: ChatTokenizer, where: str) -> tuple[bool, ...]:
    if not record.masked:
        return ()
    check_spans(record, where)
    held = tokenizer.answer_spans(record.target)
    bears = [not any(start < last and first < end for first, last in record.masked) for start, end in held]
    if not any(bears):
        raise BadInput("all of its target is masked", where=where, fix="drop it, or mask less")
    return (*bears, *([True] if record.ends else []))


def check_spans(record: Demo, where: str) -> None:
    """Raise `BadInput` for masked spans that are empty, outside the target, or not in order."""
    spans, size = record.masked, len(record.target)
    for start, end in spans:
        if not 0 <= start < end <= size:
            what = f"its masked span {start}..{end} is empty or outside its target of {size} characters"
            raise BadInput(what, where=where, fix="give [start, end) of characters of the target")
    for (_, end), (start, last) in pairwise(spans):
        if start < end:
            what = f"its masked span {start}..{last} begins before the one before it ends, at {end}"
            raise BadInput(what, where=where, fix="give spans in order that do not overlap")
