"""The ledger's writes for the end of a job, for the rescue of its images, and for its next attempt."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

from posedrop.aws.record import OF_ONE_ATTEMPT, AnyRecord, Record, Status
from posedrop.aws.record_table import (
    DAY,
    ENDED_UNSENT,
    FINISHED,
    RESCUE,
    UNFINISHED_INDEX,
    RecordTable,
    error_of,
    inputs_of,
)
from posedrop.contract.errors import JobError
from posedrop.contract.job import Input
from posedrop.contract.times import rfc3339
from posedrop.segmind.requests import MAY_EXIST, Request, RequestStatus


class EndedJobs(RecordTable):
    """The part of the ledger that ends attempts and begins new ones."""

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

        `requests` is the new list of requests if the cost of one is now known.
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

        `requests` is the new list of requests if the cost of one is now known.
        """
        expected = {"status": record.status, "attempt": record.attempt}
        changed = {"requests": requests} if requests else {}
        values = {"error": error_of(error), "metrics": metrics, **changed}
        return self._end(record.job_id, expected, Status.FAILED, values, now)

    def notified(self, record: Record, now: float, *, rescue: bool = False, lacks_result: bool = False) -> None:
        """Record that an attempt's end was notified. The record's time to live begins now.

        `rescue`: the sweep should later fetch pictures that the provider may still keep. `lacks_result`: result.json
        could not be stored, and the sweep should have it stored later.
        """
        expires = {"expires_at": int(now + self._retention_days * DAY)} if self._retention_days else {}
        kept = rescue and record.rescuable and now < record.images_kept_until
        index = {"unfinished": RESCUE, "unfinished_at": now} if kept or lacks_result else FINISHED
        values = {"notified_at": now, **index, **expires}
        self._update(record.job_id, {"attempt": record.attempt}, values)

    def published(self, record: Record, channels: list[str]) -> None:
        """Record the channels that have published an attempt's notification, while others have not."""
        expected = {"status": record.status, "attempt": record.attempt}
        self._update(record.job_id, expected, {"published": channels})

    def rescue_at(self, record: Record, at: float | None) -> None:
        """Schedule when the sweep fetches what an ended job lacks (seconds since the epoch), or None for never."""
        index = FINISHED if at is None else {"unfinished": RESCUE, "unfinished_at": at}
        self._update(record.job_id, {"status": record.status, "attempt": record.attempt}, index)

    def adopt_late(self, record: Record, request: Request, request_id: str, now: float) -> Record:
        """Write the request id into a failed job, after its request of unknown outcome was found in the history.

        The sweep then fetches its pictures. Raises Conflict if the job has changed, or has another request's id.
        """
        requests = record.with_status(request, RequestStatus.ACCEPTED, request_id=request_id, not_found_at=None)
        expected = {"status": Status.FAILED, "attempt": record.attempt, "requests": record.requests, "request_id": None}
        index = {"unfinished": RESCUE, "unfinished_at": now}
        values = {"requests": requests, "request_id": request_id, "adopted": True, **index}
        return self._update(record.job_id, expected, values)

    def next_attempt(self, record: Record) -> int:
        """Return the number of a job's next attempt."""
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
        """End a failed job as succeeded, with a new attempt that sent no request. `attempt` is from `next_attempt`.

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
                "unfinished_at": now,
                "completed_at": now,
                "updated_at": now,
            },
        )

    def new_attempt(
        self,
        record: Record,
        message_id: str,
        now: float,
        *,
        place: Mapping[str, Any],
        inputs: Mapping[str, Input] | None = None,
        error: JobError | None = None,
        buy_again: bool = False,
    ) -> Record:
        """Begin the next attempt of a failed job: queue it at a `place` (aws/places.py), or end it at once with
        `error`.

        `message_id` names the message that asked for the attempt. Each message makes one attempt. `inputs` replaces the
        record's inputs. Requests that the history did not have or could not decide are searched for again. Raises
        Conflict if another attempt has begun.
        """
        status = Status.FAILED if error else Status.QUEUED
        unsent = {"unfinished": ENDED_UNSENT, "unfinished_at": now}
        end = {"error": error_of(error), "completed_at": now, **unsent} if error else {**FINISHED, **place}
        asked_again = [
            replace(found, status=RequestStatus.UNKNOWN, history_page=1)
            if found.status in (*MAY_EXIST, RequestStatus.ABSENT, RequestStatus.UNRESOLVED)
            else found
            for found in record.requests
        ]
        return self._update(
            record.job_id,
            {"status": Status.FAILED, "attempt": record.attempt},
            {
                **dict.fromkeys(OF_ONE_ATTEMPT),
                **end,
                **({"inputs": inputs_of(inputs)} if inputs else {}),
                "status": status,
                "attempt": max(record.attempt, self._highest_attempt(record.job_id)) + 1,
                "requests": asked_again or None,
                "retry_messages": [*record.retry_messages, message_id],
                "buy_again": buy_again or None,
                "updated_at": now,
            },
        )

    def unfinished(self, kind: str, before: float) -> Iterator[str]:
        """Yield the ids of unfinished records of a kind (PAID, ENDED_UNSENT, INCOMPLETE, RESCUE) from before a time."""
        pages = self._dynamodb.get_paginator("query").paginate(
            TableName=self._table,
            IndexName=UNFINISHED_INDEX,
            KeyConditionExpression="unfinished = :kind AND unfinished_at <= :before",
            ExpressionAttributeValues={":kind": {"S": kind}, ":before": {"S": rfc3339(before)}},
        )
        for page in pages:
            for item in page["Items"]:
                yield item["job_id"]["S"]

    def check_later(self, record: AnyRecord, at: float) -> None:
        """Move an unfinished record back in the sweep's order, to the time `at` (seconds since the epoch)."""
        self._write(record.job_id, {"status": record.status, "notified_at": None}, {"unfinished_at": at})
