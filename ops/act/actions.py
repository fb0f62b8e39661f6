"""Resume work on a stack: new attempts, dead letters, the sweep."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ops.errors import OpsError, Refused
from ops.inspect.health import depth
from ops.inspect.plan import Outcome, plan_pose
from ops.inspect.suggestions import no_job
from ops.stack import Stack
from posedrop.aws.messages import RetryMessage, SubmitMessage, UnreadableMessage, parse_message
from posedrop.aws.record import Record, Status
from posedrop.sweep.sweeper import Ages

VISIBLE = "ApproximateNumberOfMessages"
EVENT_QUEUE = "EventDeadLetterQueue"
PEEK = 10
SUBMITS = "submits"
"""The `source` attribute of dead letters from SubmitQueue."""


# ---- new attempts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Retry:
    """A new attempt of a failed job. `usd` is the maximum cost: a result that still exists is not paid again.

    `makes` is the job that begins, with its attempt: another job if the files have changed since it failed unsent.
    """

    job_id: str
    makes: str
    attempt: int
    error_type: str
    error_message: str
    usd: float


def plan_retries(stack: Stack, job_ids: Sequence[str]) -> list[Retry]:
    """Return the attempts that would begin. Raises NotFound, and Refused for a job that a new attempt cannot help."""
    prices = stack.prices()
    return [_retry(stack, job_id, prices) for job_id in dict.fromkeys(job_ids)]


def _retry(stack: Stack, job_id: str, prices: Callable[[Mapping[str, Any]], float]) -> Retry:
    record = stack.record(job_id)
    if record is None:
        raise no_job(stack, job_id)
    if record.status is not Status.FAILED:
        raise Refused(f"{job_id} has not failed: it is {record.status}")
    error = record.error or {"type": "InternalError", "message": ""}
    makes = _read_again(stack, record) if record.failed_unsent else job_id
    attempt = record.attempt + 1 if makes == job_id else 1
    return Retry(job_id, makes, attempt, error["type"], error["message"], prices(record.parameters))


def _read_again(stack: Stack, record: Record) -> str:
    """Return the id of the job that a folder's files make now.

    Raises Refused if they make no job, or one that exists already.
    """
    found = plan_pose(stack, record.character, record.pose)
    if found.outcome is Outcome.WAITING:
        lacks = " and ".join(f"a {what}" for what in found.missing)
        raise Refused(f"{record.job_id} lacks {lacks}: upload that instead")
    if found.outcome is Outcome.REFUSED or found.job_id is None:
        raise Refused(f"{record.job_id} would fail again: {found.error}; fix the file first, then retry or upload it")
    if found.outcome is Outcome.KNOWN and found.job_id != record.job_id:
        raise Refused(f"the files of {record.job_id} have changed: they make {found.job_id}, which is {found.status}")
    return found.job_id


def retry(stack: Stack, planned: Sequence[Retry], *, buy_again: bool = False) -> None:
    """Start new attempts. Errors of SQS pass as botocore's ClientError.

    `buy_again`: pay even if an earlier request may have been accepted and the provider's history cannot say.
    """
    for wanted in planned:
        message = RetryMessage(wanted.job_id, buy_again)
        stack.client("sqs").send_message(
            QueueUrl=stack.output("UploadQueueUrl"), MessageBody=message.to_json(), DelaySeconds=0
        )


# ---- dead letters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeadLetters:
    """The dead-letter queue: the number of its messages, and some of them, with reason and source if known."""

    count: int
    some: list[dict[str, str]]


def dead_letters(stack: Stack) -> DeadLetters:
    """Return the messages in the dead-letter queue; they stay there. Errors of SQS pass as botocore's ClientError."""
    url = stack.output("DeadLetterQueueUrl")
    seen = {
        message["MessageId"]: {
            "body": message["Body"],
            "reason": _attribute(message, "reason"),
            "source": _attribute(message, "source"),
        }
        for message in _receive(stack.client("sqs"), url, PEEK, VisibilityTimeout=0)
    }
    return DeadLetters(max(depth(stack, url), len(seen)), list(seen.values()))


