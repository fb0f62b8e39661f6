"""List single dead letters, with the reason and whether redriving helps; redrive or discard them."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from ops.act.actions import queue_of
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
from posedrop.contract.job import JOB_ID

MOST = 200
"""The most messages that are listed."""
HIDDEN_SECONDS = 20
"""Seconds for which a listed message is hidden, so that the next call receives other messages."""
BATCH = 10
"""Messages in one SQS call (API reference, ReceiveMessage)."""
SHOWN = 400
"""The most characters of a body that are shown."""


@dataclass(frozen=True)
class DeadLetter:
    """A message that could not be handled. `helps`: redriving it may help; if not, `what` says why."""

    message_id: str
    what: str
    reason: str
    helps: bool
    body: str


def list_letters(stack: Stack) -> list[DeadLetter]:
    """Return up to MOST messages of the dead-letter queue; they stay there. Errors of SQS pass as botocore's."""
    hidden = list(_hide(stack, MOST))
    try:
        return [_explained(stack, message) for message in hidden]
    finally:
        _make_visible(stack, hidden)


def redrive_letters(stack: Stack, message_ids: Iterable[str]) -> int:
    """Send some messages to their queues again, and return how many. Errors of SQS pass as botocore's."""
    sqs = stack.client("sqs")

    def send(message: dict[str, Any]) -> None:
        sqs.send_message(QueueUrl=queue_of(stack, message), MessageBody=message["Body"], DelaySeconds=0)

    return _act(stack, set(message_ids), send)


def discard_letters(stack: Stack, message_ids: Iterable[str]) -> int:
    """Delete some messages for good, and return how many. Errors of SQS pass as botocore's."""
    return _act(stack, set(message_ids), lambda message: None)


def _act(stack: Stack, wanted: set[str], act: Callable[[dict[str, Any]], object]) -> int:
    sqs, url = stack.client("sqs"), stack.output("DeadLetterQueueUrl")
    left: dict[str, dict[str, Any]] = {}
    try:
        # All of them are hidden first, so those that are not wanted must become visible again at once.
        left = {message["MessageId"]: message for message in _hide(stack, MOST)}
        found = [message_id for message_id in left if message_id in wanted]
        for message_id in found:
            act(left[message_id])
            sqs.delete_message(QueueUrl=url, ReceiptHandle=left[message_id]["ReceiptHandle"])
            del left[message_id]
        return len(found)
    finally:
        _make_visible(stack, left.values())


def _hide(stack: Stack, most: int) -> Iterator[dict[str, Any]]:
    """Yield each message once, and hide them from other readers for a while."""
    seen: set[str] = set()
    while len(seen) < most:
        response = stack.client("sqs").receive_message(
            QueueUrl=stack.output("DeadLetterQueueUrl"),
            MaxNumberOfMessages=BATCH,
            MessageAttributeNames=["All"],
            VisibilityTimeout=HIDDEN_SECONDS,
            WaitTimeSeconds=1,  # a short poll may miss messages
        )
        found = [message for message in response.get("Messages", []) if message["MessageId"] not in seen]
        if not found:
            return
        seen |= {message["MessageId"] for message in found}
        yield from found


def _make_visible(stack: Stack, messages: Iterable[dict[str, Any]]) -> None:
    for message in messages:
        stack.client("sqs").change_message_visibility(
            QueueUrl=stack.output("DeadLetterQueueUrl"), ReceiptHandle=message["ReceiptHandle"], VisibilityTimeout=0
        )


def _explained(stack: Stack, message: dict[str, Any]) -> DeadLetter:
    body = str(message["Body"])
    reason = message.get("MessageAttributes", {}).get("reason", {}).get("StringValue", "")
    what, helps = _what(stack, body)
    return DeadLetter(message["MessageId"], what, reason, helps, body[:SHOWN])


def _what(stack: Stack, body: str) -> tuple[str, bool]:
    """Return what a message is about, in words, and whether redriving it helps."""
    try:
        found = parse_message(body)
    except UnreadableMessage as exc:
        return f"A message that cannot be read: {exc}. It will fail again: discard it", False
    match found:
        case UploadMessage():
            return f"The upload {found.upload.key}", True
        case PoseMessage():
            return f"The poses of {found.character}" if not found.pose else f"{found.character} / {found.pose}", True
        case SubmitMessage(job_id) | RetryMessage(job_id) | CancelMessage(job_id):
            verb = {SubmitMessage: "send", RetryMessage: "retry", CancelMessage: "cancel"}[type(found)]
            known = not JOB_ID.fullmatch(job_id) or stack.table.ledger.get(job_id) is not None
            if known:
                return f"A request to {verb} {job_id}", True
            return f"A request to {verb} {job_id}, which does not exist. It will fail again: discard it", False
