"""Keep the plan's request limit: decide when the next call to the provider may be made.

The algorithm is GCRA, the generic cell rate algorithm: one theoretical arrival time, `tat`, in one item of the table.
Each permit moves it on by the interval between two calls. A call whose time is near waits for it in its function; one
whose time is far is deferred. Where all calls count, polls of running jobs accept a longer wait than new submits do: so
polls go first when the limit is short.
"""

import math
from dataclasses import dataclass
from typing import Literal

from posedrop.aws.items import Condition, Item, Items, Refused
from posedrop.contract.reasons import Closed, ReasonCode

ITEM = "rate-limit"
USE_OF_LIMIT = 0.97
"""Calls are spread evenly at this share of the limit. The rest allows for calls that arrive a little late."""
DISPATCHED = 0.995
"""Jobs are dispatched at this share of the rate of permits. At the same rate, once one job came late, all later ones
would wait as long for their permits, in functions that are billed."""
SUBMIT_WAIT = 10.0
"""Seconds for which a submit waits in its function for its permit."""
POLL_WAIT = 15.0
"""Seconds for which a poll waits, where polls count. A second of `poll` costs less than a tenth of another turn of the
state machine's loop (three transitions)."""
WAIT_INTERVALS = 1.9
"""Both wait for so many intervals at least. At 5 calls a minute these are 23 s: a submit that came right after a poll
would otherwise be put back each time."""
CALLS_A_JOB = 3.4
"""Where all calls count: the submit, the result, and the polls, of which more than one in three jobs needs a second."""
FIRST_PAUSE = 10.0
"""Seconds to pause after a 429 that does not say how long; twice as long after each that follows within a minute..."""
LONGEST_PAUSE = 320.0
"""...and at most this long: it may be a quota of the day."""
LONGEST_RETRY_AFTER = 3600.0
MINUTE = 60.0
DAY = 86400.0
TRIES = 8

Counting = Literal["submits", "all", "auto"]


@dataclass(frozen=True)
class Permit:
    """A call may be made at the time `at` (seconds since the epoch)."""

    at: float


@dataclass(frozen=True)
class RateLimit:
    """The plan's limit as the stack's parameters give it: requests a minute, and which calls count."""

    requests_per_minute: float
    counting: Counting = "auto"

    @property
    def interval(self) -> float:
        """Seconds between two calls."""
        return round(MINUTE / (self.requests_per_minute * USE_OF_LIMIT), 6)

    def job_interval(self, state: "RateLimitState", now: float) -> float:
        """Seconds between two jobs, so that there is room for all their calls."""
        return round(self.interval * (CALLS_A_JOB if state.counts_all(self, now) else 1) / DISPATCHED, 6)


