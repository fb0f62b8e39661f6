"""The plan's request limit, shared by all functions: when the next call may be made. Pure; the governor keeps it.

Calls that count take slots of a grid: evenly spaced, one call each. A slot is taken from now on, or, for a poll that is
due later, from then on. A submit for which no slot is near gets a ticket, which is a time to come back, so that a long
backlog is not received again and again. A breaker stops submitting where the account is refused.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

USE_OF_LIMIT = 0.97
"""Slots lie evenly at this share of the limit: a window that slides punishes exactly all of it."""
PATIENCE = 5.0
"""Seconds that a submit waits in its function for its slot."""
LEAD = 3.0
"""Seconds before a slot is near at which a message comes back, so that no slot passes unused."""
TICKET_DENSITY = 0.9
"""Tickets lie closer than submits have been, so that there is always one for a free slot."""
CALLS_A_JOB = 5
"""Calls of a job, its polls included, until it is seen how far apart submits lie."""
LONGEST_GAP = 20
"""Slots. A longer time between two submits says that there was nothing to send."""
RATE_LIMIT_PAUSE = 10.0
"""Seconds to pause after a 429 that does not say how long."""
LONGEST_PAUSE = 3600.0
PROBE_SECONDS = 60.0
"""How long one probe has before another may be made."""
PROBE_LOOK = 10.0
"""Seconds after which a held job looks how the probe went."""
UNKNOWN_STREAK = 2
"""So many unknown outcomes in a row open the breaker."""
DAY = 86400

Counting = Literal["submits", "all", "auto"]


@dataclass(frozen=True)
class Limits:
    """What the stack's parameters say.

    requests_per_minute: of the plan; counting: which calls count; daily_jobs: submits a day (UTC), 0 for no bound.
    """

    requests_per_minute: float
    counting: Counting = "auto"
    daily_jobs: float = 0

    @property
    def interval(self) -> float:
        """Seconds between two slots."""
        return 60 / (self.requests_per_minute * USE_OF_LIMIT)


@dataclass(frozen=True)
class Turn:
    """When a request may be sent (seconds since the epoch). `probe`: submitting had paused, this one tries again."""

    at: float
    probe: bool = False


@dataclass(frozen=True)
class Held:
    """No request may be sent before `until` (seconds since the epoch), for `reason`. `ticket`: that is its turn."""

    until: float
    reason: str
    ticket: bool = False


@dataclass(frozen=True)
class Pacing:
    """The state. Times are seconds since the epoch.

    interval, base, taken: the grid of slots; bit n of `taken` (hex) is slot base + n.
    last_submit, gap: the last slot of a submit, and how far apart submits lie. next_ticket: the next time to come back.
    all_since: when it was seen that all calls count, 0 if it was not.
    paused_until: no call before it (429).
    open_until, open_reason, openings: the breaker of submits, and how often in a row it has opened.
    probe_until: a probe is under way. unknowns: unknown outcomes in a row.
    day, day_jobs: submits of that day since the epoch.
    """

    interval: float = 0.0
    base: int = 0
    taken: str = "0"
    last_submit: float = 0.0
    gap: float = 0.0
    next_ticket: float = 0.0
    all_since: float = 0.0
    paused_until: float = 0.0
    open_until: float = 0.0
    open_reason: str = ""
    openings: int = 0
    probe_until: float = 0.0
    unknowns: int = 0
    day: int = 0
    day_jobs: int = 0

    # ---- slots -----------------------------------------------------------------------------------------------------

    def counts_all(self, limits: Limits, now: float) -> bool:
        """Whether polls count too. What was seen of that holds for a day."""
        return limits.counting == "all" or (limits.counting == "auto" and now < self.all_since + DAY)

    def take(self, now: float, limits: Limits, ticketed: bool = False) -> tuple["Pacing", Turn | Held]:
        """Take a slot for a submit. `ticketed`: it comes back at its ticket's time."""
        held = self._held(now, limits)
        if held:
            return self, held
        state = self._at(now, limits)
        slot, at = state._free(now, now)
        if not ticketed and state.next_ticket > now + PATIENCE:
            return state._ticket(state.next_ticket, limits, now)
        if at > now + PATIENCE:
            if ticketed:
                return self, Held(at - LEAD, "waits for the plan's request limit", ticket=True)
            return state._ticket(at, limits, now)
        probe = bool(self.open_reason)
        gap = at - state.last_submit
        if 0 < gap < LONGEST_GAP * state.interval:
            state = replace(state, gap=0.8 * state._gap(limits, now) + 0.2 * gap)
        day = int(now // DAY)
        return replace(
            state._reserve(slot),
            last_submit=at,
            probe_until=at + PROBE_SECONDS if probe else 0.0,
            day=day,
            day_jobs=self._jobs_of(day) + 1,
        ), Turn(at, probe)

    def take_poll(self, now: float, due: float, limits: Limits) -> tuple["Pacing", float]:
        """Take a slot for a poll that is due at `due`, and return its time. Where polls do not count that is `due`."""
        due = max(due, self.paused_until)
        if not self.counts_all(limits, now):
            return self, due
        state = self._at(now, limits)
        slot, at = state._free(now, due)
        return state._reserve(slot), at

    def _held(self, now: float, limits: Limits) -> Held | None:
        if self.paused_until > now:
            return Held(self.paused_until, "rate limit: the provider answered 429")
        if self.open_reason and self.open_until > now:
            return Held(self.open_until, self.open_reason)
        if self.open_reason and self.probe_until > now:
            return Held(min(self.probe_until, now + PROBE_LOOK), f"{self.open_reason}; a probe is under way")
        day = int(now // DAY)
        if limits.daily_jobs and self._jobs_of(day) >= limits.daily_jobs:
            return Held((day + 1) * DAY, f"the day's limit of {limits.daily_jobs:g} jobs (DailyJobLimit) is reached")
        return None

    def _jobs_of(self, day: int) -> int:
        return self.day_jobs if day == self.day else 0

    def _at(self, now: float, limits: Limits) -> "Pacing":
        """The state with the grid from now on; a grid of another interval is begun anew."""
        base = math.floor(now / limits.interval)
        if not math.isclose(self.interval, limits.interval):
            return replace(self, interval=limits.interval, base=base, taken="0", gap=0.0)
        shift = base - self.base
        taken = int(self.taken, 16)
        # A clock that is behind another function's must not bring taken slots back.
        return self if shift <= 0 else replace(self, base=base, taken=f"{taken >> shift:x}")

    def _free(self, now: float, due: float) -> tuple[int, float]:
        """The first free slot from `due` on, and its time: now, if it is the slot that we are in."""
        first = max(math.floor(due / self.interval) if due <= now else math.ceil(due / self.interval), self.base)
        shifted = int(self.taken, 16) >> (first - self.base)
        slot = first + ((shifted + 1) & ~shifted).bit_length() - 1
        return slot, max(now, slot * self.interval)

    def _reserve(self, slot: int) -> "Pacing":
        return replace(self, taken=f"{int(self.taken, 16) | 1 << (slot - self.base):x}")

    def _gap(self, limits: Limits, now: float) -> float:
        expected = self.interval * (CALLS_A_JOB if self.counts_all(limits, now) else 1)
        return max(self.gap or expected, self.interval)

    def _ticket(self, at: float, limits: Limits, now: float) -> tuple["Pacing", Held]:
        following = at + TICKET_DENSITY * self._gap(limits, now)
        return replace(self, next_ticket=following), Held(at - LEAD, "waits for the plan's request limit", ticket=True)

    # ---- what the provider answered --------------------------------------------------------------------------------

    def rate_limited(self, now: float, retry_after: float | None, limits: Limits) -> "Pacing":
        """After a 429: pause all calls.

        Slots keep the submits of any minute within the limit. So a 429 shows that polls count as well.
        """
        until = max(self.paused_until, now + (RATE_LIMIT_PAUSE if retry_after is None else max(retry_after, 1.0)))
        newly = limits.counting == "auto" and not self.counts_all(limits, now)
        return replace(
            self,
            paused_until=until,
            probe_until=0.0,
            all_since=now if newly else self.all_since,
            gap=0.0 if newly else self.gap,
        )

    def account_refused(self, now: float, reason: str, pause: float) -> "Pacing":
        """After 401, 403, 404, 406: open the breaker, for longer each time in a row, up to an hour."""
        if self.open_until > now:
            return self
        seconds = min(pause * 2**self.openings, LONGEST_PAUSE)
        return replace(
            self, open_until=now + seconds, open_reason=reason, openings=min(self.openings + 1, 20), probe_until=0.0
        )

    def outcome_unknown(self, now: float, pause: float) -> "Pacing":
        """After an unknown outcome: the second in a row opens the breaker."""
        counted = replace(self, unknowns=min(self.unknowns + 1, 1000), probe_until=0.0)
        if counted.unknowns < UNKNOWN_STREAK:
            return counted
        return counted.account_refused(now, "the outcome of the last requests is unknown", pause)

    def not_taken(self) -> "Pacing":
        """After an answer that took nothing: no job of this day, and a probe leaves the breaker to the next one."""
        return replace(self, probe_until=0.0, day_jobs=max(0, self.day_jobs - 1))

    def answered(self) -> "Pacing":
        """After a submit that the provider took, or refused for its content: all is well, the breaker closes."""
        return replace(self, open_until=0.0, open_reason="", openings=0, probe_until=0.0, unknowns=0)
