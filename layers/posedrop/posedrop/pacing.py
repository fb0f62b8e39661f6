"""The plan's request limit, shared by all functions: when the next call may be made. Pure; the governor keeps it.

Calls that count take slots of a grid: evenly spaced, one call each. A submit takes the next free one; if that is far,
its message comes back shortly before it. So a backlog of any length is received about twice, first come, first served.
A poll takes a slot where its wait ends. While the breaker (gate/breaker.py) pauses submitting, jobs reserve slots of
the time after the pause.
"""

import math
from dataclasses import dataclass, replace
from typing import Literal

from posedrop.gate.reasons import ReasonCode

USE_OF_LIMIT = 0.97
"""Slots lie evenly at this share of the limit: a window that slides punishes exactly all of it."""
PATIENCE = 5.0
"""Seconds that a submit waits in its function for its slot."""
LEAD = 2.5
"""Seconds before its slot at which a message comes back."""
GRACE = 1.5
"""Seconds for which a slot is good after its time: the three percent that are left of a minute allow for them."""
SLOTS_A_JOB = 3.1
"""Where all calls count, submits leave room for the rest of a job: a poll and the result at the least. The tenth is for
jobs that are looked at twice, lest they fall behind further and further."""
HORIZON = 4096
"""Slots that are given out in advance."""
RATE_LIMIT_PAUSE = 10.0
"""Seconds to pause after a 429 that does not say how long; twice as long after each that follows a pause..."""
LONGEST_RATE_LIMIT_PAUSE = 320.0
"""...up to so many: it may be a day's quota."""
WAITS_FOR_LIMIT = "waits for the plan's request limit"
MINUTE = 60.0
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
    """When a request may be sent (seconds since the epoch)."""

    at: float


@dataclass(frozen=True)
class Slot:
    """A slot at a time (seconds since the epoch). It is void once the grid's `generation` is another one."""

    at: float
    generation: int


@dataclass(frozen=True)
class Held:
    """No request may be sent before `until` (seconds since the epoch), because of `code`, in words `reason`.

    `slot` is kept for it. `pause_ends`: when a pause of all jobs ends.
    """

    until: float
    code: ReasonCode
    reason: str
    slot: Slot | None = None
    pause_ends: float | None = None


