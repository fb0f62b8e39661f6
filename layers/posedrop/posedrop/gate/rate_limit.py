"""Keep the plan's request limit: decide when the next call to the provider may be made.

The algorithm is GCRA, the generic cell rate algorithm. It has one value, the theoretical arrival time `tat`, in one
item of the table: the time of the next free call. Each permit moves `tat` forward by the interval between two calls. If
the time of a call is near, its function waits for it. If it is far, the call is deferred. If all calls count, polls of
running jobs may wait longer than new submits, so polls go first when the limit is reached.
"""

import math
from dataclasses import dataclass
from typing import Literal

from posedrop.aws.items import Condition, Item, Items
from posedrop.contract.errors import WriteRefused
from posedrop.contract.reasons import Closed, ReasonCode
from posedrop.contract.times import DAY, MINUTE

LIMIT_ITEM = "rate-limit"
USE_OF_LIMIT = 0.97
"""Calls are spread evenly at this share of the limit. The rest is a reserve for calls that arrive late."""
DISPATCHED = 0.995
"""Jobs are dispatched at this share of the rate of permits. At the full rate, one late job would delay all later jobs
by the same time, and they would wait for their permits in functions that are billed."""
SUBMIT_WAIT = 10.0
"""The most seconds that a submit waits for its permit inside its function."""
POLL_WAIT = 15.0
"""The most seconds that a poll waits for its permit, if polls count. A second of `poll` costs less than a tenth of
another turn of the state machine's loop (three transitions)."""
WAIT_INTERVALS = 1.9
"""Submits and polls may wait at least this many intervals. At 5 calls a minute that is 23 s. With a shorter wait, a
submit right after a poll would be put back each time."""
CALLS_A_JOB = 3.4
"""The calls of an average job, if all calls count: the submit, the result and 1.4 polls."""
FIRST_PAUSE = 10.0
"""Seconds to pause after a 429 without Retry-After. The pause doubles after each further 429 within a minute..."""
LONGEST_PAUSE = 320.0
"""...up to this many seconds. The limit may be a daily quota."""
LONGEST_RETRY_AFTER = 3600.0
TRIES = 8

Counting = Literal["submits", "all", "auto"]


@dataclass(frozen=True)
class Permit:
    """The right to make one call at the time `at` (seconds since the epoch)."""

    at: float


@dataclass(frozen=True)
class RateLimit:
    """The plan's limit, from the stack's parameters: requests a minute, and which calls count."""

    requests_per_minute: float
    counting: Counting = "auto"

    @property
    def interval(self) -> float:
        """Seconds between two calls."""
        return round(MINUTE / (self.requests_per_minute * USE_OF_LIMIT), 6)

    def job_interval(self, state: "RateLimitState", now: float) -> float:
        """Return the seconds between two jobs that leave room for all their calls."""
        return round(self.interval * (CALLS_A_JOB if state.counts_all(self, now) else 1) / DISPATCHED, 6)


@dataclass(frozen=True)
class RateLimitState:
    """The state of the rate limit. Times are seconds since the epoch, 0 for never.

    - tat: when the next call may be made.
    - interval: the interval of the last permits, in seconds.
    - limit_changed_at: when the interval last changed.
    - paused_until: no calls before this time.
    - pauses: consecutive pauses after a 429.
    - all_since: when a 429 showed that all calls count.
    """

    tat: float = 0.0
    interval: float = 0.0
    limit_changed_at: float = 0.0
    paused_until: float = 0.0
    pauses: float = 0.0
    all_since: float = 0.0

    @classmethod
    def of(cls, item: Item) -> "RateLimitState":
        """Read the state from its item, which may be empty."""
        return cls(**{name: float(item[name]) for name in cls.__dataclass_fields__ if name in item})

    def counts_all(self, limit: RateLimit, now: float) -> bool:
        """Return whether polls count too. With `auto`, they count for a day after a 429 showed it."""
        return limit.counting == "all" or (limit.counting == "auto" and now < self.all_since + DAY)

    def after_429(self, limit: RateLimit, now: float, retry_after: float | None) -> dict[str, float]:
        """Return the attributes that change after a 429. `retry_after` is in seconds, or None.

        Submits are spread evenly within the limit, except in the minute after the limit has changed. So a 429 at any
        other time shows that polls count too.
        """
        # Several calls at once may get a 429. They count as one pause.
        pauses = self.pauses if now < self.paused_until else self.pauses + 1 if now < self.paused_until + MINUTE else 1
        doubled = min(FIRST_PAUSE * 2.0 ** min(pauses - 1, 10), LONGEST_PAUSE)
        seconds = doubled if retry_after is None else min(max(retry_after, 1.0), LONGEST_RETRY_AFTER)
        changes = {"paused_until": max(self.paused_until, now + seconds), "pauses": pauses}
        if limit.counting == "auto" and not self.counts_all(limit, now) and now >= self.limit_changed_at + MINUTE:
            changes["all_since"] = now
        return changes