def redrive(stack: Stack) -> int:
    """Send all dead letters back to their queues, and return how many there were."""
    sqs, source = stack.client("sqs"), stack.output("DeadLetterQueueUrl")
    moved = 0
    # An unreadable message becomes a dead letter again. So only the messages that are there at the beginning are sent.
    left = _visible(sqs, source)
    while moved < left and (messages := _receive(sqs, source, min(10, left - moved))):
        for message in messages:
            sqs.send_message(QueueUrl=queue_of(stack, message), MessageBody=message["Body"], DelaySeconds=0)
            sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
        moved += len(messages)
    return moved


def queue_of(stack: Stack, message: dict[str, Any]) -> str:
    """Return the queue that a dead letter belongs to. An unreadable one goes back to the queue it came from."""
    try:
        submits = isinstance(parse_message(message["Body"]), SubmitMessage)
    except UnreadableMessage:
        submits = _attribute(message, "source") == SUBMITS
    return stack.output("SubmitQueueUrl" if submits else "UploadQueueUrl")


def undelivered(stack: Stack) -> int:
    """Return how many events could not be delivered; 0 if their queue is unknown."""
    url = stack.resource(EVENT_QUEUE)
    return depth(stack, url) if url else 0


def redrive_events(stack: Stack) -> int:
    """Handle the events that could not be delivered, and return how many there were. Raises OpsError if a sweep failed.

    Uploads are sent to the upload queue. For all other events the sweep finds the job in the ledger.
    """
    sqs, url = stack.client("sqs"), stack.resource(EVENT_QUEUE)
    done: list[dict[str, Any]] = []
    swept = False
    left = _visible(sqs, url)
    while len(done) < left and (messages := _receive(sqs, url, 10)):
        for message in messages:
            upload = _upload(message["Body"])
            if upload:
                sqs.send_message(QueueUrl=stack.output("UploadQueueUrl"), MessageBody=upload)
            elif not swept:
                sweep(stack, older_than=0)
                swept = True
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        done += messages
    return len(done)


def _upload(body: str) -> str | None:
    """Return the message if it is the event of an upload as EventBridge sends it, else None."""
    try:
        event = json.loads(body)
    except ValueError:
        return None
    return body if isinstance(event, dict) and event.get("detail-type") == "Object Created" else None


def _visible(sqs: Any, url: str | None) -> int:
    return int(sqs.get_queue_attributes(QueueUrl=url, AttributeNames=[VISIBLE])["Attributes"][VISIBLE])


def _receive(sqs: Any, url: str | None, most: int, **arguments: Any) -> list[dict[str, Any]]:
    response = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=most, MessageAttributeNames=["All"], **arguments)
    found: list[dict[str, Any]] = response.get("Messages", [])
    return found


def _attribute(message: dict[str, Any], name: str) -> str:
    text: str = message.get("MessageAttributes", {}).get(name, {}).get("StringValue", "")
    return text


# ---- the sweep -------------------------------------------------------------------------------------------------------


def sweep(stack: Stack, older_than: float | None = None) -> dict[str, int]:
    """Run the sweep now, and return how many records of each status were resumed.

    Records that have not changed for `older_than` seconds are stuck; None uses the sweep's own ages. Raises OpsError if
    the sweep failed.
    """
    event = {} if older_than is None else {"ages": dict.fromkeys(Ages.__dataclass_fields__, older_than)}
    response = stack.client("lambda").invoke(
        FunctionName=stack.output("SweepFunctionName"), Payload=json.dumps(event).encode()
    )
    counts = json.loads(response["Payload"].read() or b"null")
    if response.get("FunctionError"):
        raise OpsError(f"the sweep failed: {(counts or {}).get('errorMessage', response['FunctionError'])}")
    return {str(status): int(count) for status, count in counts.items()}
