"""The ledger (JobsTable): what was queued, claimed, submitted, delivered.

    WAITING ──▶ QUEUED ──▶ SUBMITTING ──▶ SUBMITTED ──▶ SUCCEEDED | FAILED
    (own key)     ▲            │                                │
                  ├────────────┘ not accepted, or a 5xx         │
                  └─────────────────────────────────────────────┘ `retry` asks for a new attempt

Every change is one conditional write. A write after a claim requires the claim's owner or the attempt, so a late
function cannot overwrite a later state. A reply that is lost makes botocore repeat a write that was applied; the
condition then fails, and the item is compared: if it is as the write wanted it, the write was ours.

`unfinished` is removed when the end is notified: the index of that name has only what is still to be done.
`attempts/<sha256 of the job id>` holds the highest attempt number, without names and without a time to live. No number
is used twice, not after a record has expired either: names of executions stay taken for 90 days (Step Functions API
reference, StartExecution).
"""

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from botocore.exceptions import ClientError

from posedrop.answers import cut
from posedrop.clock import rfc3339
from posedrop.errors import InvalidInput, JobError, PosedropError
from posedrop.gate.reasons import AT_THE_GATE, ReasonCode
from posedrop.job import Input, Job, waiting_id
from posedrop.line.places import due, in_line
from posedrop.record import ENDED as ENDED
from posedrop.record import MAY_EXIST, OF_ONE_ATTEMPT, Fate, Request, deserialize, from_item, serialize, to_item
from posedrop.record import Record as Record
from posedrop.record import Status as Status

if TYPE_CHECKING:
    from mypy_boto3_dynamodb import DynamoDBClient

DAY = 86400
UNFINISHED_INDEX = "unfinished"
PAID, ENDED_UNSENT, INCOMPLETE, RESCUE = "paid", "ended", "waiting", "rescue"
"""The keys of that index: from a job's claim until its end is notified; ended without a claim and not notified; uploads
that are no job yet; failed and notified, but the pictures may still be at the provider. `unfinished_at` says since
when, or for uploads and rescues when the sweep checks them next. A job's steps in between do not change them. What is
queued stands in the index of the line."""
FINISHED = dict.fromkeys(("unfinished", "unfinished_at"))
KEPT = 7 * DAY
"""Seconds for which the provider keeps pictures (its documentation, logging): a rescue is tried for so long."""
NOT_QUEUED = dict.fromkeys(("reason", "reason_code", "deferred_until", "stands", "place", "send_at"))
"""What a record forgets when it is claimed or ends."""
UNEXPECTED_ERRORS = 5
"""So many unexpected errors in a row end a job."""
MESSAGE_LIMIT = 1024
"""Bytes of an error's message."""
CANCELLED = InvalidInput("cancelled")
"""The error of a job that was cancelled."""


class Conflict(PosedropError):
    """The record is not, or no longer, as the write expects it: another function went ahead."""


