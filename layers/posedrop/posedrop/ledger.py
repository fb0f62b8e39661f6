"""The ledger (JobsTable): what was queued, claimed, submitted, delivered.

    WAITING ──▶ QUEUED ──▶ SUBMITTING ──▶ SUBMITTED ──▶ SUCCEEDED | FAILED
    (own key)     ▲            │                                │
                  ├────────────┘ the provider took nothing      │
                  └─────────────────────────────────────────────┘ a new attempt is asked for

Every change is one conditional write. A write after a claim holds the claim's owner or the attempt against the record,
so a late function cannot overwrite what came after it. `unfinished` holds the status until the end is told: the index
of that name has only what is still to be done.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from boto3.dynamodb.types import TypeDeserializer, TypeSerializer
from botocore.exceptions import ClientError

from posedrop.answers import cut
from posedrop.clock import rfc3339
from posedrop.errors import JobError, PosedropError
from posedrop.job import Job, waiting_id
from posedrop.pacing import Slot

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DAY = 86400
UNFINISHED_INDEX = "unfinished"
UNEXPECTED_ERRORS = 5
"""So many unexpected errors end a job."""
MESSAGE_LIMIT = 1024
"""Bytes of an error's message."""


class Status(StrEnum):
    """Where a job stands."""

    WAITING = "WAITING"
    QUEUED = "QUEUED"
    SUBMITTING = "SUBMITTING"
    SUBMITTED = "SUBMITTED"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"


OF_ONE_ATTEMPT = (
    *(
        "reason",
        "hold_until",
        "slot",
        "owner",
        "claimed_at",
        "unknown_at",
        "request_id",
        "submitted_at",
        "not_found_at",
    ),
    *("completed_at", "error", "metrics", "outputs", "notified_at", "errors", "unavailable", "expires_at"),
)
"""What a record forgets when a new attempt begins."""
ENDED = (Status.SUCCEEDED, Status.FAILED)


class Conflict(PosedropError):
    """The record is not, or no longer, as the write expects it: somebody else went ahead."""


@dataclass(frozen=True)
class Record:
    """One job's record. Times are RFC 3339 texts or, where they are compared, seconds since the epoch."""

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
    hold_until: str | None = None
    slot: dict[str, Any] | None = None
    owner: str | None = None
    claimed_at: float | None = None
    request_id: str | None = None
    submitted_at: str | None = None
    completed_at: str | None = None
    outputs: list[dict[str, Any]] = field(default_factory=list)
    error: dict[str, str] | None = None
    metrics: dict[str, Any] = field(default_factory=dict)
    notified_at: str | None = None
    not_found_at: float | None = None
    unknown_at: float | None = None
    unknown_attempts: list[dict[str, Any]] = field(default_factory=list)
    previous_request_id: str | None = None
    retry_message_id: str | None = None
    alerted_at: str | None = None
    errors: int = 0
    unavailable: int = 0

    @property
    def ended(self) -> bool:
        """Whether the job has its terminal status."""
        return self.status in ENDED