class RateLimiter:
    """Gives permits to all functions, through one item. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, items: Items, limit: RateLimit) -> None:
        self._items = items
        self._limit = limit

    def read(self) -> RateLimitState:
        """Read the state. The read is consistent."""
        return RateLimitState.of(self._items.get(LIMIT_ITEM)[0])

    def permit_submit(self, now: float, wait: float = SUBMIT_WAIT) -> Permit | Closed:
        """Reserve a permit for a submit that can wait `wait` seconds, or return why there is none and until when."""
        return self._reserve(now, min(wait, self._longest(SUBMIT_WAIT)))

    def permit_poll(self, now: float) -> Permit | Closed:
        """Reserve a permit for a GET of a running job. If GETs do not count, only a pause defers it."""
        if self._limit.counting == "all":
            return self._reserve(now, self._longest(POLL_WAIT))
        state = self.read()
        if state.counts_all(self._limit, now):
            return self._reserve(now, self._longest(POLL_WAIT))
        return paused(state) if state.paused_until > now else Permit(now)

    def pause(self, now: float, retry_after: float | None) -> float:
        """Pause all calls after a 429, and return the end of the pause. `retry_after` is in seconds, or None."""
        for _ in range(TRIES):
            state = self.read()
            changes = state.after_429(self._limit, now, retry_after)
            unchanged = Condition("paused_until", "=", state.paused_until, or_absent=not state.paused_until)
            try:
                self._items.update(LIMIT_ITEM, values=changes, when=[unchanged])
            except WriteRefused:
                continue  # another function has paused just now: try again with its state
            return changes["paused_until"]
        return self.read().paused_until

    def _longest(self, wait: float) -> float:
        return max(wait, WAIT_INTERVALS * self._limit.interval)

    def _reserve(self, now: float, wait: float) -> Permit | Closed:
        """Reserve the next permit with one or two conditional writes, without a read."""
        interval = self._limit.interval
        allowed = [Condition("interval", "=", interval), Condition("paused_until", "<=", now, or_absent=True)]
        within = [Condition("tat", ">=", now), Condition("tat", "<=", now + wait)]
        for _ in range(TRIES):
            try:
                item = self._items.update(LIMIT_ITEM, add={"tat": interval}, when=[*within, *allowed])
                return Permit(max(now, float(item["tat"]) - interval))
            except WriteRefused as refused:
                state = RateLimitState.of(refused.item)
            if state.paused_until > now:
                return paused(state)
            if state.tat > now + wait:
                return _far(state.tat - wait)
            try:
                if not math.isclose(state.interval, interval):
                    self._change_limit(state, now)
                passed = Condition("tat", "<", now, or_absent=True)
                self._items.update(LIMIT_ITEM, values={"tat": now + interval}, when=[passed, *allowed])
                return Permit(now)
            except WriteRefused:
                continue  # another function has reserved this permit: try the next one
        return _far(now + 1)

    def _change_limit(self, state: RateLimitState, now: float) -> None:
        """Record that the plan's limit has changed since the last permit."""
        values = {"interval": self._limit.interval, "limit_changed_at": now if state.interval else 0.0}
        unchanged = Condition("interval", "=", state.interval, or_absent=not state.interval)
        self._items.update(LIMIT_ITEM, values=values, when=[unchanged])


def _far(until: float) -> Closed:
    return Closed(until, ReasonCode.RATE_LIMIT, "waits for the plan's request limit")


def paused(state: RateLimitState) -> Closed:
    """Return the reason and the end of the pause after a 429."""
    return Closed(state.paused_until, ReasonCode.RATE_LIMIT, "all calls are paused: the provider answered 429")
