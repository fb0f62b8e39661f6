"""Dead letters one by one: say what each is about and whether redriving it helps; redrive or discard it."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from ops.act.actions import EVENT_QUEUE, attribute, queue_of, sweep, upload_event
from ops.errors import NotFound
from ops.inspect.health import depth
from ops.stack import Stack
from posedrop.aws.messages import (
    CancelMessage,
    PoseMessage,
    RetryMessage,
    SubmitMessage,
    UnreadableMessage,
    UploadMessage,
    parse_message,
)

MOST = 1_000
"""Dead letters that are read at once."""
HIDDEN = 60
"""Seconds for which they are hidden from others meanwhile; they are given back before."""
WAIT_SECONDS = 1
"""A receive that waits asks all servers of a queue."""
TOO_OFTEN = "received too often: see the log lines with its message id"
UNDELIVERED = "its target could not be reached, or failed"
DISCARD = "Redriving it will not help. Discard it."
REDRIVE = "Fix the cause, then redrive it."


@dataclass(frozen=True)
class DeadLetter:
    """One dead letter. queue: DeadLetterQueue, or EventDeadLetterQueue for what EventBridge and Lambda left there.

    about: what it says. reason: why it is a dead letter. helps: whether redriving it may help; advice: what to do.
    """

    id: str
    queue: str
    about: str
    reason: str
    helps: bool
    advice: str
    body: str
    message: dict[str, Any] = field(repr=False, compare=False, default_factory=dict)

    def told(self) -> dict[str, Any]:
        """All that is shown of it."""
        return {name: value for name, value in vars(self).items() if name != "message"}


@dataclass(frozen=True)
class Letters:
    """The dead letters that were read, and how many there are, about."""

    count: int
    letters: list[DeadLetter]


def read(stack: Stack) -> Letters:
    """Read the dead letters, MOST of each queue; they stay there. Errors of SQS pass as botocore's ClientError."""
    letters = [letter for name, url in _queues(stack) for letter in _of_queue(stack, name, url)]
    give_back(stack, letters)
    return Letters(max(sum(depth(stack, url) for _, url in _queues(stack)), len(letters)), letters)


def choose(stack: Stack, ids: Sequence[str]) -> list[DeadLetter]:
    """Find dead letters by their ids, or by how those begin, and keep them hidden from others for HIDDEN seconds.

    Raises NotFound if one of the ids is no dead letter's, or of several.
    """
    letters = [letter for name, url in _queues(stack) for letter in _of_queue(stack, name, url)]
    try:
        chosen = [_one(letters, wanted) for wanted in dict.fromkeys(ids)]
    except NotFound:
        give_back(stack, letters)
        raise
    give_back(stack, [letter for letter in letters if letter not in chosen])
    return chosen


def _one(letters: Sequence[DeadLetter], wanted: str) -> DeadLetter:
    found = [letter for letter in letters if letter.id.startswith(wanted)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise NotFound(f"there is no dead letter {wanted}")
    raise NotFound(f"{wanted} is the beginning of {len(found)} ids: say more of it")


def discard(stack: Stack, letters: Sequence[DeadLetter]) -> None:
    """Delete dead letters for good. Errors of SQS pass as botocore's ClientError."""
    for letter in letters:
        handle = letter.message["ReceiptHandle"]
        stack.client("sqs").delete_message(QueueUrl=letter.message["queue_url"], ReceiptHandle=handle)


def redrive(stack: Stack, letters: Sequence[DeadLetter]) -> None:
    """Send dead letters to the queues that they are for. What is no message of a queue's, the sweep sees to.

    Raises OpsError if that sweep failed; errors of SQS pass as botocore's ClientError.
    """
    swept = False
    for letter in letters:
        if letter.queue != EVENT_QUEUE or upload_event(letter.body):
            stack.client("sqs").send_message(
                QueueUrl=queue_of(stack, letter.message), MessageBody=letter.body, DelaySeconds=0
            )
        elif not swept:
            sweep(stack, older_than=0)
            swept = True
        discard(stack, [letter])


def give_back(stack: Stack, letters: Sequence[DeadLetter]) -> None:
    """Let others receive dead letters at once that were read and not acted on."""
    for letter in letters:
        url, handle = letter.message["queue_url"], letter.message["ReceiptHandle"]
        entry: Any = {"Id": "1", "ReceiptHandle": handle, "VisibilityTimeout": 0}
        stack.client("sqs").change_message_visibility_batch(QueueUrl=url, Entries=[entry])


def _queues(stack: Stack) -> list[tuple[str, str]]:
    """The dead-letter queues, each with its name; the events' one only where it is known."""
    events = stack.resource(EVENT_QUEUE)
    return [("DeadLetterQueue", stack.output("DeadLetterQueueUrl")), *([(EVENT_QUEUE, events)] if events else [])]


def _of_queue(stack: Stack, name: str, url: str) -> Iterator[DeadLetter]:
    seen: set[str] = set()
    while len(seen) < MOST:
        answer = stack.client("sqs").receive_message(
            QueueUrl=url,
            MaxNumberOfMessages=10,
            MessageAttributeNames=["All"],
            VisibilityTimeout=HIDDEN,
            WaitTimeSeconds=WAIT_SECONDS,
        )
        new = [message for message in answer.get("Messages", []) if message["MessageId"] not in seen]
        if not new:
            return
        seen |= {message["MessageId"] for message in new}
        yield from (_explained(stack, name, {**message, "queue_url": url}) for message in new)


def _explained(stack: Stack, queue: str, message: dict[str, Any]) -> DeadLetter:
    body = message["Body"]
    about, hopeless = (_event if queue == EVENT_QUEUE else _message)(stack, body)
    told = (attribute(message, name) for name in ("reason", "ERROR_MESSAGE", "ERROR_CODE"))
    reason = next(
        filter(None, told), TOO_OFTEN if queue != EVENT_QUEUE else "its target could not be reached, or failed"
    )
    advice = f"{hopeless} {DISCARD}" if hopeless else REDRIVE
    return DeadLetter(message["MessageId"], queue, about, reason, not hopeless, advice, body, message)


def _message(stack: Stack, body: str) -> tuple[str, str]:
    """What a message of the pipeline's is about, and why redriving it is in vain; empty where it may help."""
    try:
        message = parse_message(body)
    except UnreadableMessage as exc:
        return "no message of the pipeline's", f"No one can read it: {exc}."
    match message:
        case UploadMessage():
            return f"the upload {message.origin.key}", ""
        case PoseMessage():
            return f"{message.pose or 'all poses'} of {message.character}", ""
        case SubmitMessage(job_id):
            return f"the job {job_id}", _no_job(stack, job_id)
        case RetryMessage(job_id):
            return f"a new attempt of {job_id}", _no_job(stack, job_id)
        case CancelMessage(job_id):
            return f"cancelling {job_id}", ""
    return "a message of another kind", ""


def _no_job(stack: Stack, job_id: str) -> str:
    return "" if stack.record(job_id) else "There is no such job."


def _event(stack: Stack, body: str) -> tuple[str, str]:
    """What an event is about that was not delivered. The sweep sees to all but uploads, so none is hopeless."""
    if upload_event(body):
        return _message(stack, body)
    try:
        event = json.loads(body)
        return f"the end of the execution {event['detail']['name']}", ""
    except (ValueError, KeyError, TypeError):
        return "a run of a function that failed", ""
