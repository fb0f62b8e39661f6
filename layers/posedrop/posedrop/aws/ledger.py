"""The ledger (JobsTable): what was queued, claimed, submitted, delivered.

    WAITING ──▶ QUEUED ──▶ SUBMITTING ──▶ SUBMITTED ──▶ SUCCEEDED | FAILED
    (own key)     ▲            │                                │
                  ├────────────┘ not accepted, or a 5xx         │
                  └─────────────────────────────────────────────┘ `retry` asks for a new attempt

WAITING are uploads that are not a job yet: they have a key and a class (WaitingRecord) of their own. All other records
are those of jobs (Record).

Every change is one conditional write. Writes after a claim check the claim's owner or the attempt, so a function that
is late cannot overwrite a newer state. If a reply is lost, botocore repeats a write that was already applied, and the
condition fails. Then the item is compared with the write: if it has the written values, the write has succeeded.

The attribute `unfinished` is removed when the end is notified, so the index `unfinished` has only open records.
The item `attempts/<sha256 of the job id>` holds the highest attempt number, without names and without a time to live.
An attempt number is never reused, even after the record has expired, because execution names cannot be reused for 90
days (Step Functions API reference, StartExecution).
"""

import hashlib
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from posedrop.aws.ended_jobs import EndedJobs
from posedrop.aws.places import due, in_line
from posedrop.aws.record import Record, Status
from posedrop.aws.record_items import job_of, to_item
from posedrop.aws.record_table import (
    DAY,
    ENDED_UNSENT,
    FINISHED,
    NOT_QUEUED,
    PAID,
    Conflict,
    error_of,
    inputs_of,
    is_conflict,
)
from posedrop.aws.waiting_uploads import WaitingUploads
from posedrop.contract.errors import InvalidInput, JobError
from posedrop.contract.job import Input, Job
from posedrop.contract.reasons import AT_THE_GATE, InputFault, Problem, ReasonCode
from posedrop.contract.times import rfc3339
from posedrop.segmind.requests import Request, RequestStatus

UNEXPECTED_ERRORS = 5
"""A job ends after this many unexpected errors in a row."""
CANCELLED = InvalidInput(Problem("cancelled", InputFault.CANCELLED))
"""The error of a cancelled job."""


