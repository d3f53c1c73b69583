"""Whether a failure at an endpoint is one request's own, or will meet every request."""

from __future__ import annotations

import re
from collections import defaultdict

from selftaught.engines.base import Request, RequestFailed, RequestRefused
from selftaught.engines.openai.protocol import Lasting
from selftaught.errors import BadInput

ALIKE = 40  # characters by which two failures are told to be alike, numbers left out


class Standing:
    """What has become of the requests so far. For one event loop.

    A failure is taken for every request's once enough different requests in a row met it alike and none was
    answered in between. Refusals come back sooner than answers, so that those under way are waited for before
    that is certain: until then it is a doubt.

    Attributes:
        before: whether requests were answered on earlier starts.
        doubt: the failure that looks as if it met every request.
    """

    def __init__(self) -> None:
        self.before = False
        self.doubt: Lasting | None = None
        self._answered = False
        self._alike: defaultdict[str, set[int]] = defaultdict(set)

    def answered(self) -> None:
        """A request was answered."""
        self._answered = True
        self.forget()

    def forget(self) -> None:
        """Nobody asks any more: the endpoint may be another by the next time."""
        self.doubt = None
        self._alike.clear()

    def weigh(self, failure: Lasting, request: Request) -> Exception:
        """What to raise to the one whose request failed: `BadInput` where all others would fail, too."""
        if failure.everyone and not self._answered:
            return stop(failure)
        if not (failure.early and (self._answered or self.before)):
            alike = self._alike[re.sub(r"\d+", "#", str(failure))[:ALIKE]]
            alike.add(hash((request.prompt, request.seed if failure.failed else 0)))
            if len(alike) >= failure.most:
                self.doubt = failure
        return (RequestFailed if failure.failed else RequestRefused)(str(failure))


def stop(failure: Lasting) -> BadInput:
    """A failure that meets every request, as the line that ends the run."""
    return BadInput(str(failure), where=failure.where, fix=failure.fix)
