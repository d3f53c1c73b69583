"""What the model itself makes of an answer, partial or whole: a probability that it is right so far."""

from __future__ import annotations

import math
import re

from selftaught.records import Attempt, Message
from selftaught.run.ask import Ask

EVALUATE = "Is the answer above right as far as it goes? Say only: right, or: wrong."
_SAID = re.compile(r"\W*(?:(right|correct|yes|true|sound)|(wrong|incorrect|no|not|false))\b", re.IGNORECASE)
_MARKS = re.compile(r"[+-]*([+-])")


async def belief(ask: Ask, attempt: Attempt, phrase: str = "judge") -> float | None:
    """Probability, in the model's own judgement, that an answer is right as far as it goes.

    The model is asked in one word, greedily; the probability is that of the first token of its word, or one minus it
    where the word is "wrong". A reply of marks (`++-`, a token for each step) is read at its last one. The reference
    is not shown.

    Source: Xie et al., 2405.00451, section 2.1 (the self-evaluation C). Their code shows the model the reference
    solution with the question; here the model judges by itself.

    Args:
        phrase: what the task's phrases call the request: "judge" for a whole answer, "evaluate" for its last step.

    Returns:
        The probability; None where the reply says neither. 0 or 1 where an endpoint tells no log-probabilities.
    """
    history = (*attempt.prompt, Message("assistant", attempt.text.rstrip()))
    asked = ask.with_turn(history, phrase, EVALUATE)
    reply = await ask(asked, role="judge", parent=attempt, temperature=0.0, max_tokens=8)
    marks, word = _MARKS.fullmatch(reply.text), _SAID.match(reply.text)
    if not marks and not word:
        return None
    sound = marks[1] == "+" if marks else bool(word and word[1])
    place = len(reply.text) - 1 if marks else 0
    certain = math.exp(reply.logprobs[place]) if place < len(reply.logprobs) else 1.0
    return certain if sound else 1.0 - certain
