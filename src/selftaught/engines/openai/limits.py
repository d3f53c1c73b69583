"""Limits of concurrency, rate and cost at an endpoint."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from selftaught.engines.base import RequestRefused
from selftaught.errors import BadInput

MINUTE = 60.0
POLL_SECONDS = 0.05  # a waiting request checks again: an answer may have freed capacity, or a 429 paused all


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits at an endpoint.

    Attributes:
        concurrency: maximum number of concurrent requests.
        requests_per_minute: maximum number of requests in any 60 s, including retries; None for no limit.
        tokens_per_minute: maximum number of tokens in any 60 s, of prompts and answers; an answer counts with its
            maximum length until it arrives. None for no limit.
        prompt_price: dollars per million prompt tokens.
        completion_price: dollars per million sampled tokens.
        max_cost: in dollars, including earlier starts of the same run; None for no limit.

    Raises:
        BadInput: a number out of range, or a cost limit without a price.
    """

    concurrency: int = 32
    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None
    prompt_price: float = 0.0
    completion_price: float = 0.0
    max_cost: float | None = None

    def __post_init__(self) -> None:
        for name in ("concurrency", "requests_per_minute", "tokens_per_minute"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise BadInput(f"{name} must be ≥ 1, got {value}", where=name, fix="leave it out for the default")
        for name in ("prompt_price", "completion_price", "max_cost"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise BadInput(f"{name} must be ≥ 0, got {value}", where=name, fix="give it in dollars")
        if self.max_cost is not None and not self.prompt_price + self.completion_price:
            raise BadInput(
                "a cost limit needs the price of tokens",
                where="max_cost",
                fix="give prompt_price and completion_price, in dollars per million tokens",
            )

    def cost(self, prompt: int, completion: int) -> float:
        """The cost of these tokens, in dollars."""
        return (prompt * self.prompt_price + completion * self.completion_price) / 1e6


@dataclass(slots=True)
class UsageEntry:
    """Usage that counts against a limit from `at` on (seconds, monotonic)."""

    at: float
    amount: int


class SlidingWindow:
    """At most `limit` in any minute: a log of the last minute, whose entries can be corrected later."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._entries: deque[UsageEntry] = deque()

    def delay(self, amount: int, now: float) -> float:
        """Seconds until `amount` fits, given the current entries; 0 if it does."""
        if self.limit is None:
            return 0.0
        while self._entries and self._entries[0].at <= now - MINUTE:
            self._entries.popleft()
        excess = sum(entry.amount for entry in self._entries) + amount - self.limit
        for entry in self._entries:
            if excess <= 0:
                break
            excess -= entry.amount
            if excess <= 0:
                return max(entry.at + MINUTE - now, 1e-9)  # the difference may round to 0, which would say that it fits
        return 0.0

    def add(self, amount: int, now: float) -> UsageEntry:
        """Record `amount` at `now`."""
        entry = UsageEntry(now, amount)
        if self.limit is not None:
            self._entries.append(entry)
        return entry


class RateLimiter:
    """Delays requests, in order of arrival, to stay within the limits and the endpoint's own pauses.

    For one event loop, as is `CostTracker`.
    """

    def __init__(self, limits: Limits) -> None:
        self._requests, self._tokens = (
            SlidingWindow(limits.requests_per_minute),
            SlidingWindow(limits.tokens_per_minute),
        )
        self._queue = asyncio.Lock()
        self._paused_until = 0.0

    async def acquire(self, tokens: int) -> UsageEntry:
        """Wait until a request with at most `tokens` may be sent. The entry returned is to be corrected afterwards.

        Raises:
            RequestRefused: it exceeds the limit of a whole minute.
        """
        if self._tokens.limit is not None and tokens > self._tokens.limit:
            raise RequestRefused(f"it may take {tokens:,} tokens, of {self._tokens.limit:,} allowed a minute")
        async with self._queue:
            while (delay := self._delay(tokens)) > 0:
                await asyncio.sleep(min(delay, POLL_SECONDS))
            now = time.monotonic()
            self._requests.add(1, now)
            return self._tokens.add(tokens, now)

    def _delay(self, tokens: int) -> float:
        now = time.monotonic()
        return max(self._paused_until - now, self._requests.delay(1, now), self._tokens.delay(tokens, now))

    def pause(self, seconds: float) -> None:
        """Send nothing for `seconds`, as the endpoint asked."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)


@dataclass(slots=True)
class Reservation:
    """Money reserved for a request: its maximum cost, and its actual cost once settled."""

    max_cost: float
    cost: float = 0.0


class CostTracker:
    """Keeps the cost so far plus the reservations of current requests below the limit."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.spent = 0.0
        self._reservations: list[Reservation] = []
        self._settled = asyncio.Event()

    async def reserve(self, prompt: int, completion: int) -> Reservation:
        """Reserve the maximum cost of a request; if it does not fit, wait for current requests to end.

        They mostly cost less than reserved, and their answers should be stored before the run stops.

        Raises:
            BadInput: nothing is in progress, and the request could exceed the limit.
        """
        booking, cap = Reservation(self._limits.cost(prompt, completion)), self._limits.max_cost
        while cap is not None and self.spent + sum(b.max_cost for b in self._reservations) + booking.max_cost > cap:
            if not self._reservations:
                raise BadInput(
                    f"the cost limit of ${cap:g} leaves no room for the next request:"
                    f" ${self.spent:.6g} are spent, and it may cost ${booking.max_cost:.6g}",
                    where="max_cost",
                    fix="raise it and run the same command again: what is paid for is kept",
                )
            await self._settled.wait()
        self._reservations.append(booking)
        return booking

    def settle(self, reservation: Reservation) -> None:
        """Add the actual cost of a request."""
        self._reservations = [other for other in self._reservations if other is not reservation]
        self.spent += reservation.cost
        self._settled.set()  # wakes the current waiters; later ones wait for the next event
        self._settled = asyncio.Event()
