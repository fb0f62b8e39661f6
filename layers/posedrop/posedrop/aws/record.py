"""The ledger's two kinds of record: of a job, and of uploads that wait for a missing file and are not a job yet.

The status says which kind a record is, so a check of the status is enough to read what only that kind has.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, Literal

from posedrop.segmind.requests import Request, RequestStatus, cost_of


class Status(StrEnum):
    """The status of a record. WAITING is the status of waiting uploads, the others are those of a job."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


JobStatus = Literal[Status.QUEUED, Status.SUBMITTING, Status.SUBMITTED, Status.SUCCEEDED, Status.FAILED]
"""The status of a job."""
ENDED = (Status.SUCCEEDED, Status.FAILED)


RESCUABLE = frozenset({"ResultExpired", "TimedOut", "OutputInvalid", "InternalError"})
"""The error types after which the provider may still have the pictures, so that they can be fetched later."""


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
"""The attributes that are removed when a new attempt begins."""


@dataclass(frozen=True)
class BaseRecord:
    """What both kinds of record have. Times are seconds since the epoch here, and RFC 3339 in the table.

    job_id: the record's key in the table. For waiting uploads it is `waiting/<character>/<pose>`.
    errors: unexpected errors in a row.
    published: the channels (aws/channels.py) that have published the notification, while others have not.
    unfinished: the record's key in the index `unfinished`.
    """

    job_id: str
    status: Status
    character: str
    pose: str
    bucket: str = ""
    created_at: float = 0.0
    updated_at: float = 0.0
    reason: str | None = None
    errors: int = 0
    published: list[str] = field(default_factory=list)
    unfinished: str | None = field(default=None, compare=False)


@dataclass(frozen=True)
class WaitingRecord(BaseRecord):
    """The record of uploads that are not a job yet. `pose` is empty if the character has no pose.

    missing: what they wait for: "face", "pose", "prompt". Empty if the files could not be read yet.
    reason: details, such as which file may have been meant, or the last unexpected error.
    alerted_at: when a notification was sent that they have waited too long.
    """

    status: Literal[Status.WAITING]
    missing: list[str] = field(default_factory=list)
    alerted_at: float | None = None

    @property
    def attempt(self) -> int:
        """The attempt in notifications and messages about them: always 1."""
        return 1

    @property
    def can_be_cancelled(self) -> bool:
        """Whether nothing may have been paid yet, which is always so."""
        return True


@dataclass(frozen=True)
class Record(BaseRecord):
    """One job's record.

    queued_at: since when the attempt is queued. rank, stands, place, send_at, dispatch_number: the place of a queued
    job (aws/places.py); `send_at` is its reserved time if it was dispatched.
    requests: the requests of all attempts that may exist at the provider, oldest first, without those not accepted.
    retry_messages: the ids of the messages that asked for a new attempt; each made one.
    buy_again: the last of these messages allows paying again even if an earlier request may have been accepted.
    refused_at: when the provider first refused this attempt (403, 404, 406).
    cancelled: the attempt failed because somebody cancelled it.
    adopted: the attempt's request had an unknown outcome and was found later.
    """

    status: JobStatus
    attempt: int = 1
    inputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] | None = None
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
    retry_messages: list[str] = field(default_factory=list)
    buy_again: bool = False
    refused_at: float | None = None
    adopted: bool = False
    unavailable: int = 0
    cancelled: bool = False

    @property
    def ended(self) -> bool:
        """Whether the job has succeeded or failed."""
        return self.status in ENDED

    @property
    def failed_unsent(self) -> bool:
        """Whether it failed because of its files, or before a request was sent. A new attempt re-reads the folder."""
        failed = (self.error or {}).get("type")
        return failed == "InvalidInput" or (failed == "InternalError" and not self.requests)

    @property
    def can_be_cancelled(self) -> bool:
        """Whether it is queued, and no request of this attempt may have been paid."""
        unpaid = all(request.status is RequestStatus.ABSENT for request in self.sent_in_attempt)
        return self.status is Status.QUEUED and unpaid

    @property
    def rescuable(self) -> bool:
        """Whether it failed, but the provider may have the pictures, which it keeps for some days."""
        failed = (self.error or {}).get("type")
        made = failed in RESCUABLE or (failed == "SubmitOutcomeUnknown" and self.adopted)
        return self.status is Status.FAILED and self.request_id is not None and made

    @property
    def paid(self) -> Request | None:
        """The request with the record's `request_id`, or None."""
        found = (request for request in reversed(self.requests) if request.request_id == self.request_id)
        return next(found, None) if self.request_id else None

    @property
    def images_kept_until(self) -> float:
        """Until when (seconds since the epoch) the provider keeps the images of `paid`, or 0 if that is None."""
        return self.paid.kept_until if self.paid else 0.0

    @property
    def cost_usd(self) -> float | None:
        """The total cost of its requests (USD), or None if the cost of any of them is unknown."""
        return cost_of(self.requests)

    @property
    def claimed(self) -> Request:
        """The request for which a SUBMITTING record was claimed."""
        return self.requests[-1]

    @property
    def sent_in_attempt(self) -> list[Request]:
        """The requests of the current attempt, oldest first."""
        return [request for request in self.requests if request.attempt == self.attempt]

    def with_status(self, request: Request, status: RequestStatus, **changes: Any) -> list[Request]:
        """Return the list of requests, with a new status and other changes for one of them."""
        return [replace(other, status=status, **changes) if other == request else other for other in self.requests]


AnyRecord = Record | WaitingRecord
"""A record of either kind."""


def only_jobs(records: Iterable[AnyRecord]) -> Iterator[Record]:
    """Yield those records that are of jobs."""
    return (record for record in records if record.status is not Status.WAITING)
