"""Rows of sampled attempts: the very tokens that were sampled, and checks of their rewards."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Row
from selftaught.records import Attempt, RolloutGroup

if TYPE_CHECKING:
    from selftaught.models.chat import ChatTokenizer


def check_rewards(record: RolloutGroup, where: str, *, binary: bool = False) -> None:
    """Raise `BadInput` unless there is one finite reward for each attempt (0 or 1 if `binary`)."""
    rewards = record.rewards
    if not record.samples or len(rewards) != len(record.samples) or not all(map(math.isfinite, rewards)):
        raise BadInput("needs one finite reward for each attempt", where=where, fix="reward every attempt")
    if binary and not set(rewards) <= {0.0, 1.0}:
        raise BadInput("has rewards other than 0 and 1", where=where, fix="reward right answers 1, wrong ones 0")


def row_from_attempt(attempt: Attempt, tokenizer: ChatTokenizer, where: str, *, recorded: bool) -> Row:
    """The tokens of an attempt as they were sampled, with their recorded log-probabilities if `recorded`.

    The text is never tokenized again: another split of the same text has other probabilities.

    Raises:
        BadInput: the attempt has no tokens, or (if `recorded`) not one log-probability for each.
    """
    if not attempt.token_ids:
        raise BadInput("its attempt has no tokens", where=where, fix="drop it, or use an engine that returns token ids")
    if recorded and len(attempt.logprobs) != len(attempt.token_ids):
        raise BadInput(
            f"its attempt has {len(attempt.logprobs)} log-probabilities for {len(attempt.token_ids)} tokens",
            where=where,
            fix='use old_logprobs="initial" to compute them from the weights that training starts from',
        )
    prompt = tuple(tokenizer.encode_prompt(attempt.prompt))
    for piece in attempt.prefix_tokens:
        ids = tokenizer.encode(piece) if isinstance(piece, str) else [piece]
        prompt += tuple(token for token in ids if token not in tokenizer.eos_ids)  # the engine drops them too
    return Row(prompt, attempt.token_ids, token_features={"old_logprobs": attempt.logprobs} if recorded else {})
