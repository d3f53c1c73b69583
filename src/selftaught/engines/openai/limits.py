"""What an endpoint may be asked for: how much at a time, how much a minute, and for how much money."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from dataclasses import dataclass

from selftaught.engines.base import RequestRefused
from selftaught.errors import BadInput

MINUTE = 60.0
POLL_SECONDS = 0.05  # seconds after which a waiting request looks again: an answer may have made room, a 429 taken it


@dataclass(frozen=True, slots=True)
class Limits:
    """What an endpoint may be asked for.

    Attributes:
        concurrency: most requests under way at once.
        requests_per_minute: most requests sent in any 60 s, retries included; None is no limit.
        tokens_per_minute: most tokens in any 60 s, prompts and answers together; an answer counts as long as
            allowed until it is there. None is no limit.
        prompt_price: dollars per million prompt tokens.
        completion_price: dollars per million tokens of answers.
        spend: most dollars to spend, earlier starts of the same run included; None is no limit.

    Raises:
        BadInput: a number out of its range, or a cap without a price.
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
                raise BadInput(f"{value} leaves no room for any request", where=name, fix="use 1 or more")
        for name in ("prompt_price", "completion_price", "max_cost"):
            value = getattr(self, name)
            if value is not None and not 0 <= value < float("inf"):
                raise BadInput(f"{value} is no amount of dollars", where=name, fix="use 0 or more")
        if self.max_cost is not None and not self.prompt_price + self.completion_price:
            raise BadInput(
                "a cap needs to know what tokens cost",
                where="max_cost",
                fix="give prompt_price and completion_price, in dollars per million tokens",
            )

    def cost(self, prompt: int, completion: int) -> float:
        """The price of so many tokens."""
        return (prompt * self.prompt_price + completion * self.completion_price) / 1e6


@dataclass(slots=True)
class UsageEntry:
    """Something that counts against a limit from a moment on (seconds, monotonic)."""

    at: float
    amount: int


class SlidingWindow:
    """At most `limit` in any minute: a log of the last one, whose entries can be corrected later."""

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._entries: deque[UsageEntry] = deque()

    def delay(self, amount: int, now: float) -> float:
        """Seconds until there is room for `amount`, as things stand; 0 where there is."""
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
                return entry.at + MINUTE - now
        return 0.0

    def add(self, amount: int, now: float) -> UsageEntry:
        """Count `amount` from now on."""
        entry = UsageEntry(now, amount)
        if self.limit is not None:
            self._entries.append(entry)
        return entry


class RateLimiter:
    """Lets requests go, first come first served, no faster than the limits and the endpoint itself allow.

    For one event loop; so is `Spending`.
    """

    def __init__(self, limits: Limits) -> None:
        self._requests, self._tokens = (
            SlidingWindow(limits.requests_per_minute),
            SlidingWindow(limits.tokens_per_minute),
        )
        self._queue = asyncio.Lock()
        self._paused_until = 0.0

    async def acquire(self, tokens: int) -> UsageEntry:
        """Wait for the turn of a request that takes `tokens` at most; returns what to correct once it is known.

        Raises:
            RequestRefused: it takes more than a minute has.
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
        """Let nothing go for so long: the endpoint said so."""
        self._paused_until = max(self._paused_until, time.monotonic() + seconds)


@dataclass(slots=True)
class Reservation:
    """Money set aside for a request: what it costs at most, and, once settled, what it cost."""

    max_cost: float
    cost: float = 0.0


class CostTracker:
    """Keeps what is spent and what is set aside for requests under way below the cap, together."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.spent = 0.0
        self._reservations: list[Reservation] = []
        self._settled = asyncio.Event()

    async def reserve(self, prompt: int, completion: int) -> Reservation:
        """Set aside what a request costs at most; where that is too much, wait for those under way to end.

        They mostly cost less than was set aside, and their answers should be safe before the run stops.

        Raises:
            BadInput: nothing is under way, and the request may exceed the cap.
        """
        booking, cap = Reservation(self._limits.cost(prompt, completion)), self._limits.max_cost
        while cap is not None and self.spent + sum(b.max_cost for b in self._reservations) + booking.max_cost > cap:
            if not self._reservations:
                raise BadInput(
                    f"the cap of ${cap:g} leaves no room for the next request:"
                    f" ${self.spent:.6g} are spent, and it may cost ${booking.max_cost:.6g}",
                    where="max_cost",
                    fix="raise the cap and run the same command again: what is paid for is kept",
                )
            await self._settled.wait()
        self._reservations.append(booking)
        return booking

    def settle(self, reservation: Reservation) -> None:
        """Count what a request cost."""
        self._reservations = [other for other in self._reservations if other is not reservation]
        self.spent += reservation.cost
        self._settled.set()  # wakes those that wait now; those that wait later, wait for the next one
        self._settled = asyncio.Event()
