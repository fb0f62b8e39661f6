"""What the ledger knows of a job."""

from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any

from posedrop.segmind.requests import Fate, Request, cost_of


class Status(StrEnum):
    """Where a job stands."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


ENDED = (Status.SUCCEEDED, Status.FAILED)


RESCUABLE = frozenset({"ResultExpired", "TimedOut", "OutputInvalid", "InternalError"})
"""The error types after which a request may have made its pictures all the same: they can be fetched later."""


TIMES = frozenset(
    {
        *("created_at", "updated_at", "queued_at", "deferred_until", "send_at", "submitted_at", "completed_at"),
        *("notified_at", "alerted_at", "refused_at", "unfinished_at", "sent_at", "not_found_at"),
    }
)
"""The attributes of a record, and of its requests, that are times."""


OF_ONE_ATTEMPT = (
    *("reason", "reason_code", "deferred_until", "send_at", "owner", "request_id", "submitted_at", "refused_at"),
    *("completed_at", "error", "metrics", "outputs", "notified_at", "errors", "unavailable", "expires_at"),
    *("cancelled", "adopted", "published"),
)
"""What a record forgets when a new attempt begins."""


@dataclass(frozen=True)
class Record:
    """One job's record. Times are seconds since the epoch, and RFC 3339 texts in the table.

    queued_at: since when the attempt is queued. rank, stands, place, send_at, dispatch_number: where a queued job
    stands (line/places.py); `send_at` is the time for which it was dispatched.
    requests: all that may exist at the provider, of all attempts, the oldest first; what was not accepted is left out.
    wishes: the ids of the messages that asked for a new attempt, one each.
    buy_again: the last of them accepts that an earlier request is paid as well. refused_at: when the provider first
    refused this attempt (403, 404, 406). cancelled: the attempt failed because somebody cancelled it.
    published: the channels (aws/channels.py) that the attempt's notification went out through, while another was left.
    adopted: its request was of unknown outcome, and turned up later. unfinished: its key in the index of that name.
    """

    job_id: str
    status: Status
    character: str
    pose: str
    bucket: str = ""
    attempt: int = 1
    created_at: float = 0.0
    updated_at: float = 0.0
    inputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)
    reason: str | None = None
    reason_code: str | None = None
    deferred_until: float | None = None
    queued_at: float = 0.0
    rank: int = 0
    stands: str | None = None
    place: str | None = None
    send_at: float | None = None
    dispatch_number: int = 0
    owner: str | None = None
    requests: list[Request] = field(default_factory=list)
    request_id: str | None = None
    submitted_at: float | None = None
    completed_at: float | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    notified_at: float | None = None
    wishes: list[str] = field(default_factory=list)
    buy_again: bool = False
    refused_at: float | None = None
    adopted: bool = False
    alerted_at: float | None = None
    errors: int = 0
    unavailable: int = 0
    cancelled: bool = False
    unfinished: str | None = field(default=None, compare=False)
    published: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the job has its terminal status."""
        return self.status in ENDED

    @property
    def failed_unsent(self) -> bool:
        """Whether it failed for its files, or before anything was sent: a new attempt reads its folder again."""
        failed = (self.error or {}).get("type")
        return failed == "InvalidInput" or (failed == "InternalError" and not self.requests)

    @property
    def can_be_cancelled(self) -> bool:
        """Whether it waits, and has no request in this attempt that may be paid for."""
        unpaid = all(request.fate is Fate.ABSENT for request in self.sent_in_attempt)
        return self.status is Status.WAITING or (self.status is Status.QUEUED and unpaid)

    @property
    def rescuable(self) -> bool:
        """Whether it failed although its request may have made the pictures: the provider keeps them for some days."""
        failed = (self.error or {}).get("type")
        made = failed in RESCUABLE or (failed == "SubmitOutcomeUnknown" and self.adopted)
        return self.status is Status.FAILED and self.request_id is not None and made

    @property
    def paid(self) -> Request | None:
        """The request of `request_id`, which the attempt waits for or was delivered from."""
        found = (request for request in reversed(self.requests) if request.request_id == self.request_id)
        return next(found, None) if self.request_id else None

    @property
    def images_kept_until(self) -> float:
        """Until when (seconds since the epoch) the provider keeps the images of `paid`; 0 where there is none."""
        return self.paid.kept_until if self.paid else 0.0

    @property
    def cost_usd(self) -> float | None:
        """What all its requests cost (USD); None where that is unknown of one of them."""
        return cost_of(self.requests)

    @property
    def claimed(self) -> Request:
        """The request that the claim of a SUBMITTING record stands for."""
        return self.requests[-1]

    @property
    def sent_in_attempt(self) -> list[Request]:
        """The requests of the record's own attempt, the oldest first."""
        return [request for request in self.requests if request.attempt == self.attempt]

    def with_fate(self, request: Request, fate: Fate, **changes: Any) -> list[Request]:
        """The list of requests after something was learned of one of them."""
        return [replace(other, fate=fate, **changes) if other == request else other for other in self.requests]
