"""Delete messages about a character from the queues. Messages about others become visible again at once."""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ops.act.actions import EVENT_QUEUE
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
from posedrop.contract.job import JOB_ID, is_waiting_id, waiting_id
from posedrop.contract.upload_layout import UploadLayout, is_poses_folder, normal

QUEUES = ("UploadQueueUrl", "SubmitQueueUrl", "DeadLetterQueueUrl")
WAIT_SECONDS = 1
"""Seconds. A receive that waits asks all servers of a queue; one that does not may miss messages."""
LEAST_HIDDEN, MOST_HIDDEN = 30, 900
"""Seconds for which messages are hidden while a queue is searched."""
SEARCHED_A_SECOND = 200
"""Messages that are searched in a second, at least."""
MOST_GIVEN_BACK = 100_000
"""Other messages that are hidden at a time, before they are made visible again."""
_IDS = re.compile(JOB_ID.pattern)


@dataclass(frozen=True)
class About:
    """Decides whether a message is about a character; `is_job` decides it for a job id."""

    character: str
    layout: UploadLayout
    is_job: Callable[[str], bool]

    def __call__(self, body: str) -> bool:
        """Return whether a message is about this character."""
        try:
            message = parse_message(body)
        except UnreadableMessage:
            return self._mentions(body)
        match message:
            case UploadMessage():
                return folder_of(message.upload.key, self.layout) == self.character
            case PoseMessage():
                return message.character == self.character
            case SubmitMessage() | RetryMessage() | CancelMessage():
                return self._is_id(message.job_id)
        return False

    def _is_id(self, job_id: str) -> bool:
        if is_waiting_id(job_id):
            folder, slash, _ = job_id.rpartition("/")
            return folder + slash == waiting_id(self.character, "")
        return self.is_job(job_id)

    def _mentions(self, body: str) -> bool:
        """Return whether a foreign message, such as an undelivered event, names a job of the character."""
        return any(self.is_job(found) for found in _IDS.findall(body)) or _character_in(body) == self.character


@dataclass
class Purged:
    """Numbers of deleted messages, and of messages that were hidden because they are delayed or in flight."""

    removed: int = 0
    unseen: int = 0


def purge(stack: Stack, about: Callable[[str], bool]) -> Purged:
    """Delete all messages about a character from all queues of a stack. Errors of SQS pass as botocore's ClientError.

    A delayed or in-flight message cannot be received: these are counted, whatever they are about.
    """
    urls = [stack.output(name) for name in QUEUES]
    events = stack.resource(EVENT_QUEUE)
    found = Purged()
    for url in [*urls, *([events] if events else [])]:
        found.removed += _purge(stack.client("sqs"), url, about)
        found.unseen += sum(_counts(stack.client("sqs"), url)[1:])
    return found


def _purge(sqs: Any, url: str, about: Callable[[str], bool]) -> int:
    count = sum(_counts(sqs, url))
    hidden = min(LEAST_HIDDEN + count // SEARCHED_A_SECOND, MOST_HIDDEN)
    seen: set[str] = set()
    removed, others = 0, list[str]()
    while True:
        response = sqs.receive_message(
            QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=hidden, WaitTimeSeconds=WAIT_SECONDS
        )
        messages = response.get("Messages", [])
        new = [message for message in messages if message["MessageId"] not in seen]
        if not new or len(seen) > 2 * count + MOST_GIVEN_BACK:
            break
        seen |= {message["MessageId"] for message in new}
        for message in messages:
            if about(message["Body"]):
                sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
                removed += 1
            elif len(others) < MOST_GIVEN_BACK:
                others.append(message["ReceiptHandle"])
    for start in range(0, len(others), 10):
        entries = [
            {"Id": str(number), "ReceiptHandle": handle, "VisibilityTimeout": 0}
            for number, handle in enumerate(others[start : start + 10])
        ]
        sqs.change_message_visibility_batch(QueueUrl=url, Entries=entries)
    return removed


def _counts(sqs: Any, url: str) -> list[int]:
    """Return about how many messages of a queue are visible, in flight, and delayed."""
    names = [f"ApproximateNumberOfMessages{kind}" for kind in ("", "NotVisible", "Delayed")]
    attributes = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=names)["Attributes"]
    return [int(attributes.get(name, 0)) for name in names]


def _character_in(body: str) -> str | None:
    """Return the character in an undelivered event about one of the stack's executions, else None."""
    try:
        event = json.loads(body)
        given = json.loads(event["detail"]["input"])
        return str(given["character"])
    except (ValueError, KeyError, TypeError):
        return None


def folder_of(key: str, layout: UploadLayout) -> str:
    """Return the character in whose folder a key is, within the contract or not; empty if there is none. Pure."""
    if not layout.covers(key):
        return ""
    *folders, _ = normal(layout.below(key)).split("/")
    poses = next((number for number, folder in enumerate(folders) if is_poses_folder(folder)), len(folders))
    return "/".join(folder for folder in folders[:poses] if folder not in ("", "."))