class Ledger:
    """The records of all jobs. `retention_days` 0 keeps them for ever.

    Raises Conflict where a condition does not hold. Other errors of DynamoDB pass as botocore's ClientError.
    """

    def __init__(self, dynamodb: "DynamoDBClient", table: str, retention_days: float = 0) -> None:
        self._dynamodb = dynamodb
        self._table = table
        self._retention_days = retention_days

    def get(self, job_id: str) -> Record | None:
        """The record of a job, read consistently, or None."""
        answer = self._dynamodb.get_item(TableName=self._table, Key={"job_id": {"S": job_id}}, ConsistentRead=True)
        return from_item(answer["Item"]) if "Item" in answer else None

    # ---- before the request --------------------------------------------------------------------------------------

    def queue(self, job: Job, now: float) -> Record:
        """Write the record of a new job, or read the one that is there."""
        return self._create(job, now, status=Status.QUEUED)

    def refuse(self, job: Job, error: JobError, now: float) -> Record:
        """Write the record of a job that ends before anything is sent, or read the one that is there."""
        return self._create(
            job, now, status=Status.FAILED, error=_error(error), completed_at=rfc3339(now), **self._expiry(now)
        )

    def _create(self, job: Job, now: float, **values: Any) -> Record:
        item = {
            "job_id": job.job_id,
            "bucket": job.bucket,
            "character": job.character,
            "pose": job.pose,
            "attempt": 1,
            "created_at": rfc3339(now),
            "updated_at": rfc3339(now),
            "inputs": {name: found.to_dict() for name, found in job.inputs.items()},
            "parameters": job.parameters,
            "context": job.context,
            "unfinished": values["status"],
            **values,
        }
        try:
            self._dynamodb.put_item(
                TableName=self._table, Item=_to_item(item), ConditionExpression="attribute_not_exists(job_id)"
            )
        except ClientError as exc:
            if not _is_conflict(exc):
                raise
            record = self.get(job.job_id)
            if record is None:
                raise Conflict(job.job_id) from exc
            return record
        return from_item(_to_item(item))

    def wait(self, bucket: str, character: str, pose: str, missing: list[str], now: float) -> Record:
        """Write what is missing until these uploads are a job. The pose is empty where there is none at all."""
        return self._update(
            waiting_id(character, pose),
            None,
            {
                "bucket": bucket,
                "character": character,
                "pose": pose,
                "status": Status.WAITING,
                "unfinished": Status.WAITING,
                "missing": missing,
                "updated_at": rfc3339(now),
            },
            defaults={"created_at": rfc3339(now)},
        )

    def stop_waiting(self, character: str, pose: str) -> None:
        """Remove the record of uploads that are a job now."""
        self._dynamodb.delete_item(TableName=self._table, Key={"job_id": {"S": waiting_id(character, pose)}})

    def hold(self, record: Record, reason: str, until: float, now: float, slot: Slot | None = None) -> None:
        """Say why a queued job is not sent yet, and when it is looked at again (seconds since the epoch)."""
        self._update(
            record.job_id,
            {"status": Status.QUEUED, "attempt": record.attempt},
            {
                "reason": reason,
                "hold_until": rfc3339(until),
                "slot": asdict(slot) if slot else None,
                "updated_at": rfc3339(now),
            },
        )

    def count_error(self, record: Record, text: str, now: float) -> Record:
        """Count an unexpected error of an attempt that has not ended. Raises Conflict if it has."""
        return self._update(
            record.job_id,
            {"status": record.status, "attempt": record.attempt},
            {"updated_at": rfc3339(now), "reason": text},
            count="errors",
        )

    def count_unread(self, bucket: str, character: str, pose: str, text: str, now: float) -> Record:
        """Count an unexpected error of uploads that are no job yet, in the record of what they wait for."""
        values = {"bucket": bucket, "character": character, "pose": pose, "missing": []}
        waiting = {"status": Status.WAITING, "unfinished": Status.WAITING}
        return self._update(
            waiting_id(character, pose),
            None,
            {"updated_at": rfc3339(now), "reason": text},
            defaults={**values, **waiting, "created_at": rfc3339(now)},
            count="errors",
        )

    def renumber(self, record: Record, attempt: int, now: float) -> Record:
        """Let a job that nothing was done for yet begin with another attempt's number."""
        return self._update(
            record.job_id,
            {"status": record.status, "attempt": record.attempt, "notified_at": None},
            {"attempt": attempt, "updated_at": rfc3339(now)},
        )

    # ---- the claim and after it ----------------------------------------------------------------------------------

    def claim(self, record: Record, owner: str, now: float) -> Record:
        """Take a queued job for one request. Raises Conflict if it is not queued any more."""
        return self._update(
            record.job_id,
            {"status": Status.QUEUED, "attempt": record.attempt},
            {
                "status": Status.SUBMITTING,
                "unfinished": Status.SUBMITTING,
                "owner": owner,
                "claimed_at": now,
                "unknown_at": None,
                "reason": None,
                "hold_until": None,
                "updated_at": rfc3339(now),
            },
        )

    def release(self, claimed: Record, reason: str, until: float, now: float, *, unavailable: bool = False) -> Record:
        """Give a claim back: the provider said that it took nothing. `unavailable` counts: it is tried ever later."""
        return self._update(
            claimed.job_id,
            _claim(claimed),
            {
                "status": Status.QUEUED,
                "unfinished": Status.QUEUED,
                "owner": None,
                "claimed_at": None,
                "unknown_at": None,
                "reason": reason,
                "hold_until": rfc3339(until),
                "updated_at": rfc3339(now),
            },
            count="unavailable" if unavailable else None,
        )

    def suspect(self, claimed: Record, reason: str, now: float) -> Record:
        """Write down that it is unknown whether a claimed job was taken; it is looked up before that is told."""
        return self._update(
            claimed.job_id, _claim(claimed), {"unknown_at": now, "reason": reason, "updated_at": rfc3339(now)}
        )

    def submitted(self, claimed: Record, request_id: str, now: float) -> Record:
        """Write down the request id of a claimed job."""
        return self._submitted(claimed.job_id, _claim(claimed), request_id, now)

    def adopt(self, record: Record, request_id: str, now: float) -> Record:
        """Let a queued attempt go on with a request that an earlier attempt had made."""
        return self._submitted(record.job_id, {"status": Status.QUEUED, "attempt": record.attempt}, request_id, now)

    def _submitted(self, job_id: str, expected: Mapping[str, Any], request_id: str, now: float) -> Record:
        return self._update(
            job_id,
            expected,
            {
                "status": Status.SUBMITTED,
                "unfinished": Status.SUBMITTED,
                "reason": None,
                "hold_until": None,
                "not_found_at": None,
                "request_id": request_id,
                "submitted_at": rfc3339(now),
                "updated_at": rfc3339(now),
            },
        )

    def fail(self, record: Record, error: JobError, now: float) -> Record:
        """End a queued or claimed job. It is as the caller read it, or Conflict is raised."""
        expected = {"status": record.status, "attempt": record.attempt, "owner": record.owner}
        return self._end(record.job_id, expected, Status.FAILED, {"error": _error(error)}, now)

    # ---- the end -------------------------------------------------------------------------------------------------

    def succeed(self, record: Record, outputs: list[dict[str, Any]], metrics: dict[str, Any], now: float) -> Record:
        """End an attempt with its outputs. Raises Conflict if it has ended, or another attempt has begun."""
        expected = {"status": Status.SUBMITTED, "attempt": record.attempt}
        return self._end(record.job_id, expected, Status.SUCCEEDED, {"outputs": outputs, "metrics": metrics}, now)

    def fail_attempt(self, record: Record, error: JobError, metrics: dict[str, Any], now: float) -> Record:
        """End an attempt with an error. Raises Conflict if it has ended, or another attempt has begun."""
        expected = {"status": record.status, "attempt": record.attempt}
        return self._end(record.job_id, expected, Status.FAILED, {"error": _error(error), "metrics": metrics}, now)

    def notified(self, record: Record, now: float) -> None:
        """Write down that an attempt's end was told."""
        self._update(record.job_id, {"attempt": record.attempt}, {"notified_at": rfc3339(now), "unfinished": None})

    def alerted(self, record: Record, now: float) -> None:
        """Write down that it was told what uploads wait for."""
        self._update(record.job_id, {"status": Status.WAITING}, {"alerted_at": rfc3339(now)})

    def new_attempt(self, record: Record, message_id: str, error: JobError | None, now: float) -> Record:
        """Queue a failed job again as its next attempt, or end that at once with `error`.

        `message_id` is that of the message that asked for it: delivered twice, it makes one attempt. Raises Conflict if
        another one has begun.
        """
        status = Status.FAILED if error else Status.QUEUED
        end = {"error": _error(error), "completed_at": rfc3339(now), **self._expiry(now)} if error else {}
        return self._update(
            record.job_id,
            {"status": Status.FAILED, "attempt": record.attempt},
            {
                **dict.fromkeys(OF_ONE_ATTEMPT),
                **end,
                "status": status,
                "unfinished": status,
                "attempt": record.attempt + 1,
                "previous_request_id": record.request_id or record.previous_request_id,
                "unknown_attempts": [*record.unknown_attempts, *_unknown(record)],
                "retry_message_id": message_id,
                "updated_at": rfc3339(now),
            },
        )

    def unfinished(self, status: Status, before: float) -> Iterator[str]:
        """The ids of the records with this status, not told yet, that nobody has changed since `before`."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=UNFINISHED_INDEX,
            KeyConditionExpression="unfinished = :status AND updated_at < :before",
            ExpressionAttributeValues={":status": {"S": status}, ":before": {"S": rfc3339(before)}},
        )
        for page in pages:
            for item in page["Items"]:
                yield item["job_id"]["S"]

    def not_found(self, record: Record, now: float) -> float:
        """Write down that the provider does not know the request id; return when that was first seen."""
        updated = self._update(record.job_id, {"attempt": record.attempt}, {}, defaults={"not_found_at": now})
        return now if updated.not_found_at is None else updated.not_found_at

    def _end(
        self, job_id: str, expected: Mapping[str, Any], status: Status, values: Mapping[str, Any], now: float
    ) -> Record:
        return self._update(
            job_id,
            expected,
            {
                "status": status,
                "unfinished": status,
                "reason": None,
                "hold_until": None,
                "completed_at": rfc3339(now),
                "updated_at": rfc3339(now),
                **values,
                **self._expiry(now),
            },
        )

    def _expiry(self, now: float) -> dict[str, int]:
        return {"expires_at": int(now + self._retention_days * DAY)} if self._retention_days else {}

    def _update(
        self,
        job_id: str,
        expected: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
        count: str | None = None,
    ) -> Record:
        """One conditional write. A value of None removes the attribute; an expected None is one that is not there."""
        names: dict[str, str] = {}
        arguments: dict[str, Any] = {}

        def name(attribute: str) -> str:
            names[f"#{attribute}"] = attribute
            return f"#{attribute}"

        def argument(kind: str, attribute: str, value: object) -> str:
            arguments[f":{kind}_{attribute}"] = _serialize(attribute, value)
            return f":{kind}_{attribute}"

        sets = [f"{name(key)} = {argument('set', key, value)}" for key, value in values.items() if value is not None]
        sets += [
            f"{name(key)} = if_not_exists({name(key)}, {argument('default', key, value)})"
            for key, value in (defaults or {}).items()
        ]
        removes = [name(key) for key, value in values.items() if value is None]
        expression = f"SET {', '.join(sets)}" if sets else ""
        expression += f" REMOVE {', '.join(removes)}" if removes else ""
        expression += f" ADD {name(count)} {argument('add', count, 1)}" if count else ""
        conditions = [
            f"attribute_not_exists({name(key)})" if value is None else f"{name(key)} = {argument('is', key, value)}"
            for key, value in (expected or {}).items()
        ]
        request: dict[str, Any] = {"ConditionExpression": " AND ".join(conditions)} if conditions else {}
        try:
            answer = self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": job_id}},
                UpdateExpression=expression.strip(),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=arguments,
                ReturnValues="ALL_NEW",
                **request,
            )
        except ClientError as exc:
            if _is_conflict(exc):
                raise Conflict(job_id) from exc
            raise
        return from_item(answer["Attributes"])


def _unknown(record: Record) -> list[dict[str, Any]]:
    """An attempt of unknown outcome, and when it was sent: its request may turn up in the provider's history."""
    if record.request_id or record.claimed_at is None:
        return []
    return [{"attempt": record.attempt, "sent_at": record.claimed_at}]


