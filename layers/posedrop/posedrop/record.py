"""What the ledger knows of a job, and how it is written into an item of DynamoDB."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from decimal import Decimal
from enum import StrEnum
from typing import Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer


class Status(StrEnum):
    """Where a job stands."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


ENDED = (Status.SUCCEEDED, Status.FAILED)


class Fate(StrEnum):
    """What became of a request."""

    SENT = "SENT"
    """It is being sent, or the function that sent it has died."""
    ACCEPTED = "ACCEPTED"
    """It has a request id."""
    SERVER_FAULT = "SERVER_FAULT"
    """Answered 500, 502 or 503: it may exist. The history is to be asked."""
    UNKNOWN = "UNKNOWN"
    """No usable response: it may exist. The history is to be asked."""
    ABSENT = "ABSENT"
    """The history does not have it."""
    UNRESOLVED = "UNRESOLVED"
    """The history could not say, for as long as it was waited for."""
    FAILED = "FAILED"
    """It failed at the provider."""
    GONE = "GONE"
    """The provider does not know its id any more."""


MAY_EXIST = (Fate.SENT, Fate.SERVER_FAULT, Fate.UNKNOWN)
RESCUABLE = frozenset({"ResultExpired", "TimedOut", "OutputInvalid", "InternalError"})
"""The error types after which a request may have made its pictures all the same: they can be fetched later."""


@dataclass(frozen=True)
class Request:
    """A request that may exist at the provider.

    sent_at: when it was claimed. not_found_at: when the provider first did not know its id. Both are seconds since the
    epoch. history_page: the page of the provider's history at which the next search for it begins. charged_usd: what
    the budget was charged for it, 0 once that was given back. cost_usd: what it cost, as the provider said; None while
    that is unknown.
    """

    attempt: int
    sent_at: float
    fate: Fate = Fate.SENT
    request_id: str | None = None
    not_found_at: float | None = None
    history_page: int = 1
    charged_usd: float = 0.0
    cost_usd: float | None = None


OF_ONE_ATTEMPT = (
    *("reason", "reason_code", "deferred_until", "send_at", "owner", "request_id", "submitted_at", "refused_at"),
    *("completed_at", "error", "metrics", "outputs", "notified_at", "errors", "unavailable", "expires_at"),
    *("cancelled", "adopted", "published"),
)
"""What a record forgets when a new attempt begins."""


@dataclass(frozen=True)
class Record:
    """One job's record. Times are RFC 3339 texts or, where they are compared, seconds since the epoch.

    queued_at: since when the attempt is queued. rank, stands, place, send_at, dispatch_number: where a queued job
    stands (line/places.py); `send_at` is the time for which it was dispatched.
    requests: all that may exist at the provider, of all attempts, the oldest first; what was not accepted is left out.
    wishes: the ids of the messages that asked for a new attempt, one each.
    buy_again: the last of them accepts that an earlier request is paid as well. refused_at: when the provider first
    refused this attempt (403, 404, 406). cancelled: the attempt failed because somebody cancelled it.
    published: the channels (channels.py) that the attempt's notification went out through, while another was left.
    adopted: its request was of unknown outcome, and turned up later.
    """

    job_id: str
    status: Status
    character: str
    pose: str
    bucket: str = ""
    attempt: int = 1
    created_at: str = ""
    updated_at: str = ""
    inputs: dict[str, Any] = field(default_factory=dict)
    parameters: dict[str, Any] = field(default_factory=dict)
    context: dict[str, Any] | None = None
    missing: list[str] = field(default_factory=list)
    reason: str | None = None
    reason_code: str | None = None
    deferred_until: str | None = None
    queued_at: str = ""
    rank: int = 0
    stands: str | None = None
    place: str | None = None
    send_at: float | None = None
    dispatch_number: int = 0
    owner: str | None = None
    requests: list[Request] = field(default_factory=list)
    request_id: str | None = None
    submitted_at: str | None = None
    completed_at: str | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    notified_at: str | None = None
    wishes: list[str] = field(default_factory=list)
    buy_again: bool = False
    refused_at: float | None = None
    adopted: bool = False
    alerted_at: str | None = None
    errors: int = 0
    unavailable: int = 0
    cancelled: bool = False
    published: list[str] = field(default_factory=list)

    @property
    def ended(self) -> bool:
        """Whether the job has its terminal status."""
        return self.status in ENDED

    @property
    def failed_unsent(self) -> bool:
        """Whether it failed for its files, or before anything was sent: a new attempt reads its folder anew."""
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


def cost_of(requests: Iterable[Request]) -> float | None:
    """Return what some requests cost together (USD), or None if that is unknown of one of them. Pure.

    One that the history does not have cost nothing.
    """
    costs = [0.0 if request.fate is Fate.ABSENT else request.cost_usd for request in requests]
    known = [cost for cost in costs if cost is not None]
    return round(sum(known), 6) if len(known) == len(costs) else None


def cost_of_attempt(requests: Iterable[Request], attempt: int) -> float | None:
    """Return what the requests cost that an attempt sent: nothing if it sent none. Pure."""
    return cost_of(request for request in requests if request.attempt == attempt)


_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def serialize(attribute: str, value: object) -> Any:
    """A value as a client of DynamoDB takes it."""
    # A context may be nested deeper than the 32 levels that DynamoDB takes.
    return _serializer.serialize(json.dumps(value) if attribute == "context" else _without_floats(value))


def deserialize(value: Any) -> Any:
    """A value as a client of DynamoDB gives it, as one of Python's; None stays None. Numbers are Decimals."""
    return None if value is None else _deserializer.deserialize(value)


def to_item(values: Mapping[str, Any]) -> dict[str, Any]:
    """An item of the table, without the attributes that are None."""
    return {key: serialize(key, value) for key, value in values.items() if value is not None}


def is_record(item: Mapping[str, Any]) -> bool:
    """Whether an item of the table is a record: others, as `attempts/…`, `request/…` and `read/…`, have no status."""
    return "status" in item


def from_item(item: Mapping[str, Any]) -> Record:
    """The record in an item of the table, as a client of DynamoDB gives it."""
    values = {key: _without_decimals(deserialize(value)) for key, value in item.items()}
    if "context" in values:
        values["context"] = json.loads(values["context"])
    known = {key: value for key, value in values.items() if key in Record.__dataclass_fields__}
    known["status"] = Status(known.get("status", Status.WAITING))
    known["requests"] = [Request(**{**found, "fate": Fate(found["fate"])}) for found in known.get("requests", [])]
    return Record(**known)


def _without_floats(value: object) -> object:
    if isinstance(value, float):
        return Decimal(repr(value))
    if isinstance(value, Request):
        return {key: _without_floats(inner) for key, inner in asdict(value).items() if inner is not None}
    if isinstance(value, dict):
        return {key: _without_floats(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_floats(inner) for inner in value]
    return value


def _without_decimals(value: object) -> Any:
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, dict):
        return {key: _without_decimals(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_without_decimals(inner) for inner in value]
    return value
