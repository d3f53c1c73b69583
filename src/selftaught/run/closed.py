"""Stand-ins for the parts of a task that a method must not use."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from selftaught.errors import BadInput


class ClosedVerifier:
    """Stands in for a verifier that a method may not use."""

    def __init__(self, version: str, needs_reference: bool, refuse: Callable[..., Any]) -> None:
        self.version, self.needs_reference = version, needs_reference
        self.judge = self.decide = self.steps = refuse

    def close(self) -> None:
        """Nothing: the run closes the verifier."""


class ClosedEnvironment:
    """Stands in for an environment, whose answers would show rewards on held-out problems."""

    def __init__(self, version: str, max_turns: int, method: str) -> None:
        self.version, self.max_turns, self._method = version, max_turns, method

    def start(self, *_: Any) -> Any:
        """Refuse.

        Raises:
            BadInput: always.
        """
        fix = "act by ask.act in a solver (see refine.play)"
        raise BadInput("it plays the environment outside of the run", where=self._method, fix=fix)

    act = start


class ClosedAnnotator:
    """Stands in for an annotator, whose texts would show references of held-out problems."""

    def __init__(self, version: str, method: str) -> None:
        self.version, self._method = version, method

    def critique(self, *_: Any) -> Any:
        """Refuse.

        Raises:
            BadInput: always.
        """
        fix = "call run.annotate on train problems"
        raise BadInput("it asks the annotator outside of the run", where=self._method, fix=fix)

    revision = solution = critique