@dataclass(frozen=True)
class Pacing:
    """The state. Times are seconds since the epoch.

    interval, base, taken, generation: the grid of slots, from the time `base` on; bit n of `taken` (hex) is slot n.
    limit_changed_at: when the plan's limit was last seen to have changed, 0 if it was not.
    submit_due: when the next submit is due, where all calls count.
    all_since: when it was seen that all calls count, 0 if it was not.
    paused_until: no call before it (429). limited: pauses of that kind in a row.
    day, day_jobs: submits of that day since the epoch.
    """

    interval: float = 0.0
    base: float = 0.0
    taken: str = "0"
    generation: int = 0
    limit_changed_at: float = 0.0
    submit_due: float = 0.0
    all_since: float = 0.0
    paused_until: float = 0.0
    limited: int = 0
    day: int = 0
    day_jobs: int = 0

    # ---- slots -----------------------------------------------------------------------------------------------------

    def counts_all(self, limits: Limits, now: float) -> bool:
        """Whether polls count too. What was seen of that holds for a day."""
        return limits.counting == "all" or (limits.counting == "auto" and now < self.all_since + DAY)

    def take(
        self, now: float, limits: Limits, kept: Slot | None = None, pause: Held | None = None
    ) -> tuple["Pacing", Turn | Held]:
        """Take a slot for a submit, or use the one that was `kept` for it. `pause` is that of the breaker."""
        held = pause or self._held(now, limits)
        if held and held.pause_ends is None:
            return self, held
        begin = held.until if held else now
        state = self._at(begin, limits)
        if kept and kept.generation == state.generation and begin <= kept.at + GRACE:
            at = kept.at
        else:
            due = max(begin, state.submit_due) if self.counts_all(limits, now) else begin
            slot, at = state._free(due)
            if slot >= HORIZON:
                return self, Held(at - HORIZON * state.interval / 2, ReasonCode.RATE_LIMIT, WAITS_FOR_LIMIT)
            state = replace(state._reserve(slot), submit_due=due + SLOTS_A_JOB * state.interval)
        if held:
            return state, replace(held, until=max(begin, at - LEAD), slot=Slot(at, state.generation))
        if at > now + PATIENCE:
            return state, Held(at - LEAD, ReasonCode.RATE_LIMIT, WAITS_FOR_LIMIT, Slot(at, state.generation))
        day = int(now // DAY)
        return replace(state, day=day, day_jobs=self._jobs_of(day) + 1), Turn(at)

    def take_poll(self, now: float, due: float, limits: Limits) -> tuple["Pacing", float]:
        """Take a slot for a poll that is due at `due`, and return its time. Where polls do not count that is `due`."""
        due = max(due, self.paused_until)
        if not self.counts_all(limits, now):
            return self, due
        state = self._at(now, limits)
        slot, at = state._free(due)
        return state._reserve(slot), at

    def stopped(self, now: float) -> bool:
        """Whether no call may be made now, not even one that has its slot: a 429 came meanwhile."""
        return self.paused_until > now

    def _held(self, now: float, limits: Limits) -> Held | None:
        if self.paused_until > now:
            reason = "rate limit: the provider answered 429"
            return Held(self.paused_until, ReasonCode.RATE_LIMIT, reason, pause_ends=self.paused_until)
        day = int(now // DAY)
        if limits.daily_jobs and self._jobs_of(day) >= limits.daily_jobs:
            reason = f"the day's limit of {limits.daily_jobs:g} jobs (DailyJobLimit) is reached"
            return Held((day + 1) * DAY, ReasonCode.DAILY_LIMIT, reason)
        return None

    def _jobs_of(self, day: int) -> int:
        return self.day_jobs if day == self.day else 0

    def _at(self, now: float, limits: Limits) -> "Pacing":
        """The state with the grid from now on. Where nothing is taken, or the limit has changed, it begins anew."""
        taken = int(self.taken, 16)
        if not math.isclose(self.interval, limits.interval):
            changed_at = now if self.interval else 0.0
            return replace(self._new_grid(now), interval=limits.interval, limit_changed_at=changed_at)
        if now >= self.base + taken.bit_length() * self.interval:
            return replace(self, base=now, taken="0")
        # A clock that is behind another function's must not bring taken slots back.
        passed = max(0, math.floor((now - self.base) / self.interval))
        return replace(self, base=self.base + passed * self.interval, taken=f"{taken >> passed:x}")

    def _free(self, due: float) -> tuple[int, float]:
        """The first free slot that begins at `due` or later, and its time. One that is under way is not free."""
        first = max(0, math.ceil((due - self.base) / self.interval - 0.01))
        taken = int(self.taken, 16) >> first
        slot = first + ((taken + 1) & ~taken).bit_length() - 1
        return slot, max(due, self.base + slot * self.interval)

    def _reserve(self, slot: int) -> "Pacing":
        return replace(self, taken=f"{int(self.taken, 16) | 1 << slot:x}")

    def _new_grid(self, begin: float) -> "Pacing":
        """A grid with no slot taken. Those that are kept are void: their jobs come in their order, and take others."""
        return replace(self, base=begin, taken="0", generation=self.generation + 1, submit_due=0.0)

    # ---- what the provider answered --------------------------------------------------------------------------------

    def rate_limited(self, now: float, retry_after: float | None, limits: Limits) -> "Pacing":
        """After a 429: pause all calls.

        Slots keep the submits of any minute within the limit, but for the minute after that has changed. So a 429 shows
        that polls count as well.
        """
        # Several calls that were under way are refused at once: that is one pause.
        limited = self.limited + (now >= self.paused_until)
        unsaid = min(RATE_LIMIT_PAUSE * 2.0 ** max(0, limited - 1), LONGEST_RATE_LIMIT_PAUSE)
        until = max(self.paused_until, now + (unsaid if retry_after is None else max(retry_after, 1.0)))
        state = replace(self, paused_until=until, limited=min(limited, 20))
        if self.counts_all(limits, now):
            return state  # polls keep their slots
        if limits.counting == "auto" and now >= self.limit_changed_at + MINUTE:
            state = replace(state, all_since=now)
        # All slots may be taken in advance: they are given out anew, from the end of the pause on.
        return state._new_grid(until)

    def submits_paused(self, until: float) -> "Pacing":
        """After the breaker has opened: slots are given out again, from the end of its pause on."""
        return self._new_grid(until)

    def not_accepted(self) -> "Pacing":
        """After a response by which nothing was accepted: it is no job of this day."""
        return replace(self, day_jobs=max(0, self.day_jobs - 1))

    def answered(self) -> "Pacing":
        """After a submit that the provider accepted, or refused for its content: no 429 came."""
        return replace(self, limited=0)
