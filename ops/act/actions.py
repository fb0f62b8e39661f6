"""What sets things going again: new attempts, dead letters, the sweep."""

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
"""What the dead letters of SubmitQueue name as their source."""


# ---- new attempts ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Retry:
    """A new attempt of a failed job. `usd` is what it costs at most: a result that is still there is not paid again.

    `makes` is the job that begins, with its attempt: another one where the files have changed since it failed unsent.
    """

    job_id: str
    makes: str
    attempt: int
    error_type: str
    error_message: str
    usd: float


def plan_retries(stack: Stack, job_ids: Sequence[str]) -> list[Retry]:
    """The attempts that would begin. Raises NotFound, and Refused for a job whose new attempt would be in vain."""
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
    """The id of the job that a folder's files make now. Raises Refused where they make none, or one that is known."""
    found = plan_pose(stack, record.character, record.pose)
    if found.outcome is Outcome.WAITING:
        lacks = " and ".join(f"a {what}" for what in found.missing)
        raise Refused(f"{record.job_id} lacks {lacks}: upload that instead")
    if found.outcome is Outcome.REFUSED or found.job_id is None:
        raise Refused(f"{record.job_id} would fail again: {found.error}; fix the file first, then retry or upload it")
    if found.outcome is Outcome.KNOWN and found.job_id != record.job_id:
        raise Refused(f"the files of {record.job_id} have changed: they are {found.job_id}, which is {found.status}")
    return found.job_id


def retry(stack: Stack, planned: Sequence[Retry], *, buy_again: bool = False) -> None:
    """Ask for new attempts. Errors of SQS pass as botocore's ClientError.

    `buy_again`: pay although an earlier request may have been accepted, where the provider's history cannot say.
    """
    for wanted in planned:
        message = RetryMessage(wanted.job_id, buy_again)
        stack.client("sqs").send_message(
            QueueUrl=stack.output("UploadQueueUrl"), MessageBody=message.to_json(), DelaySeconds=0
        )


# ---- dead letters ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class DeadLetters:
    """What is in the dead-letter queue: how many messages, and some of them, with reason and source where known."""

    count: int
    some: list[dict[str, str]]


def dead_letters(stack: Stack) -> DeadLetters:
    """Look into the dead-letter queue; what is seen stays there. Errors of SQS pass as botocore's ClientError."""
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
    """Move all dead letters back to the queues that they are for, and return how many there were."""
    sqs, source = stack.client("sqs"), stack.output("DeadLetterQueueUrl")
    moved = 0
    # What cannot be read is dead-lettered again: only messages that are there at the beginning are moved.
    left = _visible(sqs, source)
    while moved < left and (messages := _receive(sqs, source, min(10, left - moved))):
        for message in messages:
            sqs.send_message(QueueUrl=queue_of(stack, message), MessageBody=message["Body"], DelaySeconds=0)
            sqs.delete_message(QueueUrl=source, ReceiptHandle=message["ReceiptHandle"])
        moved += len(messages)
    return moved


def queue_of(stack: Stack, message: dict[str, Any]) -> str:
    """The queue that a dead letter is for; one that cannot be read goes back to where it came from."""
    try:
        submits = isinstance(parse_message(message["Body"]), SubmitMessage)
    except UnreadableMessage:
        submits = _attribute(message, "source") == SUBMITS
    return stack.output("SubmitQueueUrl" if submits else "UploadQueueUrl")


def undelivered(stack: Stack) -> int:
    """How many events could not be delivered. 0 too where their queue is not known."""
    url = stack.resource(EVENT_QUEUE)
    return depth(stack, url) if url else 0


def redrive_events(stack: Stack) -> int:
    """See to the events that could not be delivered, and return how many there were. Raises OpsError if a sweep failed.

    Uploads go to the upload queue; all else the sweep finds in the ledger.
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
    """The message itself if it is an upload's event, as EventBridge leaves it."""
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
    """Sweep now, and return how many records of each status were resumed.

    What nobody has changed for `older_than` seconds counts as stuck; None leaves that to the sweep. Raises OpsError if
    it failed.
    """
    event = {} if older_than is None else {"ages": dict.fromkeys(Ages.__dataclass_fields__, older_than)}
    response = stack.client("lambda").invoke(
        FunctionName=stack.output("SweepFunctionName"), Payload=json.dumps(event).encode()
    )
    counts = json.loads(response["Payload"].read() or b"null")
    if response.get("FunctionError"):
        raise OpsError(f"the sweep failed: {(counts or {}).get('errorMessage', response['FunctionError'])}")
    return {str(status): int(count) for status, count in counts.items()}