def _claim(claimed: Record) -> dict[str, Any]:
    return {"status": Status.SUBMITTING, "attempt": claimed.attempt, "owner": claimed.owner}


def _error(error: JobError) -> dict[str, str]:
    return {"type": error.type, "message": cut(str(error), MESSAGE_LIMIT)}


def _is_conflict(exc: ClientError) -> bool:
    return exc.response["Error"]["Code"] == "ConditionalCheckFailedException"


_serializer = TypeSerializer()
_deserializer = TypeDeserializer()


def _serialize(attribute: str, value: object) -> Any:
    # A context may be nested deeper than the 32 levels that DynamoDB takes.
    return _serializer.serialize(json.dumps(value) if attribute == "context" else _without_floats(value))


def _to_item(values: Mapping[str, Any]) -> dict[str, Any]:
    return {key: _serialize(key, value) for key, value in values.items() if value is not None}


def from_item(item: Mapping[str, Any]) -> Record:
    """The record in an item of the table, as a client of DynamoDB gives it."""
    values = {key: _without_decimals(_deserializer.deserialize(value)) for key, value in item.items()}
    if "context" in values:
        values["context"] = json.loads(values["context"])
    known = {key: value for key, value in values.items() if key in Record.__dataclass_fields__}
    return Record(**{**known, "status": Status(known.get("status", Status.WAITING))})


def _without_floats(value: object) -> object:
    if isinstance(value, float):
        return Decimal(repr(value))
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
