"""The breaker: submitting pauses while the provider refuses the account, or responds in ways that may cost money. Pure.

A refusal (403, 404, 406) may be one job's own: a firewall dislikes its prompt. Only two in a row, with no request
accepted in between, show that it is the account. The refused job waits and goes behind the others, so that the next
request is another job's where there is one. While the breaker is open one request at a time goes out: the probe.
"""

from dataclasses import dataclass, field, replace
from enum import StrEnum

PROBE_SECONDS = 60.0
"""How long one probe has before another may be made."""
LONGEST_PAUSE = 3600.0
REFUSALS = 2
UNKNOWNS = 2
FAULTED_JOBS = 3


class Cause(StrEnum):
    """Why the breaker is open."""

    KEY_REFUSED = "KEY_REFUSED"
    ACCOUNT_REFUSED = "ACCOUNT_REFUSED"
    OUTCOMES_UNKNOWN = "OUTCOMES_UNKNOWN"
    SERVER_FAULTS = "SERVER_FAULTS"


@dataclass(frozen=True)
class Breaker:
    """The state. Times are seconds since the epoch.

    opened_at, open_until: no submit in between. cause, reason: why, as a code and for people; both empty while the
    breaker is closed. openings: how often in a row it has opened. probe_until: a probe is under way.
    refusals: requests refused with 403, 404 or 406 in a row. unknowns: unknown outcomes in a row.
    faulted_jobs: different jobs answered 5xx in a row. refused_at: the last refusal that no acceptance has followed.
    accepted_at: the last acceptance that ended one of these rows, or followed a refusal.
    """

    opened_at: float = 0.0
    open_until: float = 0.0
    cause: str = ""
    reason: str = ""
    openings: int = 0
    probe_until: float = 0.0
    refusals: int = 0
    unknowns: int = 0
    faulted_jobs: list[str] = field(default_factory=list)
    refused_at: float = 0.0
    accepted_at: float = 0.0

    @property
    def is_open(self) -> bool:
        """Whether only probes may be sent, also when the pause is over."""
        return bool(self.cause)

    def is_paused(self, now: float) -> bool:
        """Whether nothing may be sent at all."""
        return self.is_open and self.open_until > now

    def begin_probe(self, at: float) -> tuple["Breaker", bool]:
        """Reserve the probe for a job that is sent at a time; say whether it was free."""
        if not self.is_open or self.is_paused(at) or self.probe_until > at:
            return self, False
        return replace(self, probe_until=at + PROBE_SECONDS), True

    def end_probe(self) -> "Breaker":
        """Leave the probe to the next request: this one says nothing about the account."""
        return replace(self, probe_until=0.0)

    def key_refused(self, now: float, reason: str, pause: float) -> "Breaker":
        """After 401 with a key that was read again, or without a usable key: open for `pause` seconds or longer."""
        return self._open(now, Cause.KEY_REFUSED, reason, pause)

    def refused(self, now: float, reason: str, pause: float) -> "Breaker":
        """After 403, 404 or 406: the second in a row opens the breaker, and so does a refused probe."""
        counted = replace(self.end_probe(), refusals=self.refusals + 1, refused_at=now)
        if counted.refusals < REFUSALS and not self.is_open:
            return counted
        return counted._open(now, Cause.ACCOUNT_REFUSED, reason, pause)

    def outcome_unknown(self, now: float, pause: float) -> "Breaker":
        """After an unknown outcome: the second in a row opens the breaker, and so does a probe without a response."""
        counted = replace(self.end_probe(), unknowns=self.unknowns + 1)
        if counted.unknowns < UNKNOWNS and not self.is_open:
            return counted
        return counted._open(now, Cause.OUTCOMES_UNKNOWN, "the outcome of the last requests is unknown", pause)

    def server_fault(self, now: float, job_id: str, reason: str, pause: float) -> "Breaker":
        """After 500, 502 or 503: the third in a row from different jobs opens the breaker, and so does a probe's."""
        jobs = [*(job for job in self.faulted_jobs if job != job_id), job_id][-FAULTED_JOBS:]
        counted = replace(self.end_probe(), faulted_jobs=jobs)
        if len(jobs) < FAULTED_JOBS and not self.is_open:
            return counted
        return counted._open(now, Cause.SERVER_FAULTS, reason, pause)

    def accepted(self, now: float) -> "Breaker":
        """After an accepted request: close, and end all rows. The state is unchanged if there was nothing to end."""
        quiet = not (self.is_open or self.refusals or self.unknowns or self.faulted_jobs or self.refused_at)
        return self if quiet else Breaker(accepted_at=now)

    def rejected(self) -> "Breaker":
        """After a request refused for its content (400, 422): the account is sound, so close, and end all rows.

        It was not accepted: whether that happens after a refusal is still to be seen.
        """
        return Breaker(accepted_at=self.accepted_at, refused_at=self.refused_at)

    def resumed(self, now: float) -> "Breaker":
        """End the pause before its time. The next request is the probe."""
        return replace(self, open_until=min(self.open_until, now), probe_until=0.0)

    def _open(self, now: float, cause: Cause, reason: str, pause: float) -> "Breaker":
        """Open, for longer each time in a row, up to an hour. Requests that were under way do not extend a pause."""
        if self.is_paused(now):
            return self
        until = now + min(pause * 2**self.openings, LONGEST_PAUSE)
        openings = min(self.openings + 1, 20)
        changes = {"opened_at": now, "open_until": until, "openings": openings, "probe_until": 0.0}
        return replace(self, cause=cause, reason=reason, **changes)
