"""Decide whether a failure at an endpoint affects one request or all of them."""

from __future__ import annotations

import re
from collections import defaultdict

from selftaught.engines.base import Request, RequestFailed, RequestRefused
from selftaught.engines.openai.protocol import PermanentError
from selftaught.errors import BadInput

SIMILARITY_PREFIX = 40  # two failures are similar if this many characters are equal, digits ignored


class FailureTracker:
    """Tracks answers and failures of an endpoint. For one event loop.

    A failure affects all requests once enough different requests failed similarly without an answer in between.
    Refusals arrive before answers, so requests in progress are awaited before this is certain: until then it is
    suspected.

    Attributes:
        answered_before: whether requests were answered on earlier starts.
        suspected: the failure that seems to affect all requests.
    """

    def __init__(self) -> None:
        self.answered_before = False
        self.suspected: PermanentError | None = None
        self._answered = False
        self._similar_failures: defaultdict[str, set[int]] = defaultdict(set)

    def record_answer(self) -> None:
        """Record that a request was answered."""
        self._answered = True
        self.reset()

    def reset(self) -> None:
        """Forget all failures; the endpoint may have changed by the next request."""
        self.suspected = None
        self._similar_failures.clear()

    def classify(self, failure: PermanentError, request: Request) -> Exception:
        """The exception for the failed request: `BadInput` if all others would fail, too."""
        if failure.affects_all and not self._answered:
            return stop_error(failure)
        if not (failure.until_first_answer and (self._answered or self.answered_before)):
            alike = self._similar_failures[re.sub(r"\d+", "#", str(failure))[:SIMILARITY_PREFIX]]
            alike.add(hash((request.prompt, request.seed if failure.server_failed else 0)))
            if len(alike) >= failure.stop_after:
                self.suspected = failure
        return (RequestFailed if failure.server_failed else RequestRefused)(str(failure))


def stop_error(failure: PermanentError) -> BadInput:
    """A failure that affects all requests, as the error that ends the run."""
    return BadInput(str(failure), where=failure.where, fix=failure.fix)
