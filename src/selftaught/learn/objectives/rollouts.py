"""Groups of rollouts: the attempts at one problem and what each earned."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from selftaught.errors import BadInput
from selftaught.learn.objectives.base import Row
from selftaught.records import Attempt, Prompt

if TYPE_CHECKING:
    from selftaught.models.chat import ChatTokenizer


@dataclass(frozen=True, slots=True)
class Rollouts:
    """Several attempts at one problem, with a reward each, for advantages relative to the group."""

    samples: tuple[Attempt, ...]
    rewards: tuple[float, ...]

    @property
    def prompt(self) -> Prompt:
        """What was asked."""
        return self.samples[0].problem.prompt

    @property
    def attempts(self) -> tuple[str, ...]:
        """The attempts it came from."""
        return tuple(attempt.id for attempt in self.samples)

    @property
    def even(self) -> bool:
        """Whether all rewards are equal, so that there is nothing to prefer."""
        return len(set(self.rewards)) < 2

    def check(self, where: str) -> None:
        """Raise `BadInput` unless there is a finite reward for each attempt."""
        if not self.samples or len(self.rewards) != len(self.samples) or not all(map(math.isfinite, self.rewards)):
            raise BadInput("it has not one finite reward for each attempt", where=where, fix="reward every attempt")


def sampled_row(attempt: Attempt, tokenizer: ChatTokenizer, where: str, *, recorded: bool) -> Row:
    """The very tokens that were sampled, and (if `recorded`) the log-probabilities they were sampled with.

    Text is never tokenised anew: another split of the same text has other probabilities.

    Raises:
        BadInput: the attempt holds no tokens, or (if `recorded`) not one log-probability for each.
    """
    if not attempt.token_ids:
        raise BadInput(
            "its attempt holds no tokens", where=where, fix="drop it, or sample with an engine that tells them"
        )
    if recorded and len(attempt.logprobs) != len(attempt.token_ids):
        raise BadInput(
            f"its attempt has {len(attempt.logprobs)} log-probabilities for {len(attempt.token_ids)} tokens",
            where=where,
            fix='use old="start" to take them from the weights that training starts from',
        )
    prompt = tuple(tokenizer.encode_prompt(attempt.prompt))
    for piece in attempt.prefix_tokens:
        ids = tokenizer.encode(piece) if isinstance(piece, str) else [piece]
        prompt += tuple(token for token in ids if token not in tokenizer.eos_ids)  # as the engine leaves it out
    return Row(prompt, attempt.token_ids, tokens={"old": attempt.logprobs} if recorded else {})
