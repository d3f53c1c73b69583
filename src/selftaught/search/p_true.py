"""The model's own probability that an answer is right so far."""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence

from selftaught.curate.vote import with_confidence
from selftaught.records import Attempt, Message
from selftaught.run.ask import Ask

P_TRUE_PROMPT = "Is the answer above right as far as it goes? Say only: right, or: wrong."
HINTED_PROMPT = "A right solution is:\n{solution}\n" + P_TRUE_PROMPT
_WORD = re.compile(r"\W*(?:(right|correct|yes|true|sound)|(wrong|incorrect|no|not|false))\b", re.IGNORECASE)
_MARKS = re.compile(r"(?P<result> ?(?:\d+|\?))?(?P<before>[+-]*)(?P<last>[+-])")


async def p_true(ask: Ask, attempt: Attempt, phrase: str = "judge", solution: str = "") -> float | None:
    """Ask the model in one word whether an answer is right as far as it goes; return the probability that it is.

    The word is sampled greedily. The result is the probability of its first token, or one minus that where the word is
    "wrong". A reply of marks (`++-`, one token for each step), or of a result and a mark (`47-`), is read at its last
    mark.

    Sources: P(True) of Kadavath et al., "Language models (mostly) know what they know", 2207.05221; as the
    self-evaluation C of Xie et al., 2405.00451, section 2.1. The code of the latter shows the model the reference
    solution, as here with `solution`.

    Args:
        phrase: name of the request among the task's phrases: "judge" for a whole answer, "evaluate" for its last step.
        solution: a right solution to show the model; the phrase is then `phrase` + " with solution", and its wording
            holds `{solution}`.

    Returns:
        The probability, in 0..1; None where the reply says neither. 0 or 1 where an endpoint returns no
        log-probabilities.
    """
    history = (*attempt.prompt, Message("assistant", attempt.text.rstrip()))
    hinted = ask.with_turn(history, f"{phrase} with solution", HINTED_PROMPT, solution=solution) if solution else None
    prompt = hinted or ask.with_turn(history, phrase, P_TRUE_PROMPT)
    reply = await ask(prompt, role="judge", parent=attempt, temperature=0.0, max_tokens=8)
    marks, word = _MARKS.fullmatch(reply.text), _WORD.match(reply.text)
    if not marks and not word:
        return None
    says_right = marks["last"] == "+" if marks else bool(word and word[1])
    index = bool(marks["result"]) + len(marks["before"]) if marks else 0
    probability = math.exp(reply.logprobs[index]) if index < len(reply.logprobs) else 1.0
    return probability if says_right else 1.0 - probability


async def highest_p_true(ask: Ask, attempts: Sequence[Attempt]) -> Attempt:
    """The attempt that the model itself gives the highest probability of being right, with it as confidence.

    Attempts without an answer come last; ties go to the first.
    """
    scores = await asyncio.gather(*(p_true(ask, attempt) for attempt in attempts))
    best = max(range(len(attempts)), key=lambda i: (attempts[i].answer is not None, scores[i] or 0.0))
    return with_confidence(attempts[best], scores[best], "p_true")