def attempts_id(job_id: str) -> str:
    """The key of the item with the highest attempt number of a job."""
    return f"attempts/{hashlib.sha256(job_id.encode()).hexdigest()}"


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
        item = self._get(job_id)
        return from_item(item) if item else None

    # ---- before the request --------------------------------------------------------------------------------------

    def queue(self, job: Job, place: Mapping[str, Any], now: float) -> Record:
        """Write the record of a new job, which stands at a `place` (line/places.py), or read the one that is there."""
        return self._create(job, now, status=Status.QUEUED, **place)

    def refuse(self, job: Job, error: JobError, now: float, *, cancelled: bool = False) -> Record:
        """Write the record of a job that ends before anything is sent, or read the one that is there."""
        ended = {"status": Status.FAILED, "error": _error(error), "completed_at": rfc3339(now)}
        unsent = {"unfinished": ENDED_UNSENT, "unfinished_at": rfc3339(now), "cancelled": cancelled or None}
        return self._create(job, now, **ended, **unsent)

    def _create(self, job: Job, now: float, **values: Any) -> Record:
        item = {
            "job_id": job.job_id,
            "bucket": job.bucket,
            "character": job.character,
            "pose": job.pose,
            "attempt": self._highest_attempt(job.job_id) + 1,
            "day": rfc3339(now)[:10],
            "created_at": rfc3339(now),
            "updated_at": rfc3339(now),
            "inputs": _inputs(job.inputs),
            "parameters": job.parameters,
            "context": job.context,
            **values,
        }
        try:
            self._dynamodb.put_item(
                TableName=self._table, Item=to_item(item), ConditionExpression="attribute_not_exists(job_id)"
            )
        except ClientError as exc:
            if not _is_conflict(exc):
                raise
            record = self.get(job.job_id)
            if record is None:
                raise Conflict(job.job_id) from exc
            return record
        return from_item(to_item(item))

    def renew_inputs(self, record: Record, inputs: Mapping[str, Input], now: float) -> Record:
        """Let a queued job use the versions of a newer upload with the same content: older ones may expire."""
        expected = {"status": Status.QUEUED, "attempt": record.attempt}
        return self._update(record.job_id, expected, {"inputs": _inputs(inputs), "updated_at": rfc3339(now)})

    def wait(
        self, bucket: str, character: str, pose: str, missing: list[str], now: float, reason: str | None = None
    ) -> Record:
        """Write what is missing until these uploads are a job. The pose is empty where there is none at all.

        `reason` says more, as which file may have been meant.
        """
        values: dict[str, Any] = {"bucket": bucket, "character": character, "pose": pose, "missing": missing}
        values |= {"errors": None, "reason": reason and cut(reason, MESSAGE_LIMIT)}
        waiting = {"status": Status.WAITING, "unfinished": INCOMPLETE, "updated_at": rfc3339(now)}
        # The sweep's own message leads here, too: when that is due again is left as it is.
        first = {"day": rfc3339(now)[:10], "created_at": rfc3339(now), "unfinished_at": rfc3339(now)}
        return self._update(waiting_id(character, pose), None, {**values, **waiting}, first)

    def stop_waiting(self, character: str, pose: str) -> None:
        """Remove the record of uploads that are a job now."""
        self._dynamodb.delete_item(TableName=self._table, Key={"job_id": {"S": waiting_id(character, pose)}})

    def count_unread(self, bucket: str, character: str, pose: str, text: str, now: float) -> Record:
        """Count an unexpected error of uploads that are no job yet, in the record of what they wait for."""
        name = waiting_id(character, pose)
        known = self.get(name)
        errors = known.errors if known else 0
        values = {"bucket": bucket, "character": character, "pose": pose, "missing": []}
        waiting = {"status": Status.WAITING, "unfinished": INCOMPLETE}
        waiting |= {"day": rfc3339(now)[:10], "created_at": rfc3339(now), "unfinished_at": rfc3339(now)}
        changes = {"updated_at": rfc3339(now), "reason": text, "errors": errors + 1}
        return self._update(name, {"errors": errors or None}, changes, {**values, **waiting})

    def defer(self, record: Record, code: ReasonCode, reason: str, until: float, now: float) -> None:
        """Say why a queued job is not sent yet, and until when (seconds since the epoch). Its message stays valid."""
        self._update(record.job_id, _dispatched(record), {**_deferral(code, reason, until, now), "errors": None})

    def put_back(self, record: Record, code: ReasonCode, reason: str, until: float, now: float) -> None:
        """Say why a dispatched job is not sent, and put it back: in line, or due at `until`. Its message is void."""
        values = {**_moved(record, code, until), **_deferral(code, reason, until, now), "errors": None}
        self._update(record.job_id, _dispatched(record), values)

    def cancel(self, record: Record, now: float) -> Record:
        """End a queued job that was not sent; its message is void. Raises Conflict if it is not as it was read."""
        expected = {**_dispatched(record), "requests": record.requests or None}
        values = {"error": _error(CANCELLED), "cancelled": True, "dispatch_number": record.dispatch_number + 1}
        return self._end(record.job_id, expected, Status.FAILED, values, now)

    def count_error(self, record: Record, text: str, now: float) -> Record:
        """Count an unexpected error of an attempt. Raises Conflict if it has changed since it was read."""
        return self._update(
            record.job_id,
            {"status": record.status, "attempt": record.attempt, "errors": record.errors or None},
            {"updated_at": rfc3339(now), "reason": text, "errors": record.errors + 1},
        )

    # ---- the claim and after it ----------------------------------------------------------------------------------

    def use_attempt(self, record: Record) -> None:
        """Keep the number of the record's attempt from being used again, after the record has expired too."""
        number = {":number": {"N": str(record.attempt)}}
        try:
            self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": attempts_id(record.job_id)}},
                UpdateExpression="SET highest = :number",
                ConditionExpression="attribute_not_exists(highest) OR highest < :number",
                ExpressionAttributeValues=number,
            )
        except ClientError as exc:
            if not _is_conflict(exc):
                raise  # otherwise it was written before, for this record: none was created with a number in use

    def claim(
        self,
        record: Record,
        owner: str,
        charged_usd: float,
        now: float,
        prepared: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Record:
        """Claim a queued job for one request, which the budget was charged for (USD).

        `prepared` says what is sent in the place of the uploads, by "face" and "pose" (prepare/recipe.py).
        Raises Conflict if it is not queued as it was read.
        """
        self.use_attempt(record)
        return self._update(
            record.job_id,
            {**_dispatched(record), "requests": record.requests or None},
            {
                **NOT_QUEUED,
                "errors": None,
                "status": Status.SUBMITTING,
                **_paid(now),
                "owner": owner,
                "requests": [*record.requests, Request(record.attempt, now, charged_usd=charged_usd)],
                "updated_at": rfc3339(now),
                **({"inputs": _with_prepared(record.inputs, prepared)} if prepared else {}),
            },
        )

    def release(
        self, claimed: Record, code: ReasonCode, reason: str, until: float, now: float, **changes: Any
    ) -> Record:
        """Put a claimed job back: the provider did not accept its request, which leaves the list."""
        values = {**_moved(claimed, code, until), **_deferral(code, reason, until, now), **changes}
        return self._release(claimed, claimed.requests[:-1], values)

    def release_after_fault(self, claimed: Record, reason: str, until: float, now: float) -> Record:
        """Put a claimed job back after a 5xx: its request may exist, so it stays in the list."""
        requests = claimed.with_fate(claimed.claimed, Fate.SERVER_FAULT)
        code = ReasonCode.SERVER_FAULT
        return self._release(claimed, requests, {**_moved(claimed, code, until), **_deferral(code, reason, until, now)})

    def _release(self, claimed: Record, requests: list[Request], values: Mapping[str, Any]) -> Record:
        queued = {"status": Status.QUEUED, **FINISHED, "owner": None, "requests": requests or None}
        return self._update(claimed.job_id, _claim(claimed), {**queued, **values})

    def mark_outcome_unknown(self, claimed: Record, reason: str, now: float) -> Record:
        """Record that the provider may have accepted the request. The history is checked before the job fails."""
        requests = claimed.with_fate(claimed.claimed, Fate.UNKNOWN)
        values = {"requests": requests, "reason": reason, "updated_at": rfc3339(now)}
        return self._update(claimed.job_id, _claim(claimed), values)

    def submitted(self, claimed: Record, request_id: str, now: float) -> Record:
        """Write down the request id of a claimed job."""
        requests = claimed.with_fate(claimed.claimed, Fate.ACCEPTED, request_id=request_id)
        return self._submitted(claimed.job_id, _claim(claimed), requests, request_id, now)

    def adopt(self, record: Record, request: Request, request_id: str, now: float) -> Record:
        """Let a queued attempt resume a request that was made before."""
        requests = record.with_fate(request, Fate.ACCEPTED, request_id=request_id, not_found_at=None)
        expected = {"status": Status.QUEUED, "attempt": record.attempt, "requests": record.requests}
        return self._submitted(record.job_id, expected, requests, request_id, now, **_paid(now))

    def learned(self, record: Record, requests: list[Request], now: float) -> Record:
        """Keep what was learned of earlier requests, so that the next invocation goes on from there."""
        expected = {"status": record.status, "attempt": record.attempt, "requests": record.requests}
        return self._update(record.job_id, expected, {"requests": requests, "updated_at": rfc3339(now)})

    def own_request_id(self, record: Record, request_id: str, now: float) -> bool:
        """Write down whose request id it is; say whether it is not another job's or attempt's already.

        The item `request/<request id>` names no job, and expires once the provider has forgotten the request.
        """
        owner = hashlib.sha256(f"{record.job_id}-{record.attempt}".encode()).hexdigest()
        try:
            self._dynamodb.put_item(
                TableName=self._table,
                Item=to_item({"job_id": f"request/{request_id}", "owner": owner, "expires_at": int(now + 30 * DAY)}),
                ConditionExpression="attribute_not_exists(job_id) OR #owner = :owner",
                ExpressionAttributeNames={"#owner": "owner"},
                ExpressionAttributeValues={":owner": {"S": owner}},
            )
        except ClientError as exc:
            if not _is_conflict(exc):
                raise
            return False
        return True

    def _submitted(
        self,
        job_id: str,
        expected: Mapping[str, Any],
        requests: list[Request],
        request_id: str,
        now: float,
        **changes: Any,
    ) -> Record:
        return self._update(
            job_id,
            expected,
            {
                **NOT_QUEUED,
                **changes,
                "status": Status.SUBMITTED,
                "requests": requests,
                "request_id": request_id,
                "submitted_at": rfc3339(now),
                "updated_at": rfc3339(now),
            },
        )

    def fail(self, record: Record, error: JobError, now: float, *, requests: list[Request] | None = None) -> Record:
        """End a queued or claimed job. It is as the caller read it, or Conflict is raised.

        `requests` replaces the list where the last request was refused, and so is none that may exist.
        """
        expected = {"status": record.status, "attempt": record.attempt, "owner": record.owner}
        changed = {} if requests is None else {"requests": requests or None}
        return self._end(record.job_id, expected, Status.FAILED, {"error": _error(error), **changed}, now)

    # ---- the end -------------------------------------------------------------------------------------------------

    def succeed(
        self,
        record: Record,
        outputs: list[dict[str, Any]],
        metrics: dict[str, Any],
        now: float,
        *,
        requests: list[Request] | None = None,
    ) -> Record:
        """End an attempt with its outputs. Raises Conflict if it has ended, or another attempt has begun.

        `requests` replaces the list where the cost of one was learned.
        """
        expected = {"status": Status.SUBMITTED, "attempt": record.attempt}
        values = {"outputs": outputs, "metrics": metrics, **({"requests": requests} if requests else {})}
        return self._end(record.job_id, expected, Status.SUCCEEDED, values, now)

    def fail_attempt(
        self,
        record: Record,
        error: JobError,
        metrics: dict[str, Any],
        now: float,
        *,
        requests: list[Request] | None = None,
    ) -> Record:
        """End an attempt with an error. Raises Conflict if it has ended, or another attempt has begun.

        `requests` replaces the list where the cost of one was learned.
        """
        expected = {"status": record.status, "attempt": record.attempt}
        changed = {"requests": requests} if requests else {}
        values = {"error": _error(error), "metrics": metrics, **changed}
        return self._end(record.job_id, expected, Status.FAILED, values, now)

    def notified(self, record: Record, now: float, *, rescue: bool = False) -> None:
        """Write down that an attempt's end was notified. The record's time to live runs from here.

        `rescue`: pictures that may still be at the provider are to be fetched later.
        """
        expires = {"expires_at": int(now + self._retention_days * DAY)} if self._retention_days else {}
        kept = rescue and record.rescuable and now < kept_until(record)
        index = {"unfinished": RESCUE, "unfinished_at": rfc3339(now)} if kept else FINISHED
        values = {"notified_at": rfc3339(now), **index, **expires}
        self._update(record.job_id, {"attempt": record.attempt}, values)

    def published(self, record: Record, channels: list[str]) -> None:
        """Write down the channels through which a notification went out, where another one is left."""
        expected = {"status": record.status} | ({"attempt": record.attempt} if record.ended else {})
        self._update(record.job_id, expected, {"published": channels})

    def rescue_at(self, record: Record, at: float | None) -> None:
        """Let the sweep try to rescue a failed job's pictures at a time (seconds since the epoch), or never again."""
        index = FINISHED if at is None else {"unfinished": RESCUE, "unfinished_at": rfc3339(at)}
        self._update(record.job_id, {"status": Status.FAILED, "attempt": record.attempt}, index)

    def adopt_late(self, record: Record, request: Request, request_id: str, now: float) -> Record:
        """Give a failed job the request id of a request of unknown outcome that turned up in the history.

        The sweep then fetches its pictures. Raises Conflict if the job has changed, or has another request's id.
        """
        requests = record.with_fate(request, Fate.ACCEPTED, request_id=request_id, not_found_at=None)
        expected = {"status": Status.FAILED, "attempt": record.attempt, "requests": record.requests, "request_id": None}
        index = {"unfinished": RESCUE, "unfinished_at": rfc3339(now)}
        values = {"requests": requests, "request_id": request_id, "adopted": True, **index}
        return self._update(record.job_id, expected, values)

    def next_attempt(self, record: Record) -> int:
        """The number that a further attempt of a job gets."""
        return max(record.attempt, self._highest_attempt(record.job_id)) + 1

    def rescued(
        self,
        record: Record,
        attempt: int,
        outputs: list[dict[str, Any]],
        metrics: dict[str, Any],
        now: float,
        *,
        requests: list[Request],
    ) -> Record:
        """Let a failed job succeed as a new attempt, of the number that `next_attempt` gave, which sent no request.

        Raises Conflict if another attempt has begun.
        """
        self.use_attempt(replace(record, attempt=attempt))
        return self._update(
            record.job_id,
            {"status": Status.FAILED, "attempt": record.attempt},
            {
                **dict.fromkeys(("error", "errors", "reason", "notified_at", "published", "expires_at")),
                "status": Status.SUCCEEDED,
                "attempt": attempt,
                "outputs": outputs,
                "metrics": metrics,
                "requests": requests,
                "unfinished": ENDED_UNSENT,
                "unfinished_at": rfc3339(now),
                "completed_at": rfc3339(now),
                "updated_at": rfc3339(now),
            },
        )

    def alerted(self, record: Record, now: float) -> None:
        """Write down that it was notified what uploads wait for."""
        self._update(record.job_id, {"status": Status.WAITING}, {"alerted_at": rfc3339(now)})

    def new_attempt(
        self,
        record: Record,
        wish: str,
        now: float,
        *,
        place: Mapping[str, Any],
        inputs: Mapping[str, Input] | None = None,
        error: JobError | None = None,
        buy_again: bool = False,
    ) -> Record:
        """Queue a failed job again at a `place` (line/places.py) as its next attempt, or end that at once with `error`.

        `wish` is the id of the message that asked for it; each makes one attempt. `inputs` replaces those of the
        record. What the history did not have or could not say before is asked again. Raises Conflict if another attempt
        has begun.
        """
        status = Status.FAILED if error else Status.QUEUED
        unsent = {"unfinished": ENDED_UNSENT, "unfinished_at": rfc3339(now)}
        end = {"error": _error(error), "completed_at": rfc3339(now), **unsent} if error else {**FINISHED, **place}
        asked_again = [
            replace(found, fate=Fate.UNKNOWN, history_page=1)
            if found.fate in (*MAY_EXIST, Fate.ABSENT, Fate.UNRESOLVED)
            else found
            for found in record.requests
        ]
        return self._update(
            record.job_id,
            {"status": Status.FAILED, "attempt": record.attempt},
            {
                **dict.fromkeys(OF_ONE_ATTEMPT),
                **end,
                **({"inputs": _inputs(inputs)} if inputs else {}),
                "status": status,
                "attempt": max(record.attempt, self._highest_attempt(record.job_id)) + 1,
                "requests": asked_again or None,
                "wishes": [*record.wishes, wish],
                "buy_again": buy_again or None,
                "updated_at": rfc3339(now),
            },
        )

    def unfinished(self, kind: str, before: float) -> Iterator[str]:
        """The ids of the records of a kind (PAID, ENDED_UNSENT, INCOMPLETE) that are there since before a time."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=UNFINISHED_INDEX,
            KeyConditionExpression="unfinished = :kind AND unfinished_at <= :before",
            ExpressionAttributeValues={":kind": {"S": kind}, ":before": {"S": rfc3339(before)}},
        )
        for page in pages:
            for item in page["Items"]:
                yield item["job_id"]["S"]

    def check_later(self, record: Record, at: float) -> None:
        """Let the sweep check an unfinished record after those of its kind that are due before `at` (seconds since the
        epoch)."""
        self._update(record.job_id, {"status": record.status, "notified_at": None}, {"unfinished_at": rfc3339(at)})

    def not_found(self, record: Record, now: float) -> float:
        """Write down that the provider does not know the request id; return when that was first seen."""
        request = next(found for found in reversed(record.requests) if found.request_id == record.request_id)
        if request.not_found_at is None:
            self.learned(record, record.with_fate(request, request.fate, not_found_at=now), now)
        return now if request.not_found_at is None else request.not_found_at

    def _end(
        self, job_id: str, expected: Mapping[str, Any], status: Status, values: Mapping[str, Any], now: float
    ) -> Record:
        return self._update(
            job_id,
            expected,
            {
                **NOT_QUEUED,
                "status": status,
                "completed_at": rfc3339(now),
                "updated_at": rfc3339(now),
                **values,
            },
            defaults={"unfinished": ENDED_UNSENT, "unfinished_at": rfc3339(now)},
        )

    # ---- the table -----------------------------------------------------------------------------------------------

    def _highest_attempt(self, job_id: str) -> int:
        return int(self._get(attempts_id(job_id)).get("highest", {"N": "0"})["N"])

    def _get(self, key: str) -> dict[str, Any]:
        response = self._dynamodb.get_item(TableName=self._table, Key={"job_id": {"S": key}}, ConsistentRead=True)
        return dict(response.get("Item", {}))

    def _update(
        self,
        job_id: str,
        expected: Mapping[str, Any] | None,
        values: Mapping[str, Any],
        defaults: Mapping[str, Any] | None = None,
    ) -> Record:
        """One conditional write. A value of None removes the attribute; an expected None is one that is not there."""
        names: dict[str, str] = {}
        arguments: dict[str, Any] = {}

        def name(attribute: str) -> str:
            names[f"#{attribute}"] = attribute
            return f"#{attribute}"

        def argument(kind: str, attribute: str, value: object) -> str:
            arguments[f":{kind}_{attribute}"] = serialize(attribute, value)
            return f":{kind}_{attribute}"

        sets = [f"{name(key)} = {argument('set', key, value)}" for key, value in values.items() if value is not None]
        sets += [
            f"{name(key)} = if_not_exists({name(key)}, {argument('default', key, value)})"
            for key, value in (defaults or {}).items()
        ]
        removes = [name(key) for key, value in values.items() if value is None]
        expression = f"SET {', '.join(sets)}" if sets else ""
        expression += f" REMOVE {', '.join(removes)}" if removes else ""
        conditions = [
            f"attribute_not_exists({name(key)})" if value is None else f"{name(key)} = {argument('is', key, value)}"
            for key, value in (expected or {}).items()
        ]
        request: dict[str, Any] = {"ConditionExpression": " AND ".join(conditions)} if conditions else {}
        try:
            response = self._dynamodb.update_item(
                TableName=self._table,
                Key={"job_id": {"S": job_id}},
                UpdateExpression=expression.strip(),
                ExpressionAttributeNames=names,
                ExpressionAttributeValues=arguments,
                ReturnValues="ALL_NEW",
                **request,
            )
        except ClientError as exc:
            if not _is_conflict(exc):
                raise
            item = self._get(job_id)
            if not item or not _is_applied(item, values):
                raise Conflict(job_id) from exc
            return from_item(item)
        return from_item(response["Attributes"])


def kept_until(record: Record) -> float:
    """Until when (seconds since the epoch) the provider keeps the pictures of a job's accepted request."""
    return record.paid.sent_at + KEPT if record.paid else 0.0


def _is_applied(item: Mapping[str, Any], values: Mapping[str, Any]) -> bool:
    """Whether an item is as a write wanted it: then it was that write, whose reply was lost."""
    wanted = to_item(values)
    # DynamoDB drops zeros at the end of a number (developer guide, data types), so values are compared, not texts.
    return all(deserialize(item.get(key)) == deserialize(wanted.get(key)) for key in values)


def _deferral(code: ReasonCode, reason: str, until: float, now: float) -> dict[str, Any]:
    times = {"deferred_until": rfc3339(until), "updated_at": rfc3339(now)}
    return {"reason": reason, "reason_code": code, **times}


def _moved(record: Record, code: ReasonCode, until: float) -> dict[str, Any]:
    """The place to which a job moves that is not sent: in line if the gate is closed, else due at a time."""
    place = in_line(record.rank, record.queued_at) if code in AT_THE_GATE else due(until)
    return {**place, "send_at": None, "dispatch_number": record.dispatch_number + 1}


def _dispatched(record: Record) -> dict[str, Any]:
    """What a queued job is expected to be by the message with its dispatch number."""
    number = record.dispatch_number or None
    return {"status": Status.QUEUED, "attempt": record.attempt, "dispatch_number": number}


def _paid(now: float) -> dict[str, str]:
    return {"unfinished": PAID, "unfinished_at": rfc3339(now)}


def _inputs(inputs: Mapping[str, Input]) -> dict[str, Any]:
    return {name: found.to_dict() for name, found in inputs.items()}


def _with_prepared(inputs: Mapping[str, Any], prepared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {**stored, "prepared": prepared.get(name)} for name, stored in inputs.items()}


def _claim(claimed: Record) -> dict[str, Any]:
    return {"status": Status.SUBMITTING, "attempt": claimed.attempt, "owner": claimed.owner}


def _error(error: JobError) -> dict[str, str]:
    return {"type": error.type, "message": cut(str(error), MESSAGE_LIMIT)}


def _is_conflict(exc: ClientError) -> bool:
    return exc.response["Error"]["Code"] == "ConditionalCheckFailedException"
