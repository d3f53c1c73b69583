"""Whether a failure at an endpoint is one request's own, or will meet every request."""

from __future__ import annotations

import re
from collections import defaultdict

from selftaught.engines.base import Request, RequestFailed, RequestRefused
from selftaught.engines.openai.protocol import PermanentError
from selftaught.errors import BadInput

SIMILARITY_PREFIX = 40  # characters by which two failures are told to be alike, numbers left out


class FailureTracker:
    """What has become of the requests so far. For one event loop.

    A failure is taken for every request's once enough different requests in a row met it alike and none was
    answered in between. Refusals come back sooner than answers, so that those under way are waited for before
    that is certain: until then it is a doubt.

    Attributes:
        before: whether requests were answered on earlier starts.
        doubt: the failure that looks as if it met every request.
    """

    def __init__(self) -> None:
        self.answered_before = False
        self.suspected: PermanentError | None = None
        self._answered = False
        self._similar_failures: defaultdict[str, set[int]] = defaultdict(set)

    def record_answer(self) -> None:
        """A request was answered."""
        self._answered = True
        self.reset()

    def reset(self) -> None:
        """Nobody asks any more: the endpoint may be another by the next time."""
        self.suspected = None
        self._similar_failures.clear()

    def classify(self, failure: PermanentError, request: Request) -> Exception:
        """What to raise to the one whose request failed: `BadInput` where all others would fail, too."""
        if failure.affects_all and not self._answered:
            return stop_error(failure)
        if not (failure.until_first_answer and (self._answered or self.answered_before)):
            alike = self._similar_failures[re.sub(r"\d+", "#", str(failure))[:SIMILARITY_PREFIX]]
            alike.add(hash((request.prompt, request.seed if failure.server_failed else 0)))
            if len(alike) >= failure.stop_after:
                self.suspected = failure
        return (RequestFailed if failure.server_failed else RequestRefused)(str(failure))


def stop_error(failure: PermanentError) -> BadInput:
    """A failure that meets every request, as the line that ends the run."""
    return BadInput(str(failure), where=failure.where, fix=failure.fix)