@dataclass(frozen=True)
class RateLimitState:
    """The item. Times are seconds since the epoch, 0 for never.

    tat: when the next call may be made; interval: the interval that the last permits had; limit_changed_at: when it was
    last seen to change; paused_until: no call before it; pauses: how many 429s without Retry-After followed each other;
    all_since: when it was seen that all calls count.
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
        """Return whether polls count too. With `auto`, what was seen of that holds for a day."""
        return limit.counting == "all" or (limit.counting == "auto" and now < self.all_since + DAY)

    def after_429(self, limit: RateLimit, now: float, retry_after: float | None) -> dict[str, float]:
        """Return the attributes that change after a 429; `retry_after` is in seconds, or None.

        Evenly spread submits stay within the limit of any minute, but for the minute after it has changed. So a 429
        shows that polls count as well.
        """
        # Calls that were under way are refused together: that is one pause.
        pauses = self.pauses if now < self.paused_until else self.pauses + 1 if now < self.paused_until + MINUTE else 1
        doubled = min(FIRST_PAUSE * 2.0 ** min(pauses - 1, 10), LONGEST_PAUSE)
        seconds = doubled if retry_after is None else min(max(retry_after, 1.0), LONGEST_RETRY_AFTER)
        changes = {"paused_until": max(self.paused_until, now + seconds), "pauses": pauses}
        if limit.counting == "auto" and not self.counts_all(limit, now) and now >= self.limit_changed_at + MINUTE:
            changes["all_since"] = now
        return changes


class RateLimiter:
    """Gives permits, shared by all functions through one item. Errors of DynamoDB pass as botocore's ClientError."""

    def __init__(self, items: Items, limit: RateLimit) -> None:
        self._items = items
        self._limit = limit

    def read(self) -> RateLimitState:
        """Read the state, consistently."""
        return RateLimitState.of(self._items.get(ITEM)[0])

    def permit_submit(self, now: float, wait: float = SUBMIT_WAIT) -> Permit | Closed:
        """Take a permit for a submit that can wait for so many seconds, or return why there is none and until when."""
        return self._take(now, min(wait, self._longest(SUBMIT_WAIT)))

    def permit_poll(self, now: float) -> Permit | Closed:
        """Take a permit for a GET of a running job. Where those do not count, only a pause defers it."""
        if self._limit.counting == "all":
            return self._take(now, self._longest(POLL_WAIT))
        state = self.read()
        if state.counts_all(self._limit, now):
            return self._take(now, self._longest(POLL_WAIT))
        return paused(state) if state.paused_until > now else Permit(now)

    def pause(self, now: float, retry_after: float | None) -> float:
        """Pause all calls after a 429, and return until when. `retry_after` is in seconds, or None."""
        for _ in range(TRIES):
            state = self.read()
            changes = state.after_429(self._limit, now, retry_after)
            unchanged = Condition("paused_until", "=", state.paused_until, or_absent=not state.paused_until)
            try:
                self._items.update(ITEM, values=changes, when=[unchanged])
            except Refused:
                continue  # another function has just paused: its pause counts too
            return changes["paused_until"]
        return self.read().paused_until

    def _longest(self, wait: float) -> float:
        return max(wait, WAIT_INTERVALS * self._limit.interval)

    def _take(self, now: float, wait: float) -> Permit | Closed:
        """Take the next permit by one or two conditional writes, without a read."""
        interval = self._limit.interval
        allowed = [Condition("interval", "=", interval), Condition("paused_until", "<=", now, or_absent=True)]
        within = [Condition("tat", ">=", now), Condition("tat", "<=", now + wait)]
        for _ in range(TRIES):
            try:
                item = self._items.update(ITEM, add={"tat": interval}, when=[*within, *allowed])
                return Permit(max(now, float(item["tat"]) - interval))
            except Refused as refused:
                state = RateLimitState.of(refused.item)
            if state.paused_until > now:
                return paused(state)
            if state.tat > now + wait:
                return _far(state.tat - wait)
            try:
                if not math.isclose(state.interval, interval):
                    self._change_limit(state, now)
                self._items.update(
                    ITEM, values={"tat": now + interval}, when=[Condition("tat", "<", now, or_absent=True), *allowed]
                )
                return Permit(now)
            except Refused:
                continue  # another function has just taken a permit: the next one is later
        return _far(now + 1)

    def _change_limit(self, state: RateLimitState, now: float) -> None:
        """Write down that the plan's limit is another one than at the last permit."""
        values = {"interval": self._limit.interval, "limit_changed_at": now if state.interval else 0.0}
        unchanged = Condition("interval", "=", state.interval, or_absent=not state.interval)
        self._items.update(ITEM, values=values, when=[unchanged])


def _far(until: float) -> Closed:
    return Closed(until, ReasonCode.RATE_LIMIT, "waits for the plan's request limit")


def paused(state: RateLimitState) -> Closed:
    """Return the pause after a 429."""
    return Closed(state.paused_until, ReasonCode.RATE_LIMIT, "all calls are paused: the provider answered 429")
