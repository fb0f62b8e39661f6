"""One job's life: what happened when, what it made, and where to look further."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from botocore.exceptions import ClientError

from ops.errors import NotFound
from ops.explain import Explanation, Situation, explain_record
from ops.stack import Stack
from posedrop.clock import epoch, rfc3339
from posedrop.ledger import Record, Status
from posedrop.notification import incomplete, notification
from posedrop.uploads import GONE


@dataclass(frozen=True)
class Moment:
    """Something that happened at a time (RFC 3339)."""

    at: str
    what: str
    detail: str = ""


@dataclass(frozen=True)
class Execution:
    """The execution of the last attempt. `status` is None where it was not started; `url` is of the AWS console."""

    arn: str
    status: str | None
    url: str | None


@dataclass(frozen=True)
class Life:
    """All there is to say of a job. `notification` is what was told, or will be; None before the end.

    `unread` says what else there might have been to say, and why it is not known.
    """

    record: Record
    explanation: Explanation
    moments: list[Moment]
    inputs: dict[str, str]
    outputs: list[str]
    execution: Execution | None
    notification: dict[str, Any] | None
    unread: list[str]


def life(stack: Stack, job_id: str) -> Life:
    """Tell a job's life. Raises NotFound; other errors of AWS pass as botocore's ClientError."""
    record = stack.record(job_id)
    if record is None:
        raise NotFound(f"there is no job {job_id}")
    told = None
    if record.ended:
        told = notification(record)
    elif record.status is Status.WAITING:
        told = incomplete(record) if record.alerted_at else None
    uploads, unread = _uploads(stack, record)
    return Life(
        record=record,
        explanation=explain_record(record, Situation.of(stack)),
        moments=sorted([*uploads, *_moments(record)], key=lambda moment: moment.at),
        inputs={name: f"s3://{found['bucket']}/{found['key']}" for name, found in record.inputs.items()},
        outputs=[str(output["uri"]) for output in record.outputs],
        execution=_execution(stack, record),
        notification=told,
        unread=unread,
    )


def _moments(record: Record) -> list[Moment]:
    found: list[tuple[str | None, str, str]] = [
        (record.created_at, "waiting" if record.status is Status.WAITING else "queued", ", ".join(record.missing)),
        (_time(record.claimed_at), "sent", f"attempt {record.attempt}"),
        (_time(record.unknown_at), "no answer", record.reason or ""),
        (record.submitted_at, "taken", f"request {record.request_id}"),
        (_time(record.not_found_at), "unknown there", "the provider did not know the request"),
        (record.completed_at, str(record.status).lower(), (record.error or {}).get("message", "")),
        (record.notified_at, "told", "the notification was published"),
        (record.alerted_at, "told", "INCOMPLETE"),
    ]
    if record.status is Status.QUEUED and record.reason:
        found.append((record.updated_at, "held", f"{record.reason}, until {record.hold_until}"))
    return [Moment(at, what, detail) for at, what, detail in found if at]


def _uploads(stack: Stack, record: Record) -> tuple[list[Moment], list[str]]:
    """When the images came that were read, and what cannot be told of that: S3 knows as long as it has them."""
    found, unread = [], []
    for name, stored in record.inputs.items():
        version = {"VersionId": stored["version_id"]} if stored.get("version_id") else {}
        try:
            head = stack.client("s3").head_object(Bucket=stored["bucket"], Key=stored["key"], **version)
        except ClientError as exc:
            code = exc.response["Error"]["Code"]
            why = "it is not there any more" if code in GONE else f"S3 says {code}"
            unread.append(f"when the {name} was uploaded: {why}")
            continue
        found.append(Moment(rfc3339(head["LastModified"].timestamp()), f"{name} uploaded", stored["key"]))
    return found, unread


def _execution(stack: Stack, record: Record) -> Execution | None:
    if record.status in (Status.WAITING, Status.QUEUED, Status.SUBMITTING):
        return None
    arn = stack.execution_arn(record)
    url = (
        f"https://{stack.region}.console.aws.amazon.com/states/home?region={stack.region}#/v2/executions/details/{arn}"
    )
    try:
        status: str | None = stack.client("stepfunctions").describe_execution(executionArn=arn)["status"]
    except ClientError as exc:
        # They are forgotten after 90 days (AWS Step Functions developer guide, quotas).
        if exc.response["Error"]["Code"] != "ExecutionDoesNotExist":
            raise
        status = None
    return Execution(arn, status, None if stack.endpoint else url)


def _time(seconds: float | None) -> str | None:
    return rfc3339(seconds) if seconds else None


def waited(moments: Sequence[Moment], index: int) -> float:
    """Seconds between a moment and the one before it."""
    return epoch(moments[index].at) - epoch(moments[index - 1].at) if index else 0.0
