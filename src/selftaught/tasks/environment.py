"""Environments: tasks that answer back, turn by turn, with an observation and a reward.

An environment is a pure function of plain data: a state that is never changed, so that every earlier state can be gone
back to, and an action in text lead to an observation and the next state.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from selftaught.errors import BadInput
from selftaught.feedback.verifiers import ExtractedAnswer, unknown_verdict
from selftaught.records import Feedback, Problem, Verdict, as_json


@dataclass(frozen=True, slots=True)
class Turn:
    """How an environment answers an action.

    Attributes:
        observation: what the model reads next.
        reward: of this action; any finite number.
        done: whether the episode ends here.
        state: what the environment knows now, plain JSON; only it ever sees it.
        success: whether the episode reached its goal; by default, whether its rewards add up to more than 0.
    """

    observation: str
    reward: float = 0.0
    done: bool = False
    state: Any = None
    success: bool | None = None


class Environment(Protocol):
    """A task's environment. Both functions may be called from any thread, for several episodes at a time.

    The problem's prompt is the first observation. An answer of `act` is journaled under the actions that led to it and
    never asked again, so that a costly environment is paid for once. An optional `close()` is called once, at the end.
    An answer may take `max_seconds`, an optional attribute (60); the run stops with one line at an environment that
    hangs.

    Attributes:
        version: of everything that decides its answers; a run folder made with another is refused.
        max_turns: actions after which an episode counts as unfinished.
    """

    version: str
    max_turns: int

    def start(self, problem: Problem, /) -> Any:
        """The state before the first action, plain JSON; the problem has its reference."""
        ...

    def act(self, state: Any, text: str, /) -> Turn:
        """Answer an action; must neither change `state` nor depend on anything but the arguments."""
        ...


class SeededEnvironment(Protocol):
    """An environment of chance: each episode has its own seed, and its answers are not shared with other episodes.

    An episode begins with each action that follows no observation: two in one call of a solver have different seeds.

    Attributes:
        version: see `Environment`.
        max_turns: see `Environment`.
        seeded: True.
    """

    version: str
    max_turns: int
    seeded: bool

    def start(self, problem: Problem, seed: int, /) -> Any:
        """See `Environment.start`; all chance must come from `seed`, or be journaled with the answers of `act`."""
        ...

    def act(self, state: Any, text: str, /) -> Turn:
        """See `Environment.act`."""
        ...


AnyEnvironment = Environment | SeededEnvironment


class EpisodeVerifier:
    """Stands where a task has an environment and no verifier: the verdict is on the episode, not on a text.

    Args:
        environment: whose rewards decide.
    """

    needs_reference = False

    def __init__(self, environment: AnyEnvironment) -> None:
        self.version = environment.version

    def judge(self, problem: Problem, answer: ExtractedAnswer, reference: str | None) -> Feedback:
        """UNKNOWN: a text alone is no episode."""
        del problem, answer, reference
        return unknown_verdict("the environment judges episodes, not texts: play them in a run", self.version)

    def close(self) -> None:
        """Nothing to stop."""


def check_environment(environment: Any, where: str) -> None:
    """Raise `BadInput` for what is no environment, or one whose episodes need not end."""
    missing = [name for name in ("start", "act") if not callable(getattr(environment, name, None))]
    if missing:
        what = f"a {type(environment).__name__} is no environment: it has no {' and no '.join(missing)}"
        raise BadInput(what, where=where, fix="write start(problem) and act(state, text)")
    version, most = getattr(environment, "version", None), getattr(environment, "max_turns", None)
    if not isinstance(version, str) or not version:
        raise BadInput(f"the environment's version is {version!r}", where=where, fix='name it: version = "guess-1"')
    if not isinstance(most, int) or isinstance(most, bool) or most < 1:
        what = f"the environment's max_turns must be a whole number ≥ 1, got {most!r}"
        raise BadInput(what, where=where, fix="say after how many actions an episode ends unfinished")


def check_turn(turn: Any, version: str) -> Turn:
    """The answer of an environment, its state as it will be read back from the journal.

    Raises:
        BadInput: it is no `Turn`, or a field of it has another type.
    """
    where = f"environment {version}"
    if not isinstance(turn, Turn):
        fix = "return Turn(observation, reward, done, state)"
        raise BadInput(f"act returned a {type(turn).__name__}, expected a Turn", where=where, fix=fix)
    number = isinstance(turn.reward, (int, float)) and math.isfinite(turn.reward)
    wrong = {
        "observation, expected text": isinstance(turn.observation, str),
        "reward, expected a finite number": number,
        "done, expected True or False": isinstance(turn.done, bool),
        "success, expected True, False or None": turn.success is None or isinstance(turn.success, bool),
    }
    for what, fits in wrong.items():
        if not fits:
            found = getattr(turn, what.partition(",")[0])
            raise BadInput(f"act returned {found!r:.60} as {what}", where=where, fix="correct the environment")
    state = check_state(turn.state, version)
    return Turn(turn.observation, float(turn.reward), turn.done, state, turn.success)


def check_state(state: Any, version: str) -> Any:
    """A state as the journal gives it back.

    Raises:
        BadInput: it is not plain JSON.
    """
    try:
        return json.loads(json.dumps(as_json(state), allow_nan=False))
    except (TypeError, ValueError, RecursionError) as error:
        what = f"its state is not plain JSON ({error})"
        raise BadInput(what, where=f"environment {version}", fix="use numbers, text, lists and objects") from None


def episode_feedback(rewards: Sequence[float], turn: Turn, version: str) -> Feedback:
    """The verdict on an episode: RIGHT if it ended in success; its score is the sum of rewards, cut to 0..1.

    Args:
        rewards: of all its actions.
        turn: the environment's last answer.
        version: of the environment.
    """
    total = sum(rewards)
    score = min(max(total, 0.0), 1.0)
    if not turn.done:
        return Feedback(Verdict.WRONG, score, f"unfinished after {len(rewards)} turns", version)
    success = total > 0 if turn.success is None else turn.success
    return Feedback(Verdict.RIGHT if success else Verdict.WRONG, score, "", version)
