"""Replies of the kit's writers, with the exact probabilities of their choices."""

from __future__ import annotations

import math
import random
from collections.abc import Iterator

from selftaught.worlds.kit.calibration.plan import Decision, WrittenReply
from selftaught.worlds.kit.lessons import MIX, Mix, lessons
from selftaught.worlds.kit.process import END, Choice, Written, sampled, write
from selftaught.worlds.kit.writer import Writer


def kit_replies(writer: Writer, seed: int, mix: Mix = MIX) -> Iterator[WrittenReply]:
    """Endless replies to the prompts of lessons, drawn from the writer itself (lessons draw rare choices more often).

    Args:
        seed: of prompts and replies.
        mix: shares of the lessons whose prompts they are.
    """
    rng = random.Random(f"replies/{seed}")
    for lesson in lessons(writer, seed, mix):
        writing = writer.reply(lesson.prompt)
        if writing is None:
            continue
        written = write(writing, sampled(rng))
        yield WrittenReply(lesson.prompt, written.text, decisions_of(written))


def decisions_of(written: Written) -> tuple[Decision, ...]:
    """The choices of a reply, in order; without choices to end it there, which no text shows."""
    found, start = list[Decision](), 0
    for token, step in zip(written.tokens, written.steps, strict=False):
        end = start + len(token)
        if isinstance(step, Choice):
            found.append(_decision(step, token, start, end))
        start = end
    return tuple(found)


def _decision(choice: Choice, token: str, start: int, end: int) -> Decision:
    options = choice.distribution()
    right = str(getattr(choice, "right", "") or "")
    right = "" if right == END else right
    return Decision(start, end, math.log(options[token]), choice.skill, right, options.get(right, 0.0))