class Ledger(WaitingUploads, EndedJobs):
    """The records of all jobs, and of uploads that are not a job yet. `retention_days` 0 keeps records forever.

    Raises Conflict if a condition is false. Other errors of DynamoDB pass as botocore's ClientError.
    """

    # ---- before the request --------------------------------------------------------------------------------------

    def queue(self, job: Job, place: Mapping[str, Any], now: float) -> Record:
        """Write the record of a new job at a `place` (aws/places.py). If the job has a record, return that instead."""
        return self._create(job, now, status=Status.QUEUED, **place)

    def refuse(self, job: Job, error: JobError, now: float, *, cancelled: bool = False) -> Record:
        """Write the record of a job that ends unsent. If the job has a record, return that instead."""
        ended = {"status": Status.FAILED, "error": error_of(error), "completed_at": now}
        unsent = {"unfinished": ENDED_UNSENT, "unfinished_at": now, "cancelled": cancelled or None}
        return self._create(job, now, **ended, **unsent)

    def _create(self, job: Job, now: float, **values: Any) -> Record:
        item = {
            "job_id": job.job_id,
            "bucket": job.bucket,
            "character": job.character,
            "pose": job.pose,
            "attempt": self._highest_attempt(job.job_id) + 1,
            "day": rfc3339(now)[:10],
            "created_at": now,
            "updated_at": now,
            "inputs": inputs_of(job.inputs),
            "parameters": job.parameters,
            "context": job.context,
            **values,
        }
        try:
            self._dynamodb.put_item(
                TableName=self._table, Item=to_item(item), ConditionExpression="attribute_not_exists(job_id)"
            )
        except ClientError as exc:
            if not is_conflict(exc):
                raise
            record = self.get(job.job_id)
            if record is None:
                raise Conflict(job.job_id) from exc
            return record
        return job_of(to_item(item))

    def renew_inputs(self, record: Record, inputs: Mapping[str, Input], now: float) -> Record:
        """Replace a queued job's inputs by newer versions with the same content, because old versions may expire."""
        expected = {"status": Status.QUEUED, "attempt": record.attempt}
        return self._update(record.job_id, expected, {"inputs": inputs_of(inputs), "updated_at": now})

    def defer(self, record: Record, code: ReasonCode, reason: str, until: float, now: float) -> None:
        """Record why a queued job is deferred, and until when (seconds since the epoch). Its message stays valid."""
        self._update(record.job_id, _dispatched(record), {**_deferral(code, reason, until, now), "errors": None})

    def put_back(self, record: Record, code: ReasonCode, reason: str, until: float, now: float) -> None:
        """Record why a dispatched job is not sent. Put it back in line or make it due at `until`; void its message."""
        values = {**_moved(record, code, until), **_deferral(code, reason, until, now), "errors": None}
        self._update(record.job_id, _dispatched(record), values)

    def cancel(self, record: Record, now: float) -> Record:
        """End a queued job that was not sent, and void its message. Raises Conflict if the record has changed."""
        expected = {**_dispatched(record), "requests": record.requests or None}
        values = {"error": error_of(CANCELLED), "cancelled": True, "dispatch_number": record.dispatch_number + 1}
        return self._end(record.job_id, expected, Status.FAILED, values, now)

    def count_error(self, record: Record, text: str, now: float) -> Record:
        """Count an unexpected error of an attempt. Raises Conflict if the record has changed."""
        return self._update(
            record.job_id,
            {"status": record.status, "attempt": record.attempt, "errors": record.errors or None},
            {"updated_at": now, "reason": text, "errors": record.errors + 1},
        )

    # ---- the claim and after it ----------------------------------------------------------------------------------

    def claim(
        self,
        record: Record,
        owner: str,
        charged_usd: float,
        now: float,
        prepared: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Record:
        """Claim a queued job for one request. `charged_usd` is what the budget was charged for it (USD).

        `prepared` are the prepared pictures that are sent instead of the uploads, by "face" and "pose"
        (contract/prepared.py). Raises Conflict if the record has changed.
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
                "updated_at": now,
                **({"inputs": _with_prepared(record.inputs, prepared)} if prepared else {}),
            },
        )

    def release(
        self, claimed: Record, code: ReasonCode, reason: str, until: float, now: float, **changes: Any
    ) -> Record:
        """Put a claimed job back in the queue. The provider did not accept its request, so it leaves the list."""
        values = {**_moved(claimed, code, until), **_deferral(code, reason, until, now), **changes}
        return self._release(claimed, claimed.requests[:-1], values)

    def release_after_fault(self, claimed: Record, reason: str, until: float, now: float) -> Record:
        """Put a claimed job back in the queue after a 5xx. Its request may exist, so it stays in the list."""
        requests = claimed.with_status(claimed.claimed, RequestStatus.SERVER_FAULT)
        code = ReasonCode.SERVER_FAULT
        return self._release(claimed, requests, {**_moved(claimed, code, until), **_deferral(code, reason, until, now)})

    def _release(self, claimed: Record, requests: list[Request], values: Mapping[str, Any]) -> Record:
        queued = {"status": Status.QUEUED, **FINISHED, "owner": None, "requests": requests or None}
        return self._update(claimed.job_id, _claim(claimed), {**queued, **values})

    def mark_outcome_unknown(self, claimed: Record, reason: str, now: float) -> Record:
        """Record that the provider may have accepted the request. The history is checked before the job fails."""
        requests = claimed.with_status(claimed.claimed, RequestStatus.UNKNOWN)
        values = {"requests": requests, "reason": reason, "updated_at": now}
        return self._update(claimed.job_id, _claim(claimed), values)

    def submitted(self, claimed: Record, request_id: str, now: float) -> Record:
        """Record the request id of a claimed job."""
        requests = claimed.with_status(claimed.claimed, RequestStatus.ACCEPTED, request_id=request_id)
        return self._submitted(claimed.job_id, _claim(claimed), requests, request_id, now)

    def adopt(self, record: Record, request: Request, request_id: str, now: float) -> Record:
        """Record that a queued job continues with an earlier request."""
        requests = record.with_status(request, RequestStatus.ACCEPTED, request_id=request_id, not_found_at=None)
        expected = {"status": Status.QUEUED, "attempt": record.attempt, "requests": record.requests}
        return self._submitted(record.job_id, expected, requests, request_id, now, **_paid(now))

    def learned(self, record: Record, requests: list[Request], now: float) -> Record:
        """Record what was found out about earlier requests, so that the next invocation need not search again."""
        expected = {"status": record.status, "attempt": record.attempt, "requests": record.requests}
        return self._update(record.job_id, expected, {"requests": requests, "updated_at": now})

    def not_found(self, record: Record, now: float) -> float:
        """Record that the provider does not know the request id. Return when this was first seen."""
        request = next(found for found in reversed(record.requests) if found.request_id == record.request_id)
        if request.not_found_at is None:
            self.learned(record, record.with_status(request, request.status, not_found_at=now), now)
        return now if request.not_found_at is None else request.not_found_at

    def own_request_id(self, record: Record, request_id: str, now: float) -> bool:
        """Reserve a request id for this job and attempt. Return False if it belongs to another job or attempt.

        The item `request/<request id>` has no job's name, and expires when the provider no longer keeps the request.
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
            if not is_conflict(exc):
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
                "submitted_at": now,
                "updated_at": now,
            },
        )

    def fail(self, record: Record, error: JobError, now: float, *, requests: list[Request] | None = None) -> Record:
        """End a queued or claimed job with an error. Raises Conflict if the record has changed.

        `requests` is the new list of requests, without the last one if the provider refused it.
        """
        expected = {"status": record.status, "attempt": record.attempt, "owner": record.owner}
        changed = {} if requests is None else {"requests": requests or None}
        return self._end(record.job_id, expected, Status.FAILED, {"error": error_of(error), **changed}, now)


def _deferral(code: ReasonCode, reason: str, until: float, now: float) -> dict[str, Any]:
    times = {"deferred_until": until, "updated_at": now}
    return {"reason": reason, "reason_code": code, **times}


def _moved(record: Record, code: ReasonCode, until: float) -> dict[str, Any]:
    """Return the attributes of a job that is put back: in line if the gate is closed, else due at a time."""
    place = in_line(record.rank, record.queued_at) if code in AT_THE_GATE else due(until)
    return {**place, "send_at": None, "dispatch_number": record.dispatch_number + 1}


def _dispatched(record: Record) -> dict[str, Any]:
    """Return the attributes that a queued job must still have for its message to count."""
    number = record.dispatch_number or None
    return {"status": Status.QUEUED, "attempt": record.attempt, "dispatch_number": number}


def _paid(now: float) -> dict[str, Any]:
    return {"unfinished": PAID, "unfinished_at": now}


def _with_prepared(inputs: Mapping[str, Any], prepared: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {**stored, "prepared": prepared.get(name)} for name, stored in inputs.items()}


def _claim(claimed: Record) -> dict[str, Any]:
    return {"status": Status.SUBMITTING, "attempt": claimed.attempt, "owner": claimed.owner}
