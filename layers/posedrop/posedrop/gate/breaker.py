"""The circuit breaker. It stops submits while the provider refuses the account, or while requests may be billed in
vain. Pure.

A single refusal (403, 404, 406) may concern only one job, such as a prompt that a firewall blocks. Two refusals in a
row, with no accepted request in between, show that the provider refuses the account. A refused job goes behind the
others in line, so the next request is for another job if there is one. While the breaker is open, only one request at a
time is sent: the probe.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

NEVER = 0.0
"""The time of what has not happened."""
PROBE_SECONDS = 60.0
"""Seconds after which another probe may be sent."""
LONGEST_PAUSE = 3600.0
REFUSALS = 2
UNKNOWNS = 2
FAULTED_JOBS = 3
"""Each of these counts opens the breaker: refusals, unknown outcomes, or jobs with a 5xx response, in a row."""


class Cause(StrEnum):
    """Why the breaker is open."""

    KEY_REFUSED = "KEY_REFUSED"
    ACCOUNT_REFUSED = "ACCOUNT_REFUSED"
    OUTCOMES_UNKNOWN = "OUTCOMES_UNKNOWN"
    SERVER_FAULTS = "SERVER_FAULTS"


@dataclass(frozen=True)
class Breaker:
    """The state of the breaker. Times are seconds since the epoch.

    - opened_at, open_until: the pause, in which nothing is sent.
    - cause, reason: why it is open, as a code and as text. Both are empty while it is closed.
    - openings: how often it has opened in a row.
    - probe_until: a probe may be running until then.
    - refusals: consecutive requests refused with 403, 404 or 406.
    - unknowns: consecutive unknown outcomes.
    - faulted_jobs: the different jobs of consecutive 5xx responses.
    - refused_at: the last refusal, unless a request was accepted since.
    - accepted_at: the last accepted request that reset one of these counts.
    """

    opened_at: float = NEVER
    open_until: float = NEVER
    cause: str = ""
    reason: str = ""
    openings: int = 0
    probe_until: float = NEVER
    refusals: int = 0
    unknowns: int = 0
    faulted_jobs: list[str] = field(default_factory=list)
    refused_at: float = NEVER
    accepted_at: float = NEVER

    @property
    def is_open(self) -> bool:
        """Whether the breaker is open: only a probe may be sent, and only after the pause."""
        return bool(self.cause)

    def is_paused(self, now: float) -> bool:
        """Return whether the pause is not over, so that nothing may be sent."""
        return self.is_open and self.open_until > now

    def begin_probe(self, at: float) -> tuple["Breaker", bool]:
        """Reserve the probe for a job that is sent at a time. Return the new state, and whether the probe was free."""
        if not self.is_open or self.is_paused(at) or self.probe_until > at:
            return self, False
        return replace(self, probe_until=at + PROBE_SECONDS), True

    def end_probe(self) -> "Breaker":
        """Free the probe for the next request, because this one showed nothing about the account."""
        return replace(self, probe_until=NEVER)

    def key_refused(self, now: float, reason: str, pause: float) -> "Breaker":
        """Open for at least `pause` seconds: there is no usable key, or the newly read key got a 401."""
        return self._open(now, Cause.KEY_REFUSED, reason, pause)

    def refused(self, now: float, reason: str, pause: float) -> "Breaker":
        """Count a 403, 404 or 406. The second in a row opens the breaker, and so does a refused probe."""
        counted = replace(self.end_probe(), refusals=self.refusals + 1, refused_at=now)
        if counted.refusals < REFUSALS and not self.is_open:
            return counted
        return counted._open(now, Cause.ACCOUNT_REFUSED, reason, pause)

    def outcome_unknown(self, now: float, pause: float) -> "Breaker":
        """Count an unknown outcome. The second in a row opens the breaker, and so does a probe without a response."""
        counted = replace(self.end_probe(), unknowns=self.unknowns + 1)
        if counted.unknowns < UNKNOWNS and not self.is_open:
            return counted
        return counted._open(now, Cause.OUTCOMES_UNKNOWN, "the outcome of the last requests is unknown", pause)

    def server_fault(self, now: float, job_id: str, reason: str, pause: float) -> "Breaker":
        """Count a 500, 502 or 503. The third in a row from different jobs opens the breaker, and so does a probe's."""
        jobs = [*(job for job in self.faulted_jobs if job != job_id), job_id][-FAULTED_JOBS:]
        counted = replace(self.end_probe(), faulted_jobs=jobs)
        if len(jobs) < FAULTED_JOBS and not self.is_open:
            return counted
        return counted._open(now, Cause.SERVER_FAULTS, reason, pause)

    def accepted(self, now: float) -> "Breaker":
        """Close after an accepted request, and reset all counts. If there are none, return the same state."""
        unchanged = not (self.is_open or self.refusals or self.unknowns or self.faulted_jobs or self.refused_at)
        return self if unchanged else Breaker(accepted_at=now)

    def rejected(self) -> "Breaker":
        """Close after a request was refused for its content (400, 422), and reset all counts: the account works.

        `refused_at` is kept, because no request was accepted.
        """
        return Breaker(accepted_at=self.accepted_at, refused_at=self.refused_at)

    def resumed(self, now: float) -> "Breaker":
        """End the pause early. The next request is the probe."""
        return replace(self, open_until=min(self.open_until, now), probe_until=NEVER)

    def _open(self, now: float, cause: Cause, reason: str, pause: float) -> "Breaker":
        """Open for a pause that doubles each time in a row, up to an hour. A running pause is not extended."""
        if self.is_paused(now):
            return self
        until = now + min(pause * 2**self.openings, LONGEST_PAUSE)
        openings = min(self.openings + 1, 20)
        changes = {"opened_at": now, "open_until": until, "openings": openings, "probe_until": NEVER}
        return replace(self, cause=cause, reason=reason, **changes)
