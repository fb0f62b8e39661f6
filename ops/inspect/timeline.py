"""Return the timeline of a job: what happened when, the outputs, and where to find more."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from ops.formatting import usd
from ops.inspect.explain_record import explain_record
from ops.inspect.explanation import Explanation
from ops.inspect.situation import Situation
from ops.inspect.suggestions import no_job
from ops.stack import Stack
from posedrop.aws.notifier import incomplete, notification
from posedrop.aws.record import AnyRecord, Record, Status, WaitingRecord
from posedrop.aws.stored_uploads import GONE
from posedrop.contract.times import epoch, rfc3339
from posedrop.segmind.requests import Request, RequestStatus, cost_of

REQUEST_WORDS = {
    RequestStatus.SENT: "no response yet",
    RequestStatus.ACCEPTED: "accepted",
    RequestStatus.SERVER_FAULT: "got a 5xx; the provider's history will be searched",
    RequestStatus.UNKNOWN: "got no usable response; the provider's history will be searched",
    RequestStatus.ABSENT: "the provider's history does not have it",
    RequestStatus.UNRESOLVED: "the provider's history cannot say whether it exists",
    RequestStatus.FAILED: "failed at the provider",
    RequestStatus.GONE: "the provider does not have it any more",
}
"""The outcome of a request, in words."""


@dataclass(frozen=True)
class TimelineEvent:
    """An event at a time (RFC 3339)."""

    at: str
    what: str
    detail: str = ""


@dataclass(frozen=True)
class Execution:
    """The execution of the last attempt. `status` is None if it was not started; `url` is in the AWS console."""

    arn: str
    status: str | None
    url: str | None


@dataclass(frozen=True)
class Timeline:
    """Everything about a job, or about waiting uploads.

    `notification` is what was published, or will be. It is None before a job's end, and before uploads are reported.

    `cost_usd` is the cost of all its requests, None if one of them is unknown.

    `unread` lists the missing information, with the reasons.
    """

    record: AnyRecord
    explanation: Explanation
    events: list[TimelineEvent]
    inputs: dict[str, str]
    outputs: list[str]
    execution: Execution | None
    notification: dict[str, Any] | None
    unread: list[str]
    cost_usd: float | None = None


def timeline(stack: Stack, job_id: str) -> Timeline:
    """Return the timeline of a job or of waiting uploads, by the id of the record.

    Raises NotFound; other errors of AWS pass as botocore's ClientError.
    """
    record = stack.record(job_id)
    if record is None:
        raise no_job(stack, job_id)
    explanation = explain_record(record, Situation.of(stack))
    if record.status is Status.WAITING:
        return _of_waiting(record, explanation)
    uploads, unread = _uploads(stack, record)
    return Timeline(
        record=record,
        explanation=explanation,
        events=sorted([*uploads, *_events(record)], key=lambda event: event.at),
        inputs={name: f"s3://{found['bucket']}/{found['key']}" for name, found in record.inputs.items()},
        outputs=[str(output["uri"]) for output in record.outputs],
        execution=_execution(stack, record),
        notification=notification(record).to_dict() if record.ended else None,
        unread=unread,
        cost_usd=record.cost_usd,
    )


def _of_waiting(waiting: WaitingRecord, explanation: Explanation) -> Timeline:
    events = [TimelineEvent(rfc3339(waiting.created_at), "waiting", ", ".join(waiting.missing))]
    message = None
    if waiting.alerted_at:
        events.append(TimelineEvent(rfc3339(waiting.alerted_at), "notified", "INCOMPLETE"))
        message = incomplete(waiting).to_dict()
    return Timeline(
        record=waiting,
        explanation=explanation,
        events=events,
        inputs={},
        outputs=[],
        execution=None,
        notification=message,
        unread=[],
        cost_usd=cost_of(()),
    )


def seconds_to_result(record: Record) -> float | None:
    """Return the seconds from the upload to the result, None before the end.

    For a later attempt they count from its request.
    """
    began = record.queued_at if record.attempt > 1 and record.queued_at else record.created_at
    if record.status is not Status.SUCCEEDED or not record.completed_at or not began:
        return None
    return round(record.completed_at - began, 1)


def _events(record: Record) -> list[TimelineEvent]:
    found: list[tuple[float | None, str, str]] = [
        (record.created_at, "queued", ""),
        (record.queued_at if record.attempt > 1 else None, "queued again", f"attempt {record.attempt}"),
        *(event for request in record.requests for event in _request(request)),
        (record.refused_at, "refused", "for the first time in this attempt"),
        (record.submitted_at, "accepted", f"request {record.request_id}"),
        (record.completed_at, *_end(record)),
        (record.notified_at, "notified", "the notification was published"),
    ]
    if record.status is Status.QUEUED and record.reason:
        until = f", until {rfc3339(record.deferred_until)}" if record.deferred_until else ""
        found.append((record.updated_at, "deferred", f"{record.reason}{until}"))
    return [TimelineEvent(rfc3339(at), what, detail) for at, what, detail in found if at]


def _end(record: Record) -> tuple[str, str]:
    if record.cancelled:
        return "cancelled", "before it was sent"
    return str(record.status).lower(), (record.error or {}).get("message", "")


def _request(request: Request) -> list[tuple[float | None, str, str]]:
    """Return when a request was sent, and its outcome."""
    attempt = f"attempt {request.attempt}"
    known = f" ({request.request_id})" if request.request_id else ""
    known += f", {usd(request.cost_usd)}" if request.cost_usd is not None else ""
    return [
        (request.sent_at, "sent", f"{attempt}: {REQUEST_WORDS[request.status]}{known}"),
        (request.not_found_at, "not found", f"{attempt}: the provider did not know the request"),
    ]


def _uploads(stack: Stack, record: Record) -> tuple[list[TimelineEvent], list[str]]:
    """Return when the images were uploaded, and which of these times are unknown. Only S3 has them."""
    found, unread = [], []
    for name, stored in record.inputs.items():
        version = {"VersionId": stored["version_id"]} if stored.get("version_id") else {}
        try:
            head = stack.client("s3").head_object(Bucket=stored["bucket"], Key=stored["key"], **version)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            why = "the file does not exist any more" if code in GONE else f"S3 says {code}"
            unread.append(f"when the {name} was uploaded: {why}")
            continue
        found.append(TimelineEvent(rfc3339(head["LastModified"].timestamp()), f"{name} uploaded", stored["key"]))
    return found, unread


def _execution(stack: Stack, record: Record) -> Execution | None:
    if record.status in (Status.QUEUED, Status.SUBMITTING):
        return None
    arn = stack.execution_arn(record)
    url = (
        f"https://{stack.region}.console.aws.amazon.com/states/home?region={stack.region}#/v2/executions/details/{arn}"
    )
    try:
        status: str | None = stack.client("stepfunctions").describe_execution(executionArn=arn)["status"]
    except ClientError as exc:
        # Executions are deleted after 90 days (AWS Step Functions developer guide, quotas).
        if exc.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        status = None
    return Execution(arn, status, None if stack.endpoint else url)


def waited(events: Sequence[TimelineEvent], index: int) -> float:
    """Return the seconds between an event and the one before it."""
    return epoch(events[index].at) - epoch(events[index - 1].at) if index else 0.0
